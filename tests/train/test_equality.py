"""Every ZeRO stage on one to four workers trains what a plain PyTorch loop trains, and planted bugs are seen.

Judged by the movement d = |w - w'| / |w - w0| over all trained tensors after 40 steps: a tolerance on losses alone
would not see lost moments. The losses compared are those of all steps and, at the end, of each source's held-out rows.
"""

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import bitsandbytes
import cloudpickle
import deepspeed
import numpy as np
import pytest
import ray.train
import torch
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from safetensors.torch import load_file, save_file

from medtrain import runtime
from medtrain.artifacts import locate
from medtrain.storage import Store
from medtrain.tokens.shards import Sample, Samples
from medtrain.train import adapters, order, validation
from medtrain.train import loss as losses_of
from medtrain.train.deepspeed_config import EngineConfig
from medtrain.train.engine import Engine, join_group
from medtrain.train.footprint import base_bytes, shape_of
from medtrain.train.loss import LossModule
from medtrain.train.model import ModelConfig, load_base
from medtrain.train.optimizer import OptimizerConfig, learning_rate
from medtrain.train.order import BatchConfig, MicroBatch, Plan
from medtrain.train.stage import StageConfig
from medtrain.train.state import partition, set_weights, trainable

cloudpickle.register_pickle_by_value(sys.modules[__name__])

STEPS, HALF, EARLY, PAD = 40, 20, 4, 3
BATCH = BatchConfig(size=6, layout="padded", micro_samples=2)
OPTIMIZER = OptimizerConfig(learning_rate=2e-4, weight_decay=1e-2, warmup_fraction=0, schedule="constant", lora_plus=2)
LORA = {"kind": "lora", "rank": 8, "dropout": 0.05}
ADALORA = {"kind": "adalora", "init_rank": 6, "target_rank": 2, "tinit": 4, "tfinal": 14, "delta_t": 3}
"""The state in the middle, step 20 of a budget phase from 5 to 26, has a pattern that is not yet frozen."""
BOUNDS = {"fp32": (1e-4, 1e-6), "nf4": (3e-2, 1e-4)}
"""Largest movement and largest relative difference of a loss, by the base's precision."""

LONG = ((1, "rest"), (2, "rest"), (3, "all"), (4, "all"))
CASES = [(1, "some"), (2, "some"), *(pytest.param(*case, marks=pytest.mark.long) for case in LONG)]

Weights = dict[str, torch.Tensor]


def _open(
    root: str, precision: str, adapter: dict[str, Any], storage: str = "uint8", layout: str | None = None
) -> tuple[Any, Samples, Plan]:
    store = Store(root)
    samples = Samples.open(locate(store, "tokens", "tiny"))
    rows = samples.select("train")
    plan = Plan(rows, samples.lengths[rows], BATCH, seed=7, epochs=10)
    config = ModelConfig.model_validate({"precision": precision, "quant_storage": storage})
    base = load_base(str(store.local("bases/tiny")), config, torch.device("cpu"), layout)
    return adapters.attach(base, adapter, seed=0), samples, plan


def _engine_run(
    root: str,
    precision: str,
    engine_config: dict[str, Any],
    *,
    adapter: dict[str, Any],
    storage: str = "uint8",
    mutate: str = "",
    from_half: Sequence[str] = (),
    begun: str = "",
) -> Iterator[tuple[str, Weights, list[float]]]:
    """40 steps of our engine; `mutate` plants a bug. Each of `from_half` then goes on from the state in the middle.

    But `half` is that state itself: a run of another group that is `begun` there makes the steps behind it.
    """
    given = (root, precision, engine_config, adapter, storage)
    half: Weights | None = load_file(f"{begun}.safetensors") if begun else None
    losses = json.loads(Path(f"{begun}.json").read_text()) if begun else []
    engine, samples, plan = _started(*given, half)
    running = torch.Generator().manual_seed(1)
    for step in range(len(losses), STEPS):
        if step == HALF and from_half:
            half = engine.state()
        micro_batches = plan.at(step)
        if mutate == "row repeated" and step == EARLY:
            first = micro_batches[0]
            micro_batches[0] = replace(first, rows=(first.rows[0],) * len(first.rows))
        if mutate == "dropout from the running RNG":
            drawn = torch.randint(2**31, (len(micro_batches),), generator=running).tolist()
            micro_batches = [replace(micro, seed=seed) for micro, seed in zip(micro_batches, drawn, strict=True)]
        with _wrong_together(engine, samples, micro_batches, mutate):
            losses.append(_step(engine, micro_batches, step))
    if engine_config["zero_stage"] == 3:
        _check_shares(root, engine.deepspeed.module, {"precision": precision, "quant_storage": storage})
    yield "", engine.weights(), [*losses, *_held_out(engine, samples)]
    for how in from_half:
        assert half is not None
        if how == "half":
            yield "-half", half, losses[:HALF]
            continue
        engine, samples, plan = _started(*given, half, moments=how == "resumed")
        later = [_step(engine, plan.at(step), step) for step in range(HALF, STEPS)]
        yield f"-{how}", engine.weights(), [*losses[:HALF], *later, *_held_out(engine, samples)]


