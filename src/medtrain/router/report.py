"""A plan's routers side by side: their losses, what each leans on, and losses by number of experts and of examples."""

import json
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from markupsafe import Markup

from medtrain import artifacts, charts, pages
from medtrain.artifacts import Artifact, Identity, Policy
from medtrain.charts import Curve
from medtrain.config import identity
from medtrain.router import plan
from medtrain.router.plan import RoutingPlan
from medtrain.storage import Store

KIND, REPORT, LOSSES = "routing", "report.html", "losses.json"

Cells = Mapping[tuple[str, str], Artifact]
"""Fitted routers by (task, variant), task after task."""
Sweep = tuple[str, list[tuple[float, float]]]
"""Task and method; (number, mean loss) by rising number."""


def build(root: Store, planned: RoutingPlan, made: Sequence[Artifact], policy: Policy) -> Artifact:
    """Write routing/<plan>: losses of all routers and a page about them; one of other routers is replaced."""
    inputs = {f"router/{router.name}": router.fingerprint for router in made}
    code = artifacts.code_hash(artifacts.room_code("router/report.py", "charts.py", "pages.py"))
    known = Identity(identity(planned), inputs, code)
    begun = artifacts.begin_cache(root, KIND, planned.name, known, Policy(policy.keep_stale))
    if isinstance(begun, Artifact):
        return begun
    cells = dict(zip(plan.fits(planned), made, strict=True))
    found = losses(cells)
    begun.store.write(LOSSES, json.dumps(found, indent=1, ensure_ascii=False).encode())
    begun.store.write(REPORT, page(planned, cells, known.fingerprint).encode())
    return begun.finish({"losses": found})


def losses(cells: Cells) -> dict[str, dict[str, float]]:
    """Task -> `base`, each variant and, where no variant is that, `average` -> loss per trained token, in nats.

    Held-out rows where all of a task's fits have them; else those that each was fitted to.
    """
    found: dict[str, dict[str, float]] = {}
    for (task, variant), router in cells.items():
        known = router.facts["losses"][rows_of(cells, task)]
        line = found.setdefault(task, {"base": known["base"]})
        if "average" in known and all(r.facts["method"] != "average" for r in cells.values()):
            line.setdefault("average", known["average"])
        line[variant] = known["fitted"]
    return found


def rows_of(cells: Cells, task: str) -> str:
    """The rows that a task's losses are of."""
    held = all("held out" in router.facts["losses"] for (name, _), router in cells.items() if name == task)
    return "held out" if held else "fit"


def page(planned: RoutingPlan, cells: Cells, fingerprint: str) -> str:
    """The report."""
    table = losses(cells)
    held = {task: line for task, line in table.items() if rows_of(cells, task) == "held out"}
    columns = list(dict.fromkeys(name for line in table.values() for name in line))
    sweeps = {
        "number of experts": sweep(cells, "experts", lambda facts: len(facts["weights"])),
        "number of examples": sweep(cells, "shots", lambda facts: int(facts["rows"]["fit"]["rows"])),
    }
    return pages.render(
        "router/report.html.jinja",
        planned.name,
        list(cells.values()),
        {f"{KIND}/{planned.name}": identity(planned)},
        fingerprint=fingerprint,
        columns=columns,
        table=table,
        means={name: fmean(line[name] for line in held.values()) for name in columns if len(held) > 1},
        best={task: min(line.values()) for task, line in held.items()},
        rows={task: _rows(cells, task) for task in table},
        maps=[(variant, *weight_map(cells, variant)) for variant in planned.variants],
        sweeps=[(title, *picture(found, title)) for title, found in sweeps.items() if found],
    )


def weight_map(cells: Cells, variant: str) -> tuple[Markup, str]:
    """The experts' weights by task under one variant, and how often a task's own expert alone has the largest."""
    chosen = {task: router.facts for (task, name), router in cells.items() if name == variant}
    experts = list(dict.fromkeys(name for facts in chosen.values() for name in facts["weights"]))
    values = [[facts["weights"].get(name, 0.0) for name in experts] for facts in chosen.values()]
    known = [(facts["weights"], facts["own"]) for facts in chosen.values() if facts["own"] in facts["weights"]]
    leads = sum(all(weights[own] > w for name, w in weights.items() if name != own) for weights, own in known)
    said = f"own expert first in {leads} of {len(known)}" if known else ""
    return charts.heat(list(chosen), experts, values, [facts["own"] for facts in chosen.values()]), said


def sweep(cells: Cells, field: str, count: Callable[[dict[str, Any]], int]) -> list[Sweep]:
    """Held-out losses over a number, of fits that differ in one setting and in their seed alone; means over equals.

    Args:
        cells: the routers.
        field: the setting that differs.
        count: the number, by a router's facts.

    Returns:
        Those of more than one number.
    """
    groups: dict[str, dict[float, list[float]]] = {}
    labels: dict[str, str] = {}
    for (task, _), router in cells.items():
        config, found = router.manifest["identity"]["config"], router.facts["losses"].get("held out")
        key = json.dumps({k: v for k, v in config.items() if k not in ("name", "seed", field)}, sort_keys=True)
        if found is not None:
            labels[key] = f"{task}, {router.facts['method']}"
            groups.setdefault(key, {}).setdefault(count(router.facts), []).append(found["fitted"])
    return [
        (labels[key], [(x, fmean(values)) for x, values in sorted(points.items())])
        for key, points in groups.items()
        if len(points) > 1
    ]


def picture(found: Sequence[Sweep], title: str) -> tuple[Markup, list[tuple[str, str]]]:
    """Curves of a sweep, their mean where they have the same numbers, and the legend: label and colour."""
    numbers = {tuple(x for x, _ in points) for _, points in found}
    shared = len(numbers) == 1 < len(found)
    drawn = [
        Curve(name, tuple(points), charts.colour(number), bold=not shared, dotted=True)
        for number, (name, points) in enumerate(found, 1)
    ]
    if shared:
        means = (fmean(points[place][1] for _, points in found) for place in range(len(drawn[0].points)))
        drawn.append(Curve("mean", tuple(zip(*numbers, means, strict=True)), charts.colour(0), dotted=True))
    return charts.curves(drawn, title), [(curve.label, curve.colour) for curve in drawn]


def _rows(cells: Cells, task: str) -> str:
    """How many rows a task's losses are of, in words."""
    rows, first = rows_of(cells, task), next(router for (name, _), router in cells.items() if name == task)
    return f"{first.facts['rows'][rows]['rows']} held out" if rows == "held out" else "those fitted to"
