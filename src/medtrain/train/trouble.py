"""What counts as trouble in a step, and what a run does about it: a pure decision, carried out by the loop."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field

from medtrain.config import Config
from medtrain.errors import TrainingError
from medtrain.train.checkpoint import Progress

WINDOW = 16
"""Losses that a spike is judged by; none is called before half of them are there."""


class TroubleConfig(Config):
    """A loss or gradient that is no number, and a loss that leaps."""

    policy: Literal["stop", "skip_batch", "lower_lr"] = "stop"
    """End the run; or go back to the last state and leave the batch out, or halve the learning rate from it on: a
    leap is then taken once, while NaN from the same weights comes again and ends the run after `rollbacks`."""
    spike: float | None = Field(default=None, gt=1)
    """A loss above this many times the median of the last 16 is trouble too; null looks for NaN and infinity alone."""
    rollbacks: int = Field(default=3, ge=0)
    """How often a run goes back before it ends all the same."""


def found(config: TroubleConfig, metrics: dict[str, float], recent: Sequence[float]) -> str:
    """What is wrong with a step's numbers, empty if nothing; `recent` are the losses of the steps before it."""
    for name in ("loss", "gradient_norm"):
        if not math.isfinite(metrics[name]):
            return f"the {name.replace('_', ' ')} is {metrics[name]}"
    if config.spike is not None and len(recent) >= WINDOW // 2:
        usual = statistics.median(recent)
        if metrics["loss"] > config.spike * usual:
            return f"the loss {metrics['loss']:.4g} is over {config.spike:g} times the usual {usual:.4g}"
    return ""


def answer(config: TroubleConfig, now: Progress, back: Progress, why: str, ids: Sequence[str]) -> Progress:
    """Where the run goes on after trouble in the step behind `now`, having gone back to the state of `back`.

    Raises:
        TrainingError: the policy is to stop, or the run has gone back often enough.
    """
    step = now.step + 1
    if config.policy == "stop" or now.rollbacks >= config.rollbacks:
        often = f", after {now.rollbacks} rollback(s)" if now.rollbacks else ""
        raise TrainingError(
            f"step {step}: {why}{often}; its samples are {', '.join(ids)}. Look at them, lower "
            "optimizer.learning_rate, or let trouble.policy be skip_batch (lower_lr takes a leap, but no NaN)"
        )
    marked = replace(
        back,
        rollbacks=now.rollbacks + 1,
        skipped=now.skipped,
        skipped_ids=now.skipped_ids,
        lowered=now.lowered,
    )
    if config.policy == "lower_lr":
        return replace(marked, lowered=(*now.lowered, now.step))
    return replace(marked, skipped=(*now.skipped, now.step), skipped_ids=(*now.skipped_ids, *ids))