@contextlib.contextmanager
def _wrong_together(engine: Engine, samples: Samples, micro_batches: list[MicroBatch], mutate: str) -> Iterator[None]:
    """What only several ranks can do wrong, in one step."""
    share, backward, ranks = order.share, engine.deepspeed.backward, runtime.world_size()
    if mutate == "an idle rank trains the first micro-batch":
        order.share = lambda micros, *of: [micro or micros[0] for micro in share(micros, *of)]
    if mutate == "a mean over ranks of means":
        rows = [[row for m in share(micro_batches, rank, ranks) if m for row in m.rows] for rank in range(ranks)]
        tokens = [float(samples.trained_tokens[of_rank].sum()) for of_rank in rows]
        weight = sum(tokens) / (ranks * tokens[runtime.rank()])
        engine.deepspeed.backward = lambda loss, **how: backward(loss * weight, **how)
    try:
        yield
    finally:
        order.share, engine.deepspeed.backward = share, backward


def _check_shares(root: str, module: torch.nn.Module, model: dict[str, str]) -> None:
    """A rank of ZeRO-3 holds its share of the base and no more, as the estimator has it: equality would not tell."""
    ranks, base = runtime.world_size(), [p for p in module.parameters() if not p.requires_grad]
    packed = [p for p in base if isinstance(p, bitsandbytes.nn.Params4bit)]
    assert bool(packed) == (model["precision"] == "nf4")
    assert {p.dtype for p in packed} <= {getattr(torch, model["quant_storage"])}
    # Of a weight that is not sharded there is the whole, and of a sharded one that is still gathered both.
    shares = {p: getattr(p, "ds_tensor", None) for p in base}
    held = sum(p.nbytes + (0 if share is None else share.nbytes) for p, share in shares.items())
    wholes = sum(getattr(p, "ds_numel", p.numel()) * p.element_size() for p in base)
    stage = StageConfig.model_validate({"name": "x", "tokens": "x", "stage": 1, "model": model})
    shape = shape_of(str(Store(root).local("bases/tiny")), stage)
    elsewhere, padding = base_bytes(shape, stage, 1) - base_bytes(shape, stage, ranks), 4 * ranks * len(base)
    assert 0 <= held - (wholes - elsewhere) <= padding, f"{held} bytes of {wholes} on one of {ranks} rank(s)"


def _started(
    root: str,
    precision: str,
    engine_config: dict[str, Any],
    adapter: dict[str, Any],
    storage: str,
    half: Weights | None,
    *,
    moments: bool = True,
) -> tuple[Engine, Samples, Plan]:
    """A fresh engine, at the beginning or with the state in the middle."""
    model, samples, plan = _open(root, precision, adapter, storage, BATCH.layout)
    if half is not None:
        set_weights(LossModule(model), half)
    engine = _engine(model, samples, engine_config, adapter)
    if half is not None and moments:
        engine.go_on(half, HALF)
    return engine, samples, plan


def _held_out(engine: Engine, samples: Samples) -> list[float]:
    """The validation losses by source, as a run logs them."""
    rows = samples.select("validation")
    micro_batches = validation.micro_batches(samples, rows, BATCH)
    per_source = validation.per_source([s for s, _ in micro_batches], engine.losses([m for _, m in micro_batches]))
    return [per_source[source] for source in ("notes", "questions")]


