"""Equation (6) against float64 finite differences and unmodified PEFT; groups of candidates follow from their order."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import peft
import pytest
import torch

from medtrain.experts.folder import write
from medtrain.experts.fuse import Granularity, Weights, combine
from medtrain.router.examples import Examples
from medtrain.router.gate import Gate, RouterConfig, norms_of, places_of
from medtrain.router.mixture import Mixture
from medtrain.router.objective import Objective, PassConfig, Problem, concentration, entropy
from medtrain.train.batches import collate
from medtrain.train.loss import LossModule

ROWS, GAMMA1, TAU = (0, 1, 2), 0.3, 0.8


def objective(
    world: Any, granularity: Granularity = "task", candidates: int = 4, base: Any = None, **given: Any
) -> Objective:
    """Over three rows, in more than one micro-batch."""
    samples, config = world.rows(*ROWS), PassConfig(micro_tokens=64, candidates_per_pass=candidates)
    evaluator = Examples(Mixture(base or world.base(), world.experts, granularity), samples, config)
    router = RouterConfig(granularity=granularity, tau=TAU, gamma1=GAMMA1, **given)
    modules = places_of(world.experts, granularity)
    return Objective(Gate(router, norms_of(world.experts, modules)), Problem(evaluator, samples, config))


def drawn(count: int, size: int) -> list[list[float]]:
    """Random points."""
    found: list[list[float]] = np.random.RandomState(0).randn(count, size).tolist()
    return found


def naive(world: Any, x: Sequence[float], granularity: Granularity) -> float:
    """L with logits alpha_i + b_i, in float64, every update in a whole matrix."""
    places = list(dict.fromkeys(places_of(world.experts, granularity).values()))
    count, square, weights = 3 * len(places), 0.0, {}
    for p, name in enumerate(places):
        e = [math.exp((x[3 * p + i] + x[count + 3 * p + i]) / TAU) for i in range(3)]
        weights[name] = torch.tensor([value / sum(e) for value in e], dtype=torch.float64)
        square += float(weights[name].square().sum())
    return float(world.naive(world.rows(*ROWS), weights, granularity)) + GAMMA1 * square / len(places)


@pytest.mark.parametrize("granularity", ["task", "layer"])
def test_value_and_gradient_against_finite_differences(world: Any, granularity: Any) -> None:
    made, h = objective(world, granularity), 1e-4
    (x,) = drawn(1, made.gate.size)
    value, gradient = made.value_and_gradient(x)
    assert value == pytest.approx(naive(world, x, granularity), rel=1e-6)
    assert made.values([x]) == pytest.approx([value], rel=1e-6)
    wanted = []
    for i in range(len(x)):
        up, down = (naive(world, [*x[:i], x[i] + step, *x[i + 1 :]], granularity) for step in (h, -h))
        wanted.append((up - down) / (2 * h))
    assert max(map(abs, wanted)) > 1e-2
    np.testing.assert_allclose(gradient, wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("form", "precision"), [("affine_norm", "fp32"), ("affine", "nf4")])
def test_gradients_against_finite_differences_of_their_own_values(world: Any, form: str, precision: str) -> None:
    base = world.base(precision, compute_dtype="float32")
    made, h = objective(world, candidates=2, base=base, form=form), 1e-2
    (x,) = drawn(1, made.gate.size)
    _, gradient = made.value_and_gradient(x)
    for i in range(len(x)):
        up, down = made.values([[*x[:i], x[i] + step, *x[i + 1 :]] for step in (h, -h)])
        assert gradient[i] == pytest.approx((up - down) / (2 * h), rel=2e-2, abs=2e-4)


def test_a_part_of_the_examples(world: Any) -> None:
    made = objective(world)
    (x,) = drawn(1, made.gate.size)
    trained, R = made.problem.trained, made.weights(x)
    parts = [made.problem.loss_and_gradient(R, rows) for rows in ((1,), (2, 0))]
    shares = [trained[1] / trained.sum(), trained[[2, 0]].sum() / trained.sum()]
    loss, gradient = made.problem.loss_and_gradient(R)
    assert loss == pytest.approx(sum(share * part[0] for share, part in zip(shares, parts, strict=True)), rel=1e-6)
    np.testing.assert_allclose(gradient, shares[0] * parts[0][1] + shares[1] * parts[1][1], rtol=1e-4, atol=1e-5)


def test_the_loss_is_that_of_the_fused_adapter_in_peft(world: Any) -> None:
    made = objective(world, "matrix")
    (x,) = drawn(1, made.gate.size)
    R = made.weights(x)
    places = list(dict.fromkeys(places_of(world.experts, "matrix").values()))
    values = {name: tuple(row.tolist()) for name, row in zip(places, R, strict=True)}
    adapter, _ = combine(world.experts, Weights(granularity="matrix", values=values), {"kind": "cat"})
    write(world.store, "fused", adapter)
    theirs = peft.PeftModel.from_pretrained(world.base(), str(world.store.local("fused"))).eval()
    with torch.no_grad():
        batch = collate(world.rows(*ROWS), PassConfig().batch, 3)
        loss = float(LossModule(theirs)(batch)) / batch.trained_tokens
    assert made.values([x])[0] - GAMMA1 * concentration(R) == pytest.approx(loss, rel=1e-6)


def test_values_are_bitwise_those_of_the_groups(world: Any) -> None:
    made, alone = objective(world, candidates=2), objective(world, candidates=1)
    points = drawn(5, made.gate.size)
    found = made.values(points)
    assert found == made.values(points)
    assert found == [*made.values(points[:2]), *made.values(points[2:4]), *made.values(points[4:])]
    assert found == pytest.approx(alone.values(points), rel=1e-6)
    assert len(set(found)) == 5


def test_groups_follow_from_the_order_of_candidates(world: Any) -> None:
    shapes: list[tuple[int, ...]] = []

    class Watched:
        def losses(self, groups: Any) -> list[list[float]]:
            shapes.extend(group.shape for group in groups)
            return [[float(candidate[0, 0]) for candidate in group] for group in groups]

        def gradients(self, weights: Any, batches: Any) -> Any:
            raise AssertionError

    problem = Problem(Watched(), world.rows(0), PassConfig(candidates_per_pass=4))
    trained = int(problem.trained.sum())
    for count in (1, 4, 6):
        shapes.clear()
        weights = [np.full((2, 3), float(n)) for n in range(count)]
        assert problem.losses(weights) == [n / trained for n in range(count)]
        assert shapes == [(4, 2, 3)] * (count // 4) + [(count % 4, 2, 3)] * (count % 4 > 0)


def test_concentration_and_entropy() -> None:
    one, equal = np.eye(4)[:2], np.full((2, 4), 0.25)
    assert (concentration(one), entropy(one)) == (1.0, 0.0)
    assert (concentration(equal), entropy(equal)) == pytest.approx((0.25, math.log(4)))
    assert entropy(np.array([[0.5, 0.5, 0, 0], [0.9, 0.1, 0, 0]])) == pytest.approx(
        (math.log(2) - 0.9 * math.log(0.9) - 0.1 * math.log(0.1)) / 2
    )
