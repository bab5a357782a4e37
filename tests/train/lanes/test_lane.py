"""A lane's state and adapter are a run's: it goes on from DeepSpeed's state, and PEFT opens what it saves."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import peft
import pytest
import torch

from medtrain.errors import ConfigError, TrainingError
from medtrain.storage import Store
from medtrain.train import adapter_files, adapters, checkpoint
from medtrain.train.checkpoint import Progress
from medtrain.train.deepspeed_config import EngineConfig
from medtrain.train.engine import Engine
from medtrain.train.lanes.lane import Lane
from medtrain.train.loss import LossModule
from medtrain.train.optimizer import OptimizerConfig, learning_rate
from medtrain.train.order import BatchConfig
from medtrain.train.state import room_for


@pytest.mark.usefixtures("group_of_one")
def test_a_lane_goes_on_from_a_run_under_deepspeed_and_that_run_from_a_lane(world: Callable[[str], Any]) -> None:
    made = world("fp32")
    expert, optimizer = made.experts["a"], made.optimizer
    plan, half = expert.plan(made.samples), 10

    def opened() -> Engine:
        model = adapters.attach(made.base(), expert.adapter(), expert.seed)
        rule = adapters.rule(expert.adapter(), model, expert.steps)
        zero = EngineConfig(zero_stage=0)
        return Engine(model, made.samples, batch=expert.batch(), optimizer=optimizer, engine=zero, pad_id=3, rule=rule)

    def trained(engine: Engine, steps: range) -> Engine:
        for step in steps:
            engine.step(plan.at(step), learning_rate(optimizer, step, expert.steps), done=step)
        return engine

    middle = trained(opened(), range(half)).state()
    lanes = made.engine()
    lane = made.lane(lanes, expert, middle, half)
    held = lane.state()
    assert held.keys() == middle.keys() and all(torch.equal(held[key], tensor) for key, tensor in middle.items())
    lanes.add("a", lane)
    for step in range(half, expert.steps):
        made.step(lanes, {"a": step}, a=expert)
    start, wanted, _ = made.plain(expert)
    d = made.movement(start, wanted, lane.weights())
    print(f"DeepSpeed, then a lane: d = {d:.1e}")
    assert d <= 1e-4

    lanes = made.engine()
    lanes.add("a", made.lane(lanes, expert))
    for step in range(half):
        made.step(lanes, {"a": step}, a=expert)
    removed = lanes.remove("a")
    room = room_for(removed.parameters, "adamw")
    state = removed.state(room)
    assert all(state[key] is tensor for key, tensor in room.items())
    engine = opened()
    for name, parameter in LossModule(engine.deepspeed.module.model).named_parameters():
        if parameter.requires_grad:
            parameter.data.copy_(state[f"weight/{name}"])
    engine.go_on(state, half)
    d = made.movement(start, wanted, trained(engine, range(half, expert.steps)).weights())
    print(f"a lane, then DeepSpeed: d = {d:.1e}")
    assert d <= 1e-4


def test_the_saved_adapter_opens_in_plain_peft_with_the_lane_s_own_loss(
    world: Callable[[str], Any], store: Store
) -> None:
    made = world("fp32")
    expert, engine = made.experts["b"], made.engine()
    lane = made.lane(engine, expert)
    engine.add("b", lane)
    for step in range(expert.steps):
        made.step(engine, {"b": step}, b=expert)
    micro_batches = expert.plan(made.samples).at(0)
    wanted = lane.losses(micro_batches)
    assert wanted == lane.losses([replace(micro, seed=1) for micro in micro_batches]), "no dropout"
    lane.rule.finish()
    adapter_files.write(store, "adapter", lane.model, lane.weights())
    model: Any = peft.PeftModel.from_pretrained(made.base(), str(store.local("adapter")))
    ranks = {len(parameter) for name, parameter in model.named_parameters() if "lora_E" in name}
    assert len(ranks) > 1, "pruned on saving"
    with torch.no_grad():
        found = [float(LossModule(model.eval())(lane.collate(micro))) for micro in micro_batches]
    assert found == pytest.approx([loss for loss, _ in wanted], rel=1e-5)


def test_a_state_goes_through_a_checkpoint_whatever_the_optimizer(world: Callable[[str], Any]) -> None:
    made = world("nf4")
    expert = made.experts["a"]
    optimizer = OptimizerConfig(kind="adamw8bit", learning_rate=1e-2)

    def opened(engine: Any) -> Lane:
        model = engine.attach({"kind": "lora", "rank": 64}, 0)
        return Lane(model, made.samples, batch=expert.batch(), optimizer=optimizer, pad_id=3)

    whole = made.engine()
    whole.add("a", opened(whole))
    for step in range(4):
        if step == 2:
            files = checkpoint.joined(Progress(step=2), whole.lanes["a"].state())
        made.step(whole, {"a": step}, a=expert)
    kept = checkpoint.decode("x", files)
    again = made.engine()
    lane = opened(again)
    lane.go_on(kept.state, kept.progress.updates)
    again.add("a", lane)
    for step in (2, 3):
        made.step(again, {"a": step}, a=expert)
    wanted = whole.lanes["a"].state()
    assert {key.split("/")[0] for key in wanted} >= {"state1", "absmax1"}
    assert all(torch.equal(tensor, wanted[key]) for key, tensor in lane.state().items())


def test_what_a_lane_cannot_do_is_refused(world: Callable[[str], Any]) -> None:
    made = world("fp32")
    engine = made.engine()
    lane = made.lane(engine, made.experts["a"])
    with pytest.raises(ConfigError, match=r"batch\.layout=padded: lanes share packed rows"):
        Lane(lane.model, made.samples, batch=BatchConfig(layout="padded"), optimizer=made.optimizer, pad_id=3)
    engine.add("a", lane)
    before = lane.weights()
    lane.samples.trained_tokens = np.zeros_like(lane.samples.trained_tokens)
    with pytest.raises(TrainingError, match=r"lane a: a step without a trained token \(samples (notes|questions):"):
        made.step(engine, {"a": 0}, a=made.experts["a"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in lane.weights().items())