def _step(engine: Engine, micro_batches: list[MicroBatch], step: int) -> float:
    return engine.step(micro_batches, learning_rate(OPTIMIZER, step, STEPS), done=step)["loss"]


def _engine(model: Any, samples: Samples, config: dict[str, Any], adapter: dict[str, Any]) -> Engine:
    engine, rule = EngineConfig.model_validate(config), adapters.rule(adapter, model, STEPS)
    return Engine(model, samples, batch=BATCH, optimizer=OPTIMIZER, engine=engine, pad_id=PAD, rule=rule)


def _work(task: dict[str, Any]) -> None:
    """The worker."""
    runtime.set_threads(1)
    join_group()
    _run_all(task)
    ray.train.report({})


def _run_all(task: dict[str, Any]) -> None:
    """Every run that the task lists, saved by rank 0."""
    write_masters, chunk_tokens = deepspeed.utils.safe_set_full_fp32_param, losses_of.CHUNK_TOKENS
    for name, run in task["runs"].items():
        losses_of.CHUNK_TOKENS = run.pop("chunk_tokens", chunk_tokens)
        if run.get("mutate") == "masters unmasked":
            deepspeed.utils.safe_set_full_fp32_param = lambda parameter, value: None
        for end, weights, losses in _engine_run(task["root"], **run):
            if runtime.rank() == 0:
                save_file(weights, f"{task['out']}/{name}{end}.safetensors")
                Path(f"{task['out']}/{name}{end}.json").write_text(json.dumps(losses))
        deepspeed.utils.safe_set_full_fp32_param = write_masters


def _reference(root: str, precision: str, adapter: dict[str, Any]) -> tuple[Weights, Weights, list[float]]:
    """The same training in plain PyTorch: no DeepSpeed, no collate, no head on selected tokens, no loss module.

    AdaLoRA's ranks are allocated by PEFT itself, where its examples call it.
    """
    model, samples, plan = _open(root, precision, adapter)
    model.train()
    if adapter is ADALORA:
        told = model.peft_config["default"]
        told.total_step, told.tinit, told.tfinal, told.deltaT = STEPS, 4, 14, 3
    parameters = trainable(LossModule(model))
    start = {name: p.detach().clone() for name, p in parameters.items()}
    fast = [p for name, p in parameters.items() if "lora_B" in name]
    slow = [p for name, p in parameters.items() if "lora_B" not in name]
    adamw = torch.optim.AdamW([{"params": slow}, {"params": fast}], lr=2e-4, weight_decay=1e-2)
    losses = []
    for step in range(STEPS):
        micro_batches = plan.at(step)
        trained = sum(end - first for m in micro_batches for row in m.rows for first, end in samples[row].trained)
        total = 0.0
        for micro in micro_batches:
            chosen = [samples[row] for row in micro.rows]
            torch.manual_seed(micro.seed)
            loss = _naive_loss(model, chosen)
            (loss / trained).backward()
            total += float(loss.detach())
        if adapter is ADALORA:
            (0.5 * _not_orthogonal(parameters)).backward()
        torch.nn.utils.clip_grad_norm_(list(parameters.values()), 0.3)
        rate = learning_rate(OPTIMIZER, step, STEPS)
        adamw.param_groups[0]["lr"], adamw.param_groups[1]["lr"] = rate, 2 * rate
        adamw.step()
        if adapter is ADALORA:
            model.base_model.update_and_allocate(step + 1)
        adamw.zero_grad()
        losses.append(total / trained)
    model.eval()
    for source in ("notes", "questions"):
        chosen = [samples[row] for row in samples.select("validation") if samples[row].source == source]
        with torch.no_grad():
            sums = [float(_naive_loss(model, [sample])) for sample in chosen]
        losses.append(sum(sums) / sum(end - first for sample in chosen for first, end in sample.trained))
    return start, {name: p.detach().clone() for name, p in parameters.items()}, losses


def _not_orthogonal(parameters: dict[str, torch.nn.Parameter]) -> torch.Tensor:
    """The mean of ||P P^T - I||_F over every A and B."""
    rows = [p if "lora_A" in name else p.T for name, p in parameters.items() if "lora_E" not in name]
    apart = [torch.einsum("ik,jk->ij", p, p) - torch.eye(len(p)) for p in rows]
    return sum(((a**2).sum() ** 0.5 for a in apart), torch.zeros(())) / len(apart)


