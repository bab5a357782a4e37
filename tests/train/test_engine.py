"""The engine in one process: evaluation between steps disturbs nothing, and a step that teaches nothing is refused."""

import gc
import math
import resource
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import bitsandbytes
import numpy as np
import pytest
import torch
from deepspeed import comm
from deepspeed.accelerator import get_accelerator
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer

from medtrain.artifacts import locate
from medtrain.errors import TrainingError
from medtrain.storage import Store
from medtrain.tokens.shards import Samples
from medtrain.train import adapters, trouble, validation
from medtrain.train import engine as engine_module
from medtrain.train.batches import collate
from medtrain.train.deepspeed_config import EngineConfig
from medtrain.train.engine import Engine
from medtrain.train.loss import LossModule
from medtrain.train.model import ModelConfig, load_base
from medtrain.train.optimizer import OptimizerConfig
from medtrain.train.order import BatchConfig, MicroBatch, Plan
from medtrain.train.state import MOMENTS, State, room_for, set_weights, trainable

pytestmark = pytest.mark.usefixtures("group_of_one")

BATCH = BatchConfig(size=8, micro_tokens=128)


def opened(made: Store, precision: str, **settings: Any) -> tuple[Engine, Samples, Plan]:
    """An engine over the made artifacts, the same each time."""
    engine = EngineConfig.model_validate({"zero_stage": 1, **settings.get("engine", {})})
    optimizer = OptimizerConfig.model_validate(settings.get("optimizer", {}))
    batch = settings.get("batch", BATCH)
    samples = Samples.open(locate(made, "tokens", "tiny"))
    rows = samples.select("train")
    plan = Plan(rows, samples.lengths[rows], batch, seed=3, epochs=1)
    config = ModelConfig.model_validate({"precision": precision})
    base = load_base(str(made.local("bases/tiny")), config, torch.device("cpu"), batch.layout)
    adapter = {"kind": "lora", "rank": settings.get("rank", 4), "dropout": settings.get("dropout", 0.05)}
    model: Any = adapters.attach(base, adapter, seed=0)
    if "state" in settings:
        set_weights(LossModule(model), settings["state"])
    return Engine(model, samples, batch=batch, optimizer=optimizer, engine=engine, pad_id=3), samples, plan


def of_kind(state: State, kind: str) -> State:
    """A state's weights or moments, by the parameters' names."""
    found = {key.removeprefix(f"{kind}/"): tensor for key, tensor in state.items() if key.startswith(f"{kind}/")}
    assert found, f"the state has no {kind}"
    return found


def apart(found: State, wanted: State, start: State | None = None) -> float:
    """d = |w - w'| / |w - w0| over all tensors together, as in `test_equality.py`; without a start, from 0."""
    assert found.keys() == wanted.keys()
    off = sum(float((found[name] - tensor).square().sum()) for name, tensor in wanted.items())
    moved = sum(float((tensor - (start[name] if start else 0)).square().sum()) for name, tensor in wanted.items())
    return float((off / moved) ** 0.5)


@pytest.mark.parametrize("precision", ["nf4", "fp32"])
def test_train_evaluate_train_is_train_train(made: Store, precision: str) -> None:
    engine, samples, plan = opened(made, precision)
    held_out = validation.micro_batches(samples, samples.select("validation"), BATCH)
    first = engine.step(plan.at(0), 1e-2)["loss"]
    before = engine.losses([micro for _, micro in held_out])
    second = engine.step(plan.at(1), 1e-2)["loss"]
    after = engine.losses([micro for _, micro in held_out])
    calm, _, _ = opened(made, precision)
    assert [calm.step(plan.at(step), 1e-2)["loss"] for step in (0, 1)] == [first, second]
    assert all(torch.equal(calm.weights()[name], tensor) for name, tensor in engine.weights().items())
    assert before != after
    assert sum(tokens for _, tokens in after) == samples.trained_tokens[samples.select("validation")].sum()


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_gradient_that_is_no_number_is_seen_at_every_zero_stage(made: Store, stage: int) -> None:
    """Although the loss is one: DeepSpeed has words of its own for such a norm."""
    engine, _, plan = opened(made, "fp32", engine={"zero_stage": stage})
    calm = engine.step(plan.at(0), 1e-2)
    next(iter(engine._trained().values())).register_hook(lambda gradient: gradient * float("nan"))
    poisoned = engine.step(plan.at(1), 1e-2)
    config = trouble.TroubleConfig()
    assert trouble.found(config, calm, []) == "" and math.isfinite(poisoned["loss"])
    assert trouble.found(config, poisoned, []).startswith("the gradient norm is ")


def test_a_batch_laid_out_ahead_is_used_for_its_own_step_only(made: Store) -> None:
    calm, _, plan = opened(made, "fp32")
    expected = [calm.step(plan.at(step), 1e-2)["loss"] for step in (0, 1, 3)]
    engine, _, _ = opened(made, "fp32")
    found = [engine.step(plan.at(step), 1e-2, upcoming=plan.at(step + 1))["loss"] for step in (0, 1, 3)]
    assert found == expected


