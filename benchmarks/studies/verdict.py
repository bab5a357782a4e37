"""What a study's losses say of the paper's claims: each with its 95 % interval, and whether it holds.

Intervals are bootstraps: of the variants and the control over tasks and, within each, its runs; of the number of
experts over the orders in which they come, the tasks being given. An interval that holds 0 says neither.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any, Literal

import numpy as np

Losses = dict[tuple[str, str], float]
"""Held-out loss by (task, variant); `base` is the bare base."""
Values = tuple[float, float, float]
"""Mean and interval."""
RESAMPLES = 4000


def of_variants(fitted: Mapping[int, Losses]) -> list[dict[str, Any]]:
    """The order of the variants, over tasks and seeds."""
    runs = list(fitted.values())
    ways = dict.fromkeys(name for _, name in runs[0])
    means = {name: fmean(losses[t, name] for losses in runs for t in _tasks(losses)) for name in ways}
    print("mean loss:", {name: round(mean, 4) for name, mean in means.items()})
    best = min("single", "average", key=means.__getitem__)
    pairs = (("normal", best), ("few-shot", "average"))
    apart = {(better, worse): interval(_apart(runs, worse, better)) for better, worse in pairs}
    return [_said(f"loss({worse}) - loss({better})", values, "above") for (better, worse), values in apart.items()]


def of_weights(
    leanings: Sequence[Mapping[str, Mapping[str, float]]], kinds: Mapping[str, str], *, control: bool = False
) -> dict[str, Any]:
    """How many tasks lean most on their own expert or on one of its kind, by the mean over runs.

    Args:
        leanings: of each run, the experts' weights by task.
        kinds: the experts' kinds.
        control: whether the experts learnt nothing that fits: then at most half of the tasks may.
    """
    leads = {}
    for task in leanings[0]:
        mean = {name: fmean(run[task][name] for run in leanings) for name in leanings[0][task]}
        leads[task] = max(mean, key=mean.__getitem__)
        print(f"{task:20} leans on {leads[task]} ({mean[leads[task]]:.2f}; its own {mean[task]:.2f})")
    own = sum(kinds[leads[task]] == kinds[task] for task in leads)
    who = "control: of" if control else "of"
    holds = own <= len(leads) // 2 if control else own >= len(leads) - 1
    claim = f"{who} {len(leads)} tasks, those that lean on an expert of their kind"
    return _claim(claim, (own, own, own), "holds" if holds else "does not hold")


def of_sizes(found: Losses, group: str) -> list[dict[str, Any]]:
    """How the loss changes with the number of experts, order by order: at each step, and at each doubling.

    Args:
        found: losses of variants `k<number of experts>-<order>`.
        group: `unseen` tasks, whose loss is to fall, or `seen` ones, whose loss is not to rise.
    """
    curves = _curves(found)
    sizes = sorted(curves[0])
    print(f"{group} tasks, loss by experts:", {size: round(fmean(c[size] for c in curves), 4) for size in sizes})
    want: Literal["above", "not below"] = "above" if group == "unseen" else "not below"
    slopes = [-float(np.polyfit(np.log2(sizes), [curve[size] for size in sizes], 1)[0]) for curve in curves]
    claims = [_said(f"{group} tasks: fall of the loss at each doubling of the experts", interval({"": slopes}), want)]
    for less, more in pairwise(sizes):
        falls = interval({"": [curve[less] - curve[more] for curve in curves]})
        claims.append(_said(f"{group} tasks: loss({less} experts) - loss({more} experts)", falls, want))
    return claims


def of_control(taught: Losses, dealt: Losses) -> list[dict[str, Any]]:
    """What experts are worth to a router, less what as many are worth that were taught other rows' answers."""
    claims = []
    for worse in ("base", "average"):
        gains = [{t: losses[t, worse] - losses[t, "normal"] for t in _tasks(losses)} for losses in (taught, dealt)]
        print(f"loss({worse}) - loss(normal):", dict(zip(("taught", "control"), map(_mean, gains), strict=True)))
        apart = {task: [gains[0][task] - gains[1][task]] for task in gains[0]}
        claims.append(_said(f"loss({worse}) - loss(normal), less that of the control", interval(apart), "above"))
    return claims


def interval(groups: Mapping[str, Sequence[float]]) -> Values:
    """Mean of groups of one size and its 95 % interval, by a bootstrap of groups and, within each, of its values."""
    draw, values = np.random.default_rng(0), np.array(list(groups.values()))  # (groups, runs)
    count, size = values.shape
    chosen = draw.integers(count, size=(RESAMPLES, count, 1))
    means = values[chosen, draw.integers(size, size=(RESAMPLES, count, size))].mean(axis=(1, 2))
    low, high = np.quantile(means, (0.025, 0.975))
    return float(values.mean()), float(low), float(high)


def _curves(found: Losses) -> list[dict[int, float]]:
    """Of each order, the mean loss over tasks by the number of experts."""
    by_order: dict[int, dict[int, list[float]]] = {}
    for (_, variant), loss in found.items():
        if variant != "base":
            size, order = (int(number) for number in variant[1:].split("-"))
            by_order.setdefault(order, {}).setdefault(size, []).append(loss)
    return [{size: fmean(losses) for size, losses in curve.items()} for curve in by_order.values()]


def _apart(runs: Sequence[Losses], worse: str, better: str) -> dict[str, list[float]]:
    """By task, the difference of two variants in each run."""
    return {task: [losses[task, worse] - losses[task, better] for losses in runs] for task in _tasks(runs[0])}


def _tasks(losses: Losses) -> list[str]:
    return list(dict.fromkeys(task for task, _ in losses))


def _mean(values: Mapping[str, float]) -> float:
    return round(fmean(values.values()), 4)


def _said(claim: str, values: Values, want: Literal["above", "not below"]) -> dict[str, Any]:
    """A claim that a difference is above 0, or that it is not below."""
    _, low, high = values
    if low > 0 or (want == "not below" and high >= 0):
        return _claim(claim, values, "holds")
    return _claim(claim, values, "does not hold" if high < 0 else "not apart from 0")


def _claim(claim: str, values: Values, said: str) -> dict[str, Any]:
    mean, low, high = (round(float(value), 4) for value in values)
    print(f"{said:16} {claim}: {mean:+.4f} [{low:+.4f}, {high:+.4f}]", flush=True)
    return {"claim": claim, "mean": mean, "interval": [low, high], "verdict": said}
