"""A study as one HTML page: its winner, how it was found, which parameters count, what it cost, what it lost."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from markupsafe import Markup

from medtrain import artifacts, pages
from medtrain.artifacts import Artifact
from medtrain.search import pictures, trial, trials
from medtrain.search.bill import Bill, bill, span
from medtrain.search.cadence import Cadence
from medtrain.search.history import Ellipse
from medtrain.search.importance import importance, is_installed
from medtrain.search.pictures import Mark
from medtrain.search.searcher import Best
from medtrain.search.settings import StudyConfig
from medtrain.search.space import Fixed, Range, Space, assignments
from medtrain.search.told import Told, rhythm
from medtrain.storage import Store

REPORT = "report.html"
SAID = ("kind", "timing", "sampler")
"""What of a searcher's settings stands in the first line."""
PLANES = 4
"""The ellipse is shown in the planes of so many parameters, the most important ones."""


@dataclass(frozen=True)
class Material:
    """What a report is made from. `told` are in the order of their ends, `artifacts` those of the winner."""

    name: str
    settings: dict[str, Any]
    searcher: str
    metric: str
    mode: str
    prunes: bool
    """Whether a trial that was stopped early counts as failed."""
    space: Space
    told: Sequence[Told]
    shape: Sequence[Ellipse]
    best: Best | None
    command: str
    verdict: str
    bill: Bill
    cadence: Cadence | None
    artifacts: Sequence[Artifact]


def build(
    study: Store,
    config: StudyConfig,
    told: Sequence[Told],
    shape: Sequence[Ellipse],
    best: Best | None = None,
    verdict: str = "",
) -> str:
    """Write the report of a study, finished or not, beside its journal.

    Args:
        study: the study's folder.
        config: its config.
        told: its trials with an outcome.
        shape: the ellipses of its search, none where it has none.
        best: the setting to go on with.
        verdict: what held-out data say of it, one line.

    Returns:
        The page's path.
    """
    given = config.study
    attempts = {number: trial.attempts(study, number) for number in study.folders(trial.KIND)}
    won = next((one.number for one in told if best and one.number and one.values == best.values), "")
    order = trial.about(study, won) if won else None
    overrides = order.overrides if order else assignments(best.values) if best else ()
    material = Material(
        name=given.name,
        settings={f"studies/{given.name}": given.model_dump(mode="json")},
        searcher=", ".join(str(given.searcher[key]) for key in SAID if key in given.searcher),
        metric=given.metric,
        mode=given.searching.mode,
        prunes=given.searching.pruned == "failed",
        space=Space(given.space),
        told=sorted(told, key=lambda one: one.order),
        shape=shape,
        best=best,
        command=without_keys(trials.command(given.trying, overrides)) if overrides else "",
        verdict=verdict,
        bill=bill(given, told, attempts),
        cadence=rhythm(told, attempts),
        artifacts=[artifacts.locate(study, trial.KIND, won)] if won and trial.facts(study, won) else [],
    )
    study.write(REPORT, page(material).encode())
    return f"{study.root}/{REPORT}"


def page(material: Material) -> str:
    """The whole page."""
    space, mode = material.space, material.mode
    marks = [Mark(one.id, one.values, one.value, _counts(material, one)) for one in material.told]
    done = [(one.values, one.value) for one in material.told if one.outcome == "done" and one.value is not None]
    shares = importance(space, done, mode) if is_installed() else []
    varied = [name for name, parameter in space.parameters.items() if not isinstance(parameter, Fixed)]
    return pages.render(
        "search/report.html.jinja",
        material.name,
        material.artifacts,
        material.settings,
        told=material.told,
        metric=material.metric,
        mode=mode,
        searcher=material.searcher,
        outcomes=Counter(one.outcome for one in material.told),
        best=material.best,
        command=material.command,
        verdict=material.verdict,
        history=pictures.history(marks, mode, material.metric),
        parallel=pictures.parallel(space, marks, mode, material.metric),
        has_optuna=is_installed(),
        shares=shares,
        ellipses=ellipses(space, material.shape, marks, shares),
        updates=len(material.shape) - 1,
        bill=material.bill,
        cadence=material.cadence,
        varied=varied,
        span=span,
        number=number,
        why=why,
    )


def ellipses(
    space: Space, shape: Sequence[Ellipse], marks: Sequence[Mark], shares: Sequence[tuple[str, float]]
) -> list[Markup]:
    """The search's distribution over its updates, in the planes of its ranges; over time where there is one range."""
    rank = {name: place for place, (name, _) in enumerate(shares)}
    ranges = [name for name, parameter in space.parameters.items() if isinstance(parameter, Range)]
    chosen = sorted(sorted(ranges, key=lambda name: rank.get(name, len(rank)))[:PLANES], key=ranges.index)
    if not shape or not chosen:
        return []
    if len(chosen) == 1:
        return [pictures.band(space, chosen[0], shape)]
    return [pictures.plane(space, pair, shape, marks) for pair in combinations(chosen, 2)]


def number(value: Any) -> str:
    """A setting's value or a trial's, to six digits."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return "–" if value is None else str(value)


def why(one: Told) -> str:
    """What went wrong in a trial that failed, in a line; empty of another one."""
    return last_line(one.error) if one.outcome == "failed" else ""


def last_line(error: str) -> str:
    """The last line of an error, as a page may show it."""
    return without_keys("".join(error.strip().splitlines()[-1:]))


def without_keys(command: str) -> str:
    """A command line without the user and password of a storage URI."""
    return re.sub(r"(://)[^/@\s'\"]+@", r"\1…@", command)


def _counts(material: Material, one: Told) -> bool:
    return one.value is not None and (one.outcome == "done" or (one.outcome == "pruned" and not material.prunes))