def test_the_next_batch_is_laid_out_before_the_step_that_waits(made: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _, plan = opened(made, "fp32")
    done: list[str] = []
    collate = engine_module.collate
    monkeypatch.setattr(engine_module, "collate", lambda *given: (done.append("laid out"), collate(*given))[1])
    with register_optimizer_step_pre_hook(lambda *given: done.append("step")):
        engine.step(plan.at(0), 1e-2, upcoming=plan.at(1))
    assert done == [*["laid out"] * len(plan.at(0)), "laid out", "step"]


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_deepspeed_waits_for_no_device(made: Store, stage: int, monkeypatch: pytest.MonkeyPatch) -> None:
    comm.configure(enabled=False)  # of the whole process: another test may have left it on
    engine, _, plan = opened(made, "fp32", engine={"zero_stage": stage})
    gc.collect()  # an engine of an earlier test waits as it is freed, which may be at any time
    waited: list[int] = []
    monkeypatch.setattr(get_accelerator(), "synchronize", lambda *given: waited.append(1))
    for step in range(4):  # its timer, which is off, would begin at the third
        engine.step(plan.at(step), 1e-2)
    assert waited == []


class Reads(TorchDispatchMode):
    """Counts what a host must wait for its device for: numbers of a tensor that Python or a shape depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # item(), bool(), float() and int() of a tensor all end in the first.
        self.count += func.overloadpacket in (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_a_step_of_more_micro_batches_waits_no_more_often(
    made: Store, layout: str, stage: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of ZeRO-0, where PyTorch's own AdamW reads a counter of each tensor, once a step."""
    monkeypatch.setattr(torch.nn.functional, "linear", torch.nn.functional.linear)  # ZeRO-3 replaces it
    batch = BATCH.model_copy(update={"layout": layout})
    engine, _, plan = opened(made, "nf4", batch=batch, engine={"zero_stage": stage})
    engine.step(plan.at(0), 1e-2)  # what is made once
    rows, found = [row for micro in plan.at(1) for row in micro.rows], {}
    for count in (2, 4):
        micros = [MicroBatch(tuple(rows[number::count]), number) for number in range(count)]
        with Reads() as reads:
            engine.step(micros, 1e-2)
        found[count] = reads.count
    engine.release()
    assert 0 < found[2] == found[4], f"{found} waits by micro-batches"


def test_a_held_out_loss_has_no_dropout_and_is_the_same_twice(made: Store) -> None:
    engine, samples, _ = opened(made, "fp32")
    micros = [micro for _, micro in validation.micro_batches(samples, samples.select("validation"), BATCH)]
    assert engine.losses(micros) == engine.losses([replace(micro, seed=9) for micro in micros])


def test_a_step_without_a_trained_token_is_refused_with_its_samples(made: Store) -> None:
    engine, samples, plan = opened(made, "fp32")
    samples.trained_tokens = np.zeros_like(samples.trained_tokens)
    with pytest.raises(TrainingError, match=r"a step without a trained token \(samples (notes|questions):train"):
        engine.step(plan.at(0), 1e-3)


@pytest.mark.parametrize("how", ["selective", "whole"])
def test_recomputed_layers_change_no_loss_and_no_weight(made: Store, how: str) -> None:
    engine, _, plan = opened(made, "nf4")
    other, _, _ = opened(made, "nf4", engine={"gradient_checkpointing": how})
    layers = [m.gradient_checkpointing for m in other.deepspeed.module.modules() if isinstance(m, Qwen2DecoderLayer)]
    assert layers == ([True, True] if how == "whole" else [True, False])
    assert [engine.step(plan.at(n), 1e-2)["loss"] for n in (0, 1)] == [
        other.step(plan.at(n), 1e-2)["loss"] for n in (0, 1)
    ]
    assert all(torch.equal(other.weights()[name], tensor) for name, tensor in engine.weights().items())


@pytest.mark.parametrize(("layout", "stage"), [("packed", 0), ("packed", 1), ("padded", 2)])
def test_one_micro_batch_of_8_samples_is_8_of_one(made: Store, layout: str, stage: int) -> None:
    """Without dropout, whose seeds are the micro-batches', and without clipping, which would hide a factor."""
    batch, found = BATCH.model_copy(update={"layout": layout}), {}
    for each in (8, 1):
        settings = {"batch": batch, "dropout": 0, "optimizer": {"clip": 0}, "engine": {"zero_stage": stage}}
        engine, _, plan = opened(made, "fp32", **settings)
        metrics = []
        for step in range(3):  # the second is the first whose A has a gradient: B begins at 0
            rows = [row for micro in plan.at(step) for row in micro.rows]
            micros = [MicroBatch(tuple(rows[first : first + each]), 0) for first in range(0, 8, each)]
            metrics.append(engine.step(micros, 1e-2))
        found[each] = ([[m["loss"], m["gradient_norm"]] for m in metrics], engine.state())
        engine.release()
    np.testing.assert_allclose(found[1][0], found[8][0], rtol=1e-5, equal_nan=False)
    for kind in ("weight", *MOMENTS):  # the moments are the gradients' means: AdamW's step hides a factor
        whole, single = (of_kind(state, kind) for _, state in found.values())
        d = apart(single, whole)
        assert d < 1e-5, f"{kind}: d = {d:.1e}"


def test_8_bit_moments_are_bitsandbytes_own_and_resume_exactly(made: Store) -> None:
    settings: dict[str, Any] = {"engine": {"zero_stage": 0}, "optimizer": {"kind": "adamw8bit", "clip": 0}, "rank": 64}
    engine, samples, plan = opened(made, "nf4", **settings)
    for step in range(6):
        if step == 3:
            middle = engine.state()
        engine.step(plan.at(step), 1e-2)
    kinds = {name.split("/")[0]: tensor.dtype for name, tensor in middle.items() if "q_proj.lora_A" in name}
    assert kinds["state1"] == kinds["state2"] == torch.uint8 and kinds["absmax1"] == torch.float32

    resumed, _, _ = opened(made, "nf4", **settings, state=middle)
    resumed.go_on(middle, 3)
    for step in range(3, 6):
        resumed.step(plan.at(step), 1e-2)
    assert all(torch.equal(resumed.state()[name], tensor) for name, tensor in engine.state().items())

    plain, _, _ = opened(made, "nf4", **settings)
    module = plain.deepspeed.module
    adamw = bitsandbytes.optim.AdamW8bit(trainable(module).values(), lr=1e-2, betas=(0.9, 0.999), weight_decay=0)
    for step in range(6):
        micros = plan.at(step)
        tokens = sum(int(samples.trained_tokens[row]) for micro in micros for row in micro.rows)
        for micro in micros:
            torch.manual_seed(micro.seed)
            (module(collate([samples[row] for row in micro.rows], BATCH, 3)) / tokens).backward()
        adamw.step()
        adamw.zero_grad()
    for name, tensor in engine.weights().items():
        torch.testing.assert_close(trainable(module)[name].detach(), tensor, rtol=1e-5, atol=1e-6)


def test_a_released_engine_leaves_no_model_behind(made: Store) -> None:
    """A run that goes back builds the next one while nothing of this one is left on the device."""
    samples = Samples.open(locate(made, "tokens", "tiny"))
    base = load_base(str(made.local("bases/tiny")), ModelConfig(precision="fp32"), torch.device("cpu"))
    adapter = {"kind": "adalora", "init_rank": 4, "target_rank": 2, "tinit": 2, "tfinal": 2, "delta_t": 1}
    model: Any = adapters.attach(base, adapter, seed=0)
    rule, alive = adapters.rule(adapter, model, 10), weakref.ref(model)
    engine = Engine(
        model, samples, batch=BATCH, optimizer=OptimizerConfig(), engine=EngineConfig(), pad_id=3, rule=rule
    )
    del model, base, rule
    engine.release()
    gc.collect()
    assert alive() is None


def test_the_first_state_s_memory_is_there_before_it() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    parameter = torch.nn.Parameter(torch.zeros(1 << 24))
    gc.collect()
    before = resident()
    room = room_for({"x": parameter}, "adamw")
    assert sum(tensor.nbytes for tensor in room.values()) == 3 * parameter.nbytes
    assert resident() - before >= 3 * parameter.nbytes * 0.9
    assert room_for({"x": parameter}, "adamw8bit").keys() == {"weight/x"}


@pytest.mark.parametrize(("source", "target"), [(0, 1), (1, 2), (2, 3), (3, 0)])
def test_a_state_of_one_zero_stage_goes_on_at_another(made: Store, source: int, target: int) -> None:
    """The last test of all: ZeRO-3 replaces the linear function of the process."""
    stays, _, plan = opened(made, "fp32", engine={"zero_stage": source})
    start, room = stays.weights(), room_for(trainable(stays.deepspeed.module), "adamw")
    for step in range(6):
        if step == 3:
            middle = stays.state(room)
            assert middle.keys() == room.keys() and all(tensor is room[key] for key, tensor in middle.items())
        stays.step(plan.at(step), 1e-2)
    wanted = stays.state()
    stays.release()
    goes, _, _ = opened(made, "fp32", engine={"zero_stage": target}, state=middle)
    goes.go_on(middle, 3)
    for step in range(3, 6):
        goes.step(plan.at(step), 1e-2)
    found = goes.state()
    goes.release()
    for kind, begin in (("weight", start), *((moment, None) for moment in MOMENTS)):
        d = apart(of_kind(found, kind), of_kind(wanted, kind), begin)
        assert d <= 1e-4, f"{kind}: d = {d:.1e}"