def _naive_loss(model: Any, chosen: list[Sample]) -> torch.Tensor:
    """The summed cross-entropy of the trained tokens of padded rows."""
    width = max(len(sample.input_ids) for sample in chosen)
    ids, labels = torch.full((len(chosen), width), PAD), torch.full((len(chosen), width), -100)
    for row, sample in enumerate(chosen):
        ids[row, : len(sample.input_ids)] = torch.tensor(sample.input_ids.copy()).long()
        for first, end in sample.trained:
            labels[row, first:end] = ids[row, first:end]
    mask = torch.tensor([[t < len(s.input_ids) for t in range(width)] for s in chosen])
    logits = model(input_ids=ids, attention_mask=mask).logits.float()
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1), reduction="sum"
    )


def _movement(start: Weights, wanted: Weights, found: Weights) -> float:
    """d = |w - w'| / |w - w0| over all tensors together."""
    apart = sum(float((wanted[name] - found[name]).square().sum()) for name in wanted)
    moved = sum(float((wanted[name] - start[name]).square().sum()) for name in wanted)
    return float((apart / moved) ** 0.5)


def _train(store: Store, out: Path, workers: int, runs: dict[str, dict[str, Any]]) -> None:
    out.mkdir(exist_ok=True)
    task = {"root": store.root, "out": str(out), "runs": runs}
    if workers == 1:
        _run_all(task)
        return
    trainer: Any = TorchTrainer(
        _work,
        train_loop_config=task,
        scaling_config=ScalingConfig(num_workers=workers),
        torch_config=TorchConfig(backend="gloo"),
        run_config=RunConfig(storage_path=str(out / "ray")),
    )
    trainer.fit()


def _runs(workers: int, part: str) -> dict[str, dict[str, Any]]:
    """What is run at a number of workers: every stage; all that may not change anything; and planted bugs.

    Of one and two workers `part` is `some`, or the `rest`, which takes minutes.
    """
    runs: dict[str, dict[str, Any]] = {}

    def add(name: str, stage: int, *, engine: dict[str, Any] | None = None, **more: Any) -> None:
        config = {"zero_stage": stage, **(engine or {})}
        adapter = ADALORA if "adalora" in name else LORA
        runs[name] = {"precision": name.partition("-")[0], "engine_config": config, "adapter": adapter, **more}

    of_part = {(1, "some"): (1,), (1, "rest"): (0, 2, 3), (2, "some"): (1, 3), (2, "rest"): (0, 2)}
    for stage in of_part.get((workers, part), range(4)):
        add(f"fp32-{stage}", stage)
    if (workers, part) == (1, "some"):
        add("nf4-0", 0, from_half=("resumed",))
        runs["fp32-1"]["from_half"] = ("resumed", "bug: moments dropped")
        add("fp32-bug: dropout from the running RNG", 1, mutate="dropout from the running RNG")
        for precision in BOUNDS:
            add(f"{precision}-bug: row repeated", 1, mutate="row repeated")
        add("fp32-adalora-1", 1, from_half=("resumed",))
        add("fp32-adalora-bug: masters unmasked", 1, mutate="masters unmasked")
    if (workers, part) == (1, "rest"):
        add("fp32-adalora-0", 0)
    if (workers, part) == (2, "some"):
        runs["fp32-3"]["chunk_tokens"] = 16  # ranks train more tokens than that, and not equally many
        for bug in ("an idle rank trains the first micro-batch", "a mean over ranks of means"):
            add(f"fp32-bug: {bug}", 1, mutate=bug)
    if (workers, part) == (2, "rest"):
        add("nf4-3-bfloat16", 3, engine={"gradient_checkpointing": "selective"}, storage="bfloat16")
    if workers == 3:
        runs["fp32-3"]["from_half"] = ("half",)
        add("fp32-2-offloaded", 2, engine={"offload_optimizer": True}, from_half=("resumed",))
        add("fp32-adalora-2", 2)
        for stage in (1, 2, 3):
            add(f"nf4-{stage}", stage, from_half=("resumed",))
        add("fp32-adalora-0", 0)
        add("nf4-adalora-1", 1)
    if workers == 4:
        add("fp32-3-offloaded", 3, engine={"offload_optimizer": True})
    return runs


