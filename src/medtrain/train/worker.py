"""What a Ray Train worker does: join the group, open the model and the shards, restore, train, save the adapter."""

import time
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from transformers import AutoTokenizer

from medtrain import artifacts, reservation, runtime
from medtrain.errors import MedtrainError
from medtrain.storage import Store
from medtrain.tracking import Progress as Bar
from medtrain.tracking import Tracker
from medtrain.train import (
    adapter_files,
    adapters,
    attempts,
    ending,
    estimate,
    exhausted,
    inputs,
    show,
    tiers,
)
from medtrain.train.attempts import GivenUp
from medtrain.train.checkpoint import Checkpoint, Progress
from medtrain.train.engine import Engine, join_group, limit_collectives
from medtrain.train.footprint import shape_of
from medtrain.train.inputs import Inputs
from medtrain.train.loop import Run, train
from medtrain.train.loss import LossModule
from medtrain.train.model import compute_dtype, load_base
from medtrain.train.notice import Leaving, Notice
from medtrain.train.payload import FAILURE, LEFT, Payload, answer, answered
from medtrain.train.saver import Saver
from medtrain.train.state import room_for, set_weights, trainable


def work(job: Payload) -> None:
    """What a worker of `TorchTrainer` does."""
    work_on(ray.train.torch.get_device(), job)


def work_on(device: torch.device, job: Payload) -> None:
    """Train on a device, as one of the group.

    An error that the user can mend is left in the run's folder and ends the run at once: a retry would meet it too. One
    that was told to leave, or given up, ends without an error: that is no failure, of which a run has so many.
    """
    store = Store(job.root).sub(job.run)
    if answered(store, FAILURE, job.submission) is not None:
        return
    try:
        run, tokenizer = _open(job, store, device)
        train(run)
        weights = run.engine.weights()  # collective under ZeRO-3
        if run.tracker is not None:
            ending.write(run, run.engine.deepspeed.module.model, weights, tokenizer)
    except Leaving as word:
        print(word, flush=True)
        if runtime.rank() == 0:
            answer(store, LEFT, job.submission, str(word))
    except GivenUp as word:
        print(word, flush=True)
    except MedtrainError as error:
        answer(store, FAILURE, job.submission, str(error))
        raise
    except Exception as error:
        if exhausted.is_exhausted(error):
            answer(store, FAILURE, job.submission, exhausted.advice(job.train, device, error))
        raise


def _open(job: Payload, store: Store, device: torch.device) -> tuple[Run[Engine], Any]:
    """Everything the loop needs, restored from the last whole checkpoint if there is one."""
    config, root = job.train, Store(job.root)
    runtime.set_threads(job.cpus)
    if config.engine.deterministic:
        runtime.be_deterministic()
    join_group()
    if compute_dtype(config.model) is torch.bfloat16:
        runtime.multiply_in_tf32()
    leader = runtime.rank() == 0
    tokens = artifacts.locate(root, "tokens", config.tokens)
    tokenizer = AutoTokenizer.from_pretrained(tokens.store.local("tokenizer"))
    given = inputs.read(tokens, config)
    if leader:
        reservation.note(store)
        store.delete(LEFT)
    attempt = attempts.claim(store, job.submission) if leader else None
    found = tiers.last_state(store, job.submission, config, attempt)

    def open_engine(state: Checkpoint | None) -> Engine:
        return _engine(job, given, device, tokenizer.pad_token_id, state)

    progress = found.progress if found is not None else Progress(step=0)
    bar = Bar(config.name, given.steps, done=progress.step, unit="step", every_s=config.log.every_s)
    run = Run(
        config=config,
        store=store,
        name_of=given.samples.ids.__getitem__,
        open_engine=open_engine,
        engine=open_engine(found),
        kept=found,
        plan=given.plan,
        held_out=given.held_out,
        steps=given.steps,
        progress=progress,
        notice=Notice(getattr(ray.train, "get_preemption_info", None)),
        saver=Saver(store, attempt, config.checkpoint.keep) if attempt is not None else None,
        memory=tiers.memory_tier(job.submission, attempt, config.checkpoint),
        tracker=Tracker(store.local("log"), progress.step, config.log.trackers, job.run) if leader else None,
        bar=bar if leader else None,
        flops=_flops(job, device, given) if leader else None,
    )
    trained = trainable(run.engine.deepspeed.module)
    run.rooms = [found.state if found is not None else room_for(trained, config.optimizer.kind)]
    if leader:
        _announce(run, given, tokenizer, found)
    return run, tokenizer


def _flops(job: Payload, device: torch.device, given: Inputs) -> tuple[float, float] | None:
    """Operations a token and a second, for a GPU whose peak is known."""
    kind = estimate.device_class(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    if kind is None:
        return None
    shape, lengths = shape_of(job.base_path, job.train), given.samples.lengths[given.rows]
    trained = float(given.samples.trained_tokens[given.rows].sum() / lengths.sum())
    a_token = estimate.token_flops(shape, job.train, float(lengths.mean()), trained=trained, recomputing=False)
    return a_token, estimate.DEVICES[kind] * runtime.world_size()


def _engine(job: Payload, given: Inputs, device: torch.device, pad_id: int, found: Checkpoint | None) -> Engine:
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
        given.samples,
        batch=config.batch,
        optimizer=config.optimizer,
        engine=config.engine,
        pad_id=pad_id,
        rule=adapters.rule(config.adapter, model, given.steps),
    )
    limit_collectives(job.collective_timeout_s)
    if found is not None:
        engine.go_on(found.state, found.progress.updates)
    return engine


def _announce(run: Run[Engine], given: Inputs, tokenizer: Any, found: Checkpoint | None) -> None:
    """Say what is about to happen: size of the run, one sample of each source, what was restored."""
    config, report = run.config, runtime.report()
    trainable = sum(p.numel() for p in run.engine.deepspeed.module.parameters() if p.requires_grad)
    print(f"{run.store.root}: medtrain {report['medtrain'][0]}, plug-ins: {', '.join(report['plug-ins']) or 'none'}")
    print(
        f"{len(given.rows):,} rows, {run.steps:,} steps of {config.batch.size} {config.batch.unit}, "
        f"{trainable:,} trained parameters, {runtime.world_size()} worker(s), ZeRO-{config.engine.zero_stage}"
    )
    if found is None:
        if config.log.show_samples:
            print(show.one_of_each_source(given.samples, given.rows, tokenizer))
    else:
        ahead = (step for step in range(found.progress.step, run.steps) if step not in found.progress.skipped)
        following = next(ahead, None)
        what = "all steps are done"
        if following is not None:
            what = f"next sample {given.samples.ids[run.plan.at(following)[0].rows[0]]}"
        print(f"resumed at step {found.progress.step} from {found.path} ({show.restored(found)}); {what}")
    print(flush=True)
