"""What a study's losses say of the paper's claims: each with its interval, and whether it holds."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

Losses = dict[tuple[str, str], float]
"""Held-out loss by (task, variant); `base` is the bare base."""
RESAMPLES = 4000


def of_variants(fitted: Mapping[int, Losses]) -> list[dict[str, Any]]:
    """The order of the variants, over tasks and seeds."""
    found = []
    for better, worse, least in (
        ("normal", "single", "mean"),
        ("normal", "average", "mean"),
        ("few-shot", "average", "interval"),
    ):
        apart = _by_task(
            {seed: {t: losses[t, worse] - losses[t, better] for t in _tasks(losses)} for seed, losses in fitted.items()}
        )
        mean, low, high = interval(apart)
        found.append(
            _said(f"loss({worse}) - loss({better})", (mean, low, high), (mean >= 0) if least == "mean" else low > 0)
        )
    return found


def of_weights(leaning: Mapping[str, Sequence[Mapping[str, float]]], kinds: Mapping[str, str]) -> dict[str, Any]:
    """How many tasks lean most on their own expert or on one of its kind."""
    leads = {}
    for task, weights in leaning.items():
        mean = {name: fmean(each[name] for each in weights) for name in kinds}
        leads[task] = max(mean, key=mean.__getitem__)
        print(f"{task:20} leans on {leads[task]} ({mean[leads[task]]:.2f}; its own {mean[task]:.2f})")
    own = sum(kinds[leads[task]] == kinds[task] for task in leads)
    return _said(
        f"of {len(leads)} tasks, those that lean on an expert of their kind", (own, own, own), own >= len(leads) - 1
    )


def of_sizes(found: Losses, groups: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """What twelve experts are worth over one, to tasks that none was trained for and to those that one was."""
    claims = []
    for group, tasks in groups.items():
        sizes: dict[int, list[float]] = {}
        for (task, variant), loss in found.items():
            if task in tasks and variant != "base":
                sizes.setdefault(int(variant[1:].split("-")[0]), []).append(loss)
        print(
            f"{group} tasks, loss by experts:",
            {size: round(fmean(losses), 4) for size, losses in sorted(sizes.items())},
        )
        singles = [variant for task, variant in found if task == tasks[0] and variant.startswith("k1-")]
        apart = {task: [found[task, variant] - found[task, "k12-0"] for variant in singles] for task in tasks}
        values = interval(apart)
        claims.append(
            _said(
                f"loss(1 expert) - loss(12 experts), {group} tasks",
                values,
                values[1] > 0 if group == "unseen" else values[2] >= 0,
            )
        )
    return claims


def of_control(taught: Losses, dealt: Losses) -> dict[str, Any]:
    """What experts are worth to a router, less what experts are worth that were taught other rows' answers."""
    apart = {task: [dealt[task, "normal"] - taught[task, "normal"]] for task in _tasks(taught)}
    print(
        "gain over the base:",
        {
            name: round(fmean(each[t, "base"] - each[t, "normal"] for t in _tasks(each)), 4)
            for name, each in (("taught", taught), ("control", dealt))
        },
    )
    values = interval(apart)
    return _said("loss(normal, control) - loss(normal)", values, values[1] > 0)


def interval(groups: Mapping[str, Sequence[float]]) -> tuple[float, float, float]:
    """Mean of the groups' means and its 95 % interval, by a bootstrap of groups and, within each, of its values."""
    draw, values = np.random.default_rng(0), [np.array(group) for group in groups.values()]
    means = []
    for _ in range(RESAMPLES):
        chosen = draw.integers(len(values), size=len(values))
        means.append(np.mean([draw.choice(values[group], len(values[group])).mean() for group in chosen]))
    low, high = np.quantile(means, (0.025, 0.975))
    return float(np.mean([group.mean() for group in values])), float(low), float(high)


def _tasks(losses: Losses) -> list[str]:
    return list(dict.fromkeys(task for task, _ in losses))


def _by_task(runs: Mapping[int, Mapping[str, float]]) -> dict[str, list[float]]:
    tasks = next(iter(runs.values()))
    return {task: [run[task] for run in runs.values()] for task in tasks}


def _said(claim: str, values: tuple[float, float, float], holds: bool) -> dict[str, Any]:
    mean, low, high = (round(float(value), 4) for value in values)
    print(f"{'holds' if holds else 'DOES NOT HOLD':14} {claim}: {mean:+.4f} [{low:+.4f}, {high:+.4f}]", flush=True)
    return {"claim": claim, "mean": mean, "interval": [low, high], "holds": bool(holds)}
