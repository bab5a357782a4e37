"""Young's and Daly's intervals are those that were published, and a simulation loses least where Daly's lies."""

import math

import numpy as np
import pytest

from medtrain.search import cadence


def lost(interval_s: float, checkpoint_s: float, gaps: np.ndarray, work_s: float) -> float:
    """Seconds that so much work takes beyond itself, hour by hour as it happens; `gaps` are times to preemptions."""
    now, safe, number = 0.0, 0.0, 0
    alive_until = gaps[0]
    while safe < work_s:
        piece = min(interval_s, work_s - safe)
        if now + piece + checkpoint_s <= alive_until:
            now += piece + checkpoint_s
            safe += piece
        else:
            now = alive_until
            number += 1
            alive_until = now + gaps[number]
    return now - work_s


@pytest.mark.parametrize(("checkpoint_s", "between_s"), [(2.0, 600.0), (30.0, 900.0), (60.0, 200.0)])
def test_a_simulation_loses_least_near_daly_s_interval(checkpoint_s: float, between_s: float) -> None:
    per_hour, work_s = 3600 / between_s, 40 * between_s
    interval = cadence.daly(checkpoint_s, per_hour)
    factors = (0.4, 0.65, 1.0, 1.5, 2.5)
    draw = np.random.RandomState(0)
    runs = [draw.exponential(between_s, 4000) for _ in range(60)]  # the same preemptions for every interval
    found = [float(np.mean([lost(f * interval, checkpoint_s, gaps, work_s) for gaps in runs])) for f in factors]
    assert min(found) == found[2]
    said = [work_s * cadence.overhead(f * interval, checkpoint_s, per_hour) for f in factors]
    assert found == pytest.approx(said, rel=0.12)


@pytest.mark.parametrize("checkpoint_s", [0.1, 1.0, 20.0, 300.0])
@pytest.mark.parametrize("per_hour", [0.01, 0.5, 8.0])
def test_the_exact_optimum(checkpoint_s: float, per_hour: float) -> None:
    """By bisection of the overhead's derivative: (1 - t / M) exp((t + C) / M) = 1."""
    between = 3600 / per_hour
    low, high = 0.0, between
    for _ in range(200):
        middle = (low + high) / 2
        is_short = (1 - middle / between) * math.exp((middle + checkpoint_s) / between) > 1
        low, high = (middle, high) if is_short else (low, middle)
    assert cadence.daly(checkpoint_s, per_hour) == pytest.approx(low, rel=0.01)
    least = cadence.overhead(low, checkpoint_s, per_hour)
    found = cadence.overhead(cadence.daly(checkpoint_s, per_hour), checkpoint_s, per_hour)
    assert least - 1e-12 <= found <= 1.001 * least + 1e-12
    if checkpoint_s * per_hour < 1:  # where a checkpoint is short
        assert cadence.young(checkpoint_s, per_hour) == pytest.approx(low, rel=0.03)


def test_the_published_formulas() -> None:
    """C = 5 min, M = 24 h in Young's own units: sqrt(2 * 5 * 1440) = 120 min; Daly's by hand."""
    assert cadence.young(300, 1 / 24) == pytest.approx(7200)
    assert cadence.daly(300, 1 / 24) == pytest.approx(7200 * (1 + (300 / 172800) ** 0.5 / 3 + 300 / 172800 / 9) - 300)
    assert cadence.daly(7200, 1.0) == cadence.daly(9000, 1.0) == 3600  # a checkpoint takes longer than machines last
    assert cadence.overhead(1e9, 1.0, 1.0) == math.inf


def test_no_preemption_is_a_finite_rate_and_many_are_their_own() -> None:
    assert cadence.rate(0, 0.0) == 0.25
    assert 0 < cadence.rate(0, 1000.0) < 1e-3
    assert cadence.rate(500, 1000.0) == pytest.approx(0.5, rel=0.01)
    seen = cadence.observed(2.0, 3, 36000.0)
    assert seen.per_hour == pytest.approx(3.5 / 12) and seen.slot_hours == 10
    assert seen.daly_s == cadence.daly(2.0, seen.per_hour) < seen.young_s
    assert seen.overhead == pytest.approx(math.sqrt(2 * 2.0 * seen.per_hour / 3600), rel=0.05)
    # What the prior costs where nothing is ever lost, as its comment says.
    assert 1.0 / cadence.daly(1.0, cadence.rate(0, 0.0)) == pytest.approx(0.006, abs=0.001)


def test_the_interval_in_steps() -> None:
    assert cadence.every_steps(2.0, 0.5, 0.25) == round(cadence.daly(2.0, 0.25) / 0.5)
    assert cadence.every_steps(0.001, 60.0, 5.0) == 1
    seen = cadence.observed(2.0, 3, 36000.0, step_s=0.5)
    assert seen.steps == round(seen.daly_s / 0.5) and cadence.observed(2.0, 3, 36000.0).steps is None
    for given in ((0.0, 1.0, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, 0.0), (math.nan, 1.0, 1.0)):
        with pytest.raises(ValueError):
            cadence.every_steps(*given)
