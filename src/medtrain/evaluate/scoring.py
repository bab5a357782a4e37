"""From saved answers to scores with intervals and paired differences; reads answers only, so it can run again."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from medtrain import plugins
from medtrain.evaluate.cases import Answer
from medtrain.evaluate.intervals import Bootstrap, Interval, Statistics, differences, intervals

Answers = Mapping[str, Sequence[Answer]]
"""Each system's answers, by the system's name, every system's in the same order of rows."""


def metrics_of(task: str, chosen: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """The metrics of a task: those chosen for it, else its own."""
    own: Sequence[str] = plugins.load("evaluate", "tasks", task).METRICS
    return chosen.get(task, own)


def score(answers: Answers, chosen: Mapping[str, Sequence[str]], bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Scores of every group of rows: each task and split and, where it has several sources, each source of it.

    A group has `task`, `split`, `source` (null for all), `rows`, `documents`, `headlines`, `systems` by name (`scores`
    by metric as value, low, high; rates of `unparsed`, `length_hits`, `refused`) and `differences` of each two systems.
    """
    first = next(iter(answers.values()))
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, answer in enumerate(first):
        places[answer.task, answer.split].append(place)
    groups: list[dict[str, Any]] = []
    for (task, split), rows in sorted(places.items()):
        part = {name: [found[place] for place in rows] for name, found in answers.items()}
        for group in _score_task(task, part, metrics_of(task, chosen), bootstrap):
            groups.append({"task": task, "split": split, **group})
    return groups


def _score_task(task: str, answers: Answers, metrics: Sequence[str], bootstrap: Bootstrap) -> list[dict[str, Any]]:
    plugin = plugins.load("evaluate", "tasks", task)
    cases = {name: [plugin.case(answer) for answer in found] for name, found in answers.items()}
    modules = [plugins.load("evaluate", "metrics", name) for name in metrics]
    measured = {name: [module.measure(rows) for module in modules] for name, rows in cases.items()}
    headlines = [headline for module in modules for headline in module.HEADLINES]
    first = next(iter(answers.values()))
    sources = sorted({answer.source for answer in first})
    groups = []
    for source in [None, *(sources if len(sources) > 1 else [])]:
        rows = np.array([i for i, answer in enumerate(first) if source in (None, answer.source)])
        documents = [first[i].document_id for i in rows]
        part = {name: [Statistics(s.counts[rows], s.scores) for s in found] for name, found in measured.items()}
        systems = {
            name: {
                "scores": _merged(intervals(s, documents, bootstrap) for s in part[name]),
                **_rates([answers[name][i] for i in rows], [cases[name][i].parsed for i in rows]),
            }
            for name in answers
        }
        found = {"source": source, "rows": len(rows), "documents": len(set(documents)), "headlines": headlines}
        groups.append({**found, "systems": systems, "differences": _pairs(part, documents, bootstrap)})
    return groups


def _pairs(
    measured: Mapping[str, Sequence[Statistics]], documents: Sequence[str], bootstrap: Bootstrap
) -> list[dict[str, Any]]:
    """Every two systems, the later one minus the earlier one."""
    names = list(measured)
    return [
        {
            "from": one,
            "to": two,
            "scores": _merged(
                differences(a, b, documents, bootstrap) for a, b in zip(measured[one], measured[two], strict=True)
            ),
        }
        for i, one in enumerate(names)
        for two in names[i + 1 :]
    ]


def _merged(found: Any) -> dict[str, dict[str, float]]:
    """Intervals of several metrics as JSON values; scores that are undefined on these rows are left out."""
    every: dict[str, Interval] = {}
    for one in found:
        every.update(one)
    return {name: asdict(interval) for name, interval in every.items() if not math.isnan(interval.value)}


def _rates(answers: Sequence[Answer], parsed: Sequence[bool]) -> dict[str, float]:
    rows = len(answers)
    return {
        "unparsed": parsed.count(False) / rows,
        "length_hits": sum(answer.hit_limit for answer in answers) / rows,
        "refused": sum(bool(answer.refused) for answer in answers) / rows,
        "mean_tokens": sum(answer.tokens for answer in answers) / rows,
    }
