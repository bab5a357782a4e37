"""One HTML file that needs nothing else: scores with intervals, pictures, losses, dropped rows, settings, identity."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from medtrain import charts, pages
from medtrain.artifacts import Artifact
from medtrain.charts import Bar, Curve
from medtrain.evaluate.cases import Answer
from medtrain.evaluate.table import cell, verdict

QUOTE_CHARACTERS = 600


@dataclass(frozen=True)
class Material:
    """What a report is made from. `artifacts` are data, tokens and runs in the order of the flow, each once."""

    name: str
    settings: dict[str, Any]
    fingerprint: str
    groups: Sequence[dict[str, Any]]
    answers: Mapping[str, Sequence[Answer]]
    artifacts: Sequence[Artifact]
    examples: int


def render(material: Material) -> str:
    """The whole page."""
    names = list(material.answers)
    runs = [artifact for artifact in material.artifacts if artifact.kind.startswith("stage")]
    return pages.render(
        "evaluate/report.html.jinja",
        material.name,
        material.artifacts,
        {f"evaluations/{material.name}": material.settings},
        cell=cell,
        verdict=verdict,
        fingerprint=material.fingerprint,
        systems=[(name, charts.colour(number)) for number, name in enumerate(names)],
        groups=[{**group, "panels": panels(group), "order": order(group)} for group in material.groups],
        losses=[(f"{run.kind}/{run.name}", *loss_picture(run)) for run in runs],
        funnels=[funnel(artifact) for artifact in material.artifacts if artifact.kind in ("data", "tokens")],
        examples=examples(material.answers, material.examples),
    )


def panels(group: dict[str, Any]) -> list[tuple[str, Markup]]:
    """For each headline metric of a group, its name and the picture of all systems."""
    found = []
    for metric in group["headlines"]:
        bars = [
            Bar(name, scores["value"], scores["low"], scores["high"], charts.colour(number))
            for number, (name, system) in enumerate(group["systems"].items())
            if (scores := system["scores"].get(metric)) is not None
        ]
        if bars:
            found.append((metric, charts.bars(bars)))
    return found


def order(group: dict[str, Any]) -> list[str]:
    """Every score of a group, the headlines first."""
    every = dict.fromkeys(name for system in group["systems"].values() for name in system["scores"])
    return [*group["headlines"], *(name for name in every if name not in group["headlines"])]


def loss_picture(run: Artifact) -> tuple[Markup, list[tuple[str, str, float]]]:
    """A run's losses over steps as a picture, and its legend: label, colour, last value."""
    series: dict[str, list[tuple[float, float]]] = {}
    for line in metric_lines(run):
        for key, value in line.items():
            if key == "loss" or key.startswith("validation/"):
                series.setdefault(key, []).append((float(line["step"]), float(value)))
    curves: list[Curve] = []
    legend: list[tuple[str, str, float]] = []
    for number, (key, points) in enumerate(
        sorted(series.items(), key=lambda item: (item[0] != "loss", item[0])), start=1
    ):
        if key == "loss":
            curves.append(Curve(key, tuple(points), charts.colour(number), bold=False))
            drawn = charts.smooth(points, max(1, len(points) // 20))
        else:
            drawn = tuple(points)
        curves.append(Curve(key, drawn, charts.colour(number), dotted=key != "loss"))
        legend.append(("training loss" if key == "loss" else key, charts.colour(number), drawn[-1][1]))
    return charts.curves(curves, "step"), legend


def metric_lines(run: Artifact) -> list[dict[str, float]]:
    """The lines of a run's metrics file, the last one of each step where a resumed run wrote it twice."""
    path = "log/metrics.jsonl"
    if not run.store.exists(path):
        return []
    merged: dict[float, dict[str, float]] = {}
    for text in run.store.read(path).decode("utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:  # cut while it was written
            continue
        merged.setdefault(line["step"], {}).update(line)
    return [merged[step] for step in sorted(merged)]


def funnel(artifact: Artifact) -> dict[str, Any]:
    """What an artifact kept, by source, and what it dropped or changed, by rule."""
    facts = artifact.facts
    by_rule: Counter[tuple[str, str]] = Counter()
    for key, count in {**facts["dropped"], **facts.get("changed", {})}.items():
        _, rule, action = key.rsplit("/", 2)
        by_rule[rule, action] += count
    local = {source for source, split in facts.get("splits", {}).items() if split == "local"}
    kept = {
        source + (" (local split)" if source in local else ""): sum(map(_rows, splits.values()))
        for source, splits in facts["by_source"].items()
    }
    return {
        "title": f"{artifact.kind}/{artifact.name}",
        "rows": facts["rows"],
        "kept": sorted(kept.items(), key=lambda item: -item[1]),
        "rules": [(rule, action, count) for (rule, action), count in by_rule.most_common()],
        "most": max([*kept.values(), *by_rule.values(), 1]),
    }


def _rows(split: int | dict[str, int]) -> int:
    """Rows of a split: a data artifact counts rows, a token artifact their tokens too."""
    return split["rows"] if isinstance(split, dict) else split


def examples(answers: Mapping[str, Sequence[Answer]], count: int) -> list[dict[str, Any]]:
    """The first `count` rows of each task with every system's answer, long texts cut."""
    first = next(iter(answers.values()))
    taken: Counter[str] = Counter()
    shown = []
    for place, answer in enumerate(first):
        if taken[answer.task] < count:
            taken[answer.task] += 1
            shown.append(
                {
                    "task": answer.task,
                    "id": answer.id,
                    "asked": quote("\n".join(part for part in (answer.query, answer.context) if part)),
                    "reference": quote(answer.reference),
                    "answers": [(name, quote(found[place].text)) for name, found in answers.items()],
                }
            )
    return sorted(shown, key=lambda row: row["task"])


def quote(text: str) -> str:
    """A text short enough for a table."""
    return text if len(text) <= QUOTE_CHARACTERS else text[: QUOTE_CHARACTERS - 1] + "…"
