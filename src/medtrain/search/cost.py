"""What a study has cost and will cost: from slot-seconds, lost attempts' too, to money."""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Spent:
    """What a study has taken until now. A slot-second is a second of one attempt at one trial."""

    told: int
    """Trials that have ended for good."""
    slot_s: float
    """Slot-seconds of all attempts at all trials."""
    open_s: float = 0.0
    """Of them, those of trials that have not ended for good."""
    lost_s: float = 0.0
    """Of them, those of attempts that ended with their machine, or with the study's own process."""
    hours: float = 0.0
    """Hours in which trials ran."""


@dataclass(frozen=True)
class Limits:
    """When a study ends; None is no limit."""

    trials: int | None = None
    """After so many trials."""
    hours: float | None = None
    """After so many hours in which trials ran."""
    cost: float | None = None
    """Before it has cost more."""


@dataclass(frozen=True)
class Forecast:
    """A study's end, as its trials until now suggest."""

    slot_s: float
    """Slot-seconds to the end."""
    hours: float
    """Hours to the end, with every slot busy."""
    by: str
    """What it ends by: trials, hours or cost."""
    trials: int
    """Trials that end until then, those included that have."""


def money(slot_s: float, per_slot_hour: float) -> float:
    """The price of slot-seconds."""
    return slot_s / 3600 * per_slot_hour


def union_s(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds in which at least one of them ran; each is (began, ended)."""
    found, until = 0.0, -math.inf
    for began, ended in sorted(spans):
        found += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return found


def mean_trial_s(spent: Spent) -> float | None:
    """Slot-seconds of a trial with all its attempts; None before one has ended."""
    return (spent.slot_s - spent.open_s) / spent.told if spent.told else None


def forecast(spent: Spent, limits: Limits, slots: int, per_slot_hour: float | None = None) -> Forecast | None:
    """What is left to the end, by the limit that comes first; None without a limit, or before a trial has ended.

    A trial to come takes what those until now took on average, lost attempts included; what open trials have had counts
    as done.

    Args:
        spent: what was taken until now.
        limits: when the study ends; a limit in money needs a price.
        slots: trials at a time.
        per_slot_hour: the price.
    """
    mean = mean_trial_s(spent)
    if mean is None:
        return None
    left: dict[str, float] = {}
    if limits.trials is not None:
        left["trials"] = max(0.0, (limits.trials - spent.told) * mean - spent.open_s)
    if limits.hours is not None:
        left["hours"] = max(0.0, limits.hours - spent.hours) * 3600 * slots
    if limits.cost is not None and per_slot_hour:
        left["cost"] = max(0.0, limits.cost / per_slot_hour * 3600 - spent.slot_s)
    if not left:
        return None
    by = min(left, key=lambda name: left[name])
    ending = (spent.open_s + left[by]) / mean if mean > 0 else 0.0
    if by == "trials" and limits.trials is not None:
        ending = max(0, limits.trials - spent.told)
    return Forecast(slot_s=left[by], hours=left[by] / slots / 3600, by=by, trials=spent.told + int(ending + 1e-9))
