"""What a Ray Train worker does: join the group, open the model and the shards, restore, train, save the adapter."""

import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from transformers import AutoTokenizer

from medtrain import artifacts, reservation, runtime
from medtrain.errors import MedtrainError
from medtrain.storage import Store
from medtrain.tokens.shards import Samples
from medtrain.tracking import Progress as Bar
from medtrain.tracking import Tracker
from medtrain.train import (
    adapter_files,
    adapters,
    checkpoint,
    estimate,
    exhausted,
    show,
    tiers,
    validation,
)
from medtrain.train.checkpoint import Checkpoint, Progress
from medtrain.train.engine import Engine, join_group, limit_collectives
from medtrain.train.footprint import shape_of
from medtrain.train.loop import Run, train
from medtrain.train.loss import LossModule
from medtrain.train.model import load_base
from medtrain.train.notice import Notice
from medtrain.train.order import Plan
from medtrain.train.payload import FAILURE, RESULT, Payload
from medtrain.train.saver import Saver
from medtrain.train.state import set_weights


def work(job: Payload) -> None:
    """What a worker of `TorchTrainer` does.

    An error that the user can mend is left in the run's folder and ends the run at once: a retry would meet it too.
    """
    store = Store(job.root).sub(job.run)
    if _failed(store, job.submission):
        return
    try:
        run, tokenizer = _open(job, store)
        progress = train(run)
        _finish(run, tokenizer, progress)
    except MedtrainError as error:
        _fail(store, job, str(error))
        raise
    except Exception as error:
        if exhausted.is_exhausted(error):
            _fail(store, job, exhausted.advice(job.train, ray.train.torch.get_device()))
        raise


def _fail(store: Store, job: Payload, message: str) -> None:
    store.write(FAILURE, json.dumps({"submission": job.submission, "error": message}).encode())


def _failed(store: Store, submission: str) -> bool:
    return store.exists(FAILURE) and json.loads(store.read(FAILURE))["submission"] == submission


def _open(job: Payload, store: Store) -> tuple[Run[Engine], Any]:
    """Everything the loop needs, restored from the last whole checkpoint if there is one."""
    config, root = job.train, Store(job.root)
    runtime.set_threads(job.cpus)
    join_group()
    device = ray.train.torch.get_device()
    leader = runtime.rank() == 0
    tokens = artifacts.locate(root, "tokens", config.tokens)
    tokenizer = AutoTokenizer.from_pretrained(tokens.store.local("tokenizer"))
    samples = Samples.open(tokens)
    rows = samples.select("train", config.categories)
    plan = Plan(rows, samples.lengths[rows], config.batch, seed=config.seed, epochs=config.epochs)
    steps = min(plan.steps, config.max_steps or plan.steps)
    if leader:
        reservation.note(store)
    attempt = checkpoint.claim_attempt(store) if leader else 0
    found = tiers.last_state(store, job.submission, config)

    def open_engine(state: Checkpoint | None) -> Engine:
        return _engine(job, samples, device, steps, tokenizer.pad_token_id, state)

    progress = found.progress if found is not None else Progress(step=0)
    held_out = validation.choose_rows(
        samples, samples.select("validation", config.categories), config.validation.max_rows
    )
    run = Run(
        config=config,
        store=store,
        name_of=samples.ids.__getitem__,
        open_engine=open_engine,
        engine=open_engine(found),
        kept=found,
        plan=plan,
        held_out=validation.micro_batches(samples, held_out, config.batch),
        steps=steps,
        progress=progress,
        notice=Notice(getattr(ray.train, "get_preemption_info", None)),
        saver=Saver(store, attempt, config.checkpoint.keep) if leader else None,
        memory=tiers.memory_tier(job.submission, attempt, config.checkpoint),
        tracker=Tracker(store.local("log"), progress.step, config.log.trackers, job.run) if leader else None,
        bar=Bar(config.name, steps, done=progress.step, unit="step", every_s=config.log.every_s) if leader else None,
        flops=_flops(job, device, float(samples.lengths[rows].mean())) if leader else None,
    )
    if leader:
        _announce(run, rows, samples, tokenizer, found)
    return run, tokenizer


