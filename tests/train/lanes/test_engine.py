"""Lanes against a plain loop over PEFT, and lanes that come and go against each alone; planted bugs are seen.

Judged by the movement d = |w - w'| / |w - w0| over all trained tensors, as in `tests/train/test_equality.py`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from medtrain.errors import ConfigError
from medtrain.train import checkpoint
from medtrain.train.checkpoint import Progress
from medtrain.train.lanes.engine import LaneEngine, passes
from medtrain.train.lanes.lane import Lane

BOUNDS = {"fp32": (1e-4, 1e-6), "nf4": (3e-2, 1e-3)}
"""Largest movement and largest relative difference of a loss."""


@pytest.fixture(scope="module")
def plain(world: Callable[[str], Any]) -> dict[str, Any]:
    """Every expert in fp32, trained in the plain loop: weights before and after, losses."""
    made = world("fp32")
    return {name: made.plain(expert) for name, expert in made.experts.items()}


def check(made: Any, what: str, reference: Any, found: Any, bounds: tuple[float, float]) -> None:
    """A lane is the plain loop, its losses and pruned triplets too."""
    (start, wanted, losses), (weights, own) = reference, found
    d = made.movement(start, wanted, weights)
    print(f"{what}: d = {d:.1e}")
    assert d <= bounds[0], what
    np.testing.assert_allclose(own, losses, rtol=bounds[1], equal_nan=False, err_msg=f"{what}: a loss differs")
    pruned = {name: tensor == 0 for name, tensor in wanted.items() if "lora_E" in name}
    assert all(torch.equal(weights[name] == 0, zero) for name, zero in pruned.items())
    assert any(bool(zero.any()) for zero in pruned.values())


def test_one_lane_is_the_plain_loop(world: Callable[[str], Any], plain: dict[str, Any]) -> None:
    made = world("fp32")
    found = made.together({"a": made.experts["a"]})
    check(made, "a alone", plain["a"], found["a"], BOUNDS["fp32"])


def test_three_lanes_of_different_lengths_are_three_plain_loops(
    world: Callable[[str], Any], plain: dict[str, Any]
) -> None:
    made = world("fp32")
    for limit in (2048, 150):
        for name, found in made.together(made.experts, pass_tokens=limit).items():
            check(made, f"{name} of three, passes of {limit} tokens", plain[name], found, BOUNDS["fp32"])


def test_lanes_over_a_4_bit_base(world: Callable[[str], Any]) -> None:
    made = world("nf4")
    for name, found in made.together({name: made.experts[name] for name in "ab"}).items():
        check(made, f"{name} of two over NF4", made.plain(made.experts[name]), found, BOUNDS["nf4"])


def test_recomputed_layers_draw_the_same_dropout(world: Callable[[str], Any]) -> None:
    made = world("fp32")
    two = {"b": made.experts["b"], "c": replace(made.experts["c"], steps=9)}
    plain, recomputed = made.together(two), made.together(two, recomputed="whole")
    for name, (weights, losses) in plain.items():
        assert losses == recomputed[name][1]
        assert all(torch.equal(recomputed[name][0][key], tensor) for key, tensor in weights.items())


def test_lanes_that_end_enter_or_go_on_are_each_alone(world: Callable[[str], Any], plain: dict[str, Any]) -> None:
    """`b` ends early, `c` enters late, and `a` leaves in its budget phase and comes back from its checkpoint."""
    made = world("fp32")
    engine, done = made.engine(), dict.fromkeys("abc", 0)
    losses: dict[str, list[float]] = {name: [] for name in "abc"}
    ended: dict[str, Lane] = {}
    for name in "ab":
        engine.add(name, made.lane(engine, made.experts[name]))
    for turn in range(5 + made.experts["c"].steps):
        if turn == 5:
            engine.add("c", made.lane(engine, made.experts["c"]))
        if turn == 9:
            left = engine.remove("a")
            files = checkpoint.joined(Progress(step=done["a"]), left.state())
            assert not left.rule.frozen and left.rule.pattern
        if turn == 11:
            kept = checkpoint.decode("x", files)
            engine.add("a", made.lane(engine, made.experts["a"], kept.state, kept.progress.updates))
        for name, metrics in made.step(engine, done, **{n: made.experts[n] for n in engine.lanes}).items():
            losses[name].append(metrics["loss"])
            done[name] += 1
            if done[name] == made.experts[name].steps:
                ended[name] = engine.remove(name)
    assert set(ended) == set("abc") and not engine.lanes
    for name, lane in ended.items():
        check(made, name, plain[name], (lane.weights(), losses[name]), BOUNDS["fp32"])


def test_a_lane_that_breaks_leaves_the_others_as_they_are(world: Callable[[str], Any]) -> None:
    made = world("fp32")
    found = {}
    for broken in (False, True):
        engine = made.engine()
        for name, expert in made.experts.items():
            engine.add(name, made.lane(engine, expert))
        if broken:
            next(iter(engine.lanes["b"].parameters.values())).data[0, 0] = float("nan")
        for step in range(2):
            metrics = made.step(engine, dict.fromkeys("abc", step), **made.experts)
        assert (metrics["b"]["loss"] == metrics["b"]["loss"]) is not broken
        found[broken] = {name: engine.lanes[name].weights() for name in "ac"}
    for name, weights in found[False].items():
        assert all(torch.equal(found[True][name][key], tensor) for key, tensor in weights.items())


@pytest.mark.parametrize("bug", ["dropout from a shared generator", "clipped together", "moments lost"])
def test_a_planted_bug_is_seen(
    world: Callable[[str], Any], plain: dict[str, Any], bug: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = world("fp32")
    engine = made.engine()
    for name, expert in made.experts.items():
        engine.add(name, made.lane(engine, expert))
    own = Lane.gradient_norm

    def of_all(lane: Lane) -> torch.Tensor:
        own(lane)
        gradients = [p.grad for other in engine.lanes.values() for p in other.parameters.values() if p.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)

    if bug == "clipped together":
        monkeypatch.setattr(Lane, "gradient_norm", of_all)
    if bug == "dropout from a shared generator":
        for lane in engine.lanes.values():
            lane.generator = engine.lanes["a"].generator
    lanes, done = dict(engine.lanes), dict.fromkeys("abc", 0)
    while "a" in engine.lanes:
        made.step(engine, done, **{name: made.experts[name] for name in engine.lanes})
        for name in list(engine.lanes):
            done[name] += 1
            if done[name] == made.experts[name].steps:
                engine.remove(name)
        if bug == "moments lost" and done["a"] == 12:
            for held in lanes["a"]._optimizer.state.values():
                held["exp_avg"].zero_()
                held["exp_avg_sq"].zero_()
    start, wanted, _ = plain["a"]
    d = made.movement(start, wanted, lanes["a"].weights())
    print(f"{bug}: d = {d:.1e}")
    assert d > BOUNDS["fp32"][0]


def test_turns_are_cut_into_passes() -> None:
    tokens = {"a": [10, 10], "b": [5], "c": [10, 3, 40]}
    assert passes(tokens, 1000) == [[("a", 0), ("b", 0), ("c", 0)], [("a", 1), ("c", 1)], [("c", 2)]]
    assert passes(tokens, 15) == [[("a", 0), ("b", 0)], [("c", 0)], [("a", 1), ("c", 1)], [("c", 2)]]
    assert passes(tokens, 1) == [[(lane, 0)] for lane in "abc"] + [[("a", 1)], [("c", 1)], [("c", 2)]]
    assert passes({}, 10) == []


def test_a_base_with_dropout_of_its_own_and_a_name_twice_are_refused(world: Callable[[str], Any]) -> None:
    made = world("fp32")
    base = made.base()
    base.config.attention_dropout = 0.1
    with pytest.raises(ConfigError, match=r"model\.base: it has dropout of its own \(0\.1\)"):
        LaneEngine(base)
    engine = made.engine()
    engine.add("a", made.lane(engine, made.experts["a"]))
    with pytest.raises(ConfigError, match="lane a: there is one of this name"):
        engine.add("a", made.lane(engine, made.experts["b"]))