def _stems(runs: dict[str, dict[str, Any]]) -> set[str]:
    """The names of the files that runs leave, one for each of their ends."""
    return {name + end for name, run in runs.items() for end in ("", *(f"-{how}" for how in run.get("from_half", ())))}


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("workers", "part"), CASES)
def test_every_zero_stage_is_the_plain_loop_and_planted_bugs_are_seen(
    made: Store, tmp_path: Path, workers: int, part: str, request: pytest.FixtureRequest
) -> None:
    """One worker is this process, several are a Ray Train group; what three have begun, two bring to its end."""
    request.getfixturevalue("group_of_one" if workers == 1 else "ray_cluster")
    runs = _runs(workers, part)
    _train(made, tmp_path / "out", workers, runs)
    if workers == 3:
        by_two = {"fp32-3-by two": {**runs["fp32-3"], "from_half": (), "begun": str(tmp_path / "out" / "fp32-3-half")}}
        _train(made, tmp_path / "out", 2, by_two)
        runs |= by_two
    left = sorted((tmp_path / "out").glob("*.safetensors"))
    assert {path.stem for path in left} == _stems(runs), "a run left nothing, or one more"
    references: dict[tuple[str, bool], tuple[Weights, Weights, list[float]]] = {}
    for path in left:
        name, precision, adalora = path.stem, path.stem.partition("-")[0], "adalora" in path.stem
        if name.endswith("-half"):
            continue
        if (precision, adalora) not in references:
            references[precision, adalora] = _reference(made.root, precision, ADALORA if adalora else LORA)
        start, wanted, losses = references[precision, adalora]
        d = _movement(start, wanted, load_file(path))
        print(f"{workers} worker(s) {name}: d = {d:.2e}")
        if (
            adalora and precision == "nf4"
        ):  # near ties fall otherwise when a 4-bit base rounds otherwise: said, not judged
            assert np.isfinite(d), f"{name}: d = {d}"
            print(f"{workers} worker(s) {name}: {_overlap(wanted, load_file(path)):.0%} of the triplets are the same")
            continue
        largest, relative = BOUNDS[precision]
        if "bug" in name:
            assert d > largest, f"{name}: a planted bug moves the weights by {d:.2e} only"
            continue
        assert d <= largest, f"{name}: d = {d:.2e}"
        if adalora:
            _check_ranks(wanted, load_file(path))
        ours = json.loads(path.with_suffix(".json").read_text())
        np.testing.assert_allclose(ours, losses, rtol=relative, equal_nan=False, err_msg=f"{name}: a loss differs")
    for resumed in [path for path in left if path.stem.endswith("-resumed")]:
        plain, again = load_file(str(resumed).replace("-resumed", "")), load_file(resumed)
        assert plain.keys() == again.keys(), f"{resumed.stem}: other tensors"
        assert all(torch.equal(plain[name], again[name]) for name in plain), f"{resumed.stem}: a resume is not exact"


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_zero_3_shares_a_tensor_out_with_zeros_behind_it(ranks: int) -> None:
    value = torch.arange(1.0, 13.0).reshape(3, 4)
    size = -(-value.numel() // ranks)
    parts = [partition(value, rank, size) for rank in range(ranks)]
    assert all(part.shape == (size,) for part in parts)
    assert torch.cat(parts).tolist() == [*range(1, 13), *[0] * (ranks * size - 12)]


def _overlap(wanted: Weights, found: Weights) -> float:
    """The share of the kept triplets that both kept."""
    kept = [(wanted[name] != 0, found[name] != 0) for name in wanted if "lora_E" in name]
    return sum(float((a & b).sum()) for a, b in kept) / sum(float(a.sum()) for a, _ in kept)


def _check_ranks(wanted: Weights, found: Weights) -> None:
    """The same triplets are left as PEFT leaves, two a matrix on average, and not two in every matrix."""
    patterns = {name: found[name] != 0 for name in found if "lora_E" in name}
    assert all(torch.equal(pattern, wanted[name] != 0) for name, pattern in patterns.items())
    ranks = [int(pattern.sum()) for pattern in patterns.values()]
    assert sum(ranks) == 2 * len(ranks) and len(set(ranks)) > 1