def _flops(job: Payload, device: torch.device, length: float) -> tuple[float, float] | None:
    """Operations a token and a second, for a GPU whose peak is known."""
    kind = estimate.device_class(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    if kind is None:
        return None
    shape = shape_of(job.base_path, job.train)
    a_token = estimate.token_flops(shape, job.train, length, recomputing=False)
    return a_token, estimate.DEVICES[kind] * runtime.world_size()


def _engine(
    job: Payload, samples: Samples, device: torch.device, steps: int, pad_id: int, found: Checkpoint | None
) -> Engine:
    """The model with its adapter under DeepSpeed: fresh, or in the state of a checkpoint."""
    config, began = job.train, time.perf_counter()
    model = load_base(job.base_path, config.model, device, config.batch.layout)
    if runtime.rank() == 0:
        print(f"base loaded in {time.perf_counter() - began:.1f} s", flush=True)
    model = adapters.attach(model, config.adapter, config.seed)
    if job.adapter_path:
        adapter_files.read_into(model, Path(job.adapter_path))
    if found is not None:
        set_weights(LossModule(model), found.state)
    engine = Engine(
        model,
        samples,
        batch=config.batch,
        optimizer=config.optimizer,
        engine=config.engine,
        pad_id=pad_id,
        rule=adapters.rule(config.adapter, model, steps),
    )
    limit_collectives(job.collective_timeout_s)
    if found is not None:
        engine.go_on(found.state, found.progress.updates)
    return engine


def _announce(run: Run[Engine], rows: Any, samples: Samples, tokenizer: Any, found: Checkpoint | None) -> None:
    """Say what is about to happen: size of the run, one sample of each source, what was restored."""
    config, report = run.config, runtime.report()
    trainable = sum(p.numel() for p in run.engine.deepspeed.module.parameters() if p.requires_grad)
    print(f"{run.store.root}: medtrain {report['medtrain'][0]}, plug-ins: {', '.join(report['plug-ins']) or 'none'}")
    print(
        f"{len(rows):,} rows, {run.steps:,} steps of {config.batch.size} {config.batch.unit}, "
        f"{trainable:,} trained parameters, {runtime.world_size()} worker(s), ZeRO-{config.engine.zero_stage}"
    )
    if found is None:
        if config.log.show_samples:
            print(show.one_of_each_source(samples, rows, tokenizer))
    else:
        following = run.plan.at(found.progress.step)[0].rows[0] if found.progress.step < run.steps else None
        what = f"next sample {samples.ids[following]}" if following is not None else "all steps are done"
        print(f"resumed at step {found.progress.step} from {found.path} (weights, both moments, best loss); {what}")
    print(flush=True)


def _finish(run: Run[Engine], tokenizer: Any, progress: Progress) -> None:
    """Write the adapter that the run ends with, and its result; collective."""
    weights = run.engine.weights()
    if run.tracker is None:
        return
    if run.config.validation.keep == "best" and progress.best_step not in (0, progress.step):
        weights = _best_weights(run.store, progress.best_step)
    if run.engine.rule is not None:
        run.engine.rule.finish()
    adapter_files.write(run.store, "adapter", run.engine.deepspeed.module.model, weights)
    tokenizer.save_pretrained(run.store.local("adapter"))
    kept = progress.best_step if run.config.validation.keep == "best" and progress.best_step else progress.step
    numbers = {name: value for name, value in asdict(progress).items() if not isinstance(value, tuple)}
    finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
    skipped = {"skipped_ids": list(progress.skipped_ids)} if progress.skipped_ids else {}
    result = {**finite, **skipped, "kept_step": kept, "planned_steps": run.steps}
    run.store.write(RESULT, json.dumps(result).encode())
    run.tracker.close()


def _best_weights(store: Store, step: int) -> dict[str, torch.Tensor]:
    """The weights of the checkpoint of a step, which is whole because it was read back when it was written."""
    for name in store.folders(checkpoint.FOLDER):
        if name.startswith(f"step-{step:08d}-"):
            found = checkpoint.read(store, f"{checkpoint.FOLDER}/{name}")
            if isinstance(found, Checkpoint):
                return {k.removeprefix("weight/"): t for k, t in found.state.items() if k.startswith("weight/")}
    raise MedtrainError(f"the best step's checkpoint ({step}) is gone from {store.root}; train again with --again")
