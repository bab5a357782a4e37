"""How often a trial on machines that vanish writes a checkpoint: Young's and Daly's intervals.

With C seconds for a checkpoint and M seconds between preemptions of a slot, on average:

- Young (A first order approximation to the optimum checkpoint interval, 1974): sqrt(2 C M) seconds of work between two.
- Daly (A higher order estimate of the optimum checkpoint interval for restart dumps, 2006): sqrt(2 C M)
  (1 + sqrt(C / 2M) / 3 + (C / 2M) / 9) - C where C < 2M, else M. By his model, without the time to start again, work
  of T seconds that is saved each t seconds takes M (exp((t + C) / M) - 1) T / t.

Preemptions come as a Poisson process; a memory of other times is in no formula here.
"""

import math
from dataclasses import dataclass

PRIOR_PREEMPTIONS, PRIOR_HOURS = 0.5, 2.0
"""The gamma prior of the rate: as if half a preemption (Jeffreys' shape) had been seen in two slot-hours. The interval
goes with the square root of the rate, so a prior that fears too much costs little: at C = 1 s and no preemption ever,
0.6 % of the time."""


@dataclass(frozen=True)
class Cadence:
    """What was seen, and what follows from it."""

    checkpoint_s: float
    """C, the time that a checkpoint takes from training."""
    preemptions: int
    """Attempts that were lost with their machine."""
    slot_hours: float
    """In so many hours of all slots together."""
    per_hour: float
    """The rate that is reckoned with, of one slot."""
    young_s: float
    """Young's interval."""
    daly_s: float
    """Daly's, which is used."""
    overhead: float
    """The share of useful time that is lost on top of it at Daly's interval: checkpoints, and work done twice."""
    steps: int | None
    """Daly's interval in training steps, at least one; None where no trial has said what a step takes."""


def observed(checkpoint_s: float, preemptions: int, slot_s: float, step_s: float | None = None) -> Cadence:
    """The cadence of a study that has seen so much.

    Args:
        checkpoint_s: seconds of a checkpoint.
        preemptions: attempts that were lost with their machine.
        slot_s: seconds of all attempts, lost ones included.
        step_s: seconds of a training step, if they are known.
    """
    per_hour = rate(preemptions, slot_s / 3600)
    interval = daly(checkpoint_s, per_hour)
    return Cadence(
        checkpoint_s=checkpoint_s,
        preemptions=preemptions,
        slot_hours=slot_s / 3600,
        per_hour=per_hour,
        young_s=young(checkpoint_s, per_hour),
        daly_s=interval,
        overhead=overhead(interval, checkpoint_s, per_hour),
        steps=None if step_s is None else every_steps(checkpoint_s, step_s, per_hour),
    )


def rate(preemptions: int, slot_hours: float) -> float:
    """Preemptions per slot-hour: the mean of the gamma distribution that prior and observation give, never 0."""
    return (PRIOR_PREEMPTIONS + preemptions) / (PRIOR_HOURS + slot_hours)


def young(checkpoint_s: float, per_hour: float) -> float:
    """Seconds of work between two checkpoints, to first order.

    Raises:
        ValueError: a number is not above 0.
    """
    return math.sqrt(2 * checkpoint_s * _between(checkpoint_s, per_hour))


def daly(checkpoint_s: float, per_hour: float) -> float:
    """Seconds of work between two checkpoints, to higher order.

    Raises:
        ValueError: a number is not above 0.
    """
    between = _between(checkpoint_s, per_hour)
    half = checkpoint_s / (2 * between)
    if half >= 1:
        return between
    return young(checkpoint_s, per_hour) * (1 + math.sqrt(half) / 3 + half / 9) - checkpoint_s


def overhead(interval_s: float, checkpoint_s: float, per_hour: float) -> float:
    """Expected time beyond that of undisturbed work, as a share of it; infinite where nothing would ever end.

    The time that a trial takes to begin again is not in it.
    """
    between = _between(checkpoint_s, per_hour)
    share = (interval_s + checkpoint_s) / between
    return between * math.expm1(share) / interval_s - 1 if share < 700 else math.inf


def every_steps(checkpoint_s: float, step_s: float, per_hour: float) -> int:
    """Daly's interval in steps, at least one: a value for `train.checkpoint.every_steps`.

    Args:
        checkpoint_s: seconds of a checkpoint.
        step_s: seconds of a step.
        per_hour: preemptions of a slot per hour, see `rate`.

    Raises:
        ValueError: a number is not above 0.
    """
    if not step_s > 0:
        raise ValueError(f"step_s={step_s}: a step takes time")
    return max(1, round(daly(checkpoint_s, per_hour) / step_s))


def _between(checkpoint_s: float, per_hour: float) -> float:
    """Seconds between two preemptions."""
    if not (checkpoint_s > 0 and per_hour > 0):
        raise ValueError(f"checkpoint_s={checkpoint_s}, per_hour={per_hour}: both must be above 0")
    return 3600 / per_hour
