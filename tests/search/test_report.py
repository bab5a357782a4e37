"""The report of a study: what it says, and that it says nothing that is not known."""

import re
from dataclasses import replace
from html import unescape
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from medtrain.search import cadence, cost, report
from medtrain.search.cost import Limits, Spent
from medtrain.search.history import Ellipse
from medtrain.search.report import Bill, Material
from medtrain.search.searcher import Best, Outcome
from medtrain.search.space import Space
from medtrain.search.study import Told

SPACE = Space(
    {
        "router.temperature": {"low": 0.05, "high": 5.0, "log": True},
        "router.balance": {"low": 0.0, "high": 1.0},
        "router.kind": {"choices": ["<b>soft</b>", "hard"]},
        "router.seed": {"fixed": 7},
    }
)


def told(count: int = 24) -> list[Told]:
    """Trials whose values the temperature decides; the third failed, the fifth was stopped early with the best value."""
    found = []
    for n in range(count):
        point = [(n * 0.37) % 1, (n * 0.61) % 1, 0.7, (n * 0.29) % 1]
        outcome: Outcome = {2: "failed", 4: "pruned"}.get(n, "done")  # type: ignore[assignment]
        value = None if n == 2 else 0.01 if n == 4 else 1.0 + (point[0] - 0.4) ** 2
        found.append(Told(n, SPACE.values(point), outcome, value, 60.0 + n, 1 + n % 2, 1e9, n))
    return found


def material(**given: Any) -> Material:
    """A study of 24 trials of 30, with a price."""
    trials = told()
    best = min((t for t in trials if t.outcome == "done"), key=lambda t: t.value or 0.0)
    spent = Spent(told=24, slot_s=7200, open_s=100, lost_s=600, hours=1.1)
    shape = [Ellipse(n, np.full(4, 0.5), np.eye(4) * 0.04 / (n + 1)) for n in range(5)]
    made = Material(
        name="router_temperature",
        settings={"studies/router_temperature": {"metric": "loss"}},
        searcher="cmaes, asynchronous",
        metric="loss",
        mode="min",
        prunes=True,
        space=SPACE,
        told=trials,
        shape=shape,
        best=Best(best.values, best.value or 0.0),
        command="jobs/fit_router.py 'router.temperature=0.31'",
        verdict="held out: 0.12 better than the default, 95 % interval 0.08 to 0.15",
        bill=Bill(spent, cost.forecast(spent, Limits(trials=30), 2, 0.5), 0.5, "EUR"),
        cadence=cadence.observed(2.0, 3, 7200),
        artifacts=[],
    )
    return replace(made, **given)


def text(page: str) -> str:
    """What a reader sees of a page, without its pictures."""
    shown = re.sub(r"<(svg|style|pre)\b.*?</\1>", " ", page, flags=re.S)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", shown)))


def test_it_says_who_won_and_how_to_run_it() -> None:
    page = report.page(material())
    best = material().best
    assert best is not None
    said = text(page)
    assert f"loss {best.value:.6g}" in said and "95 % interval 0.08 to 0.15" in said
    assert "24 trials have ended: 22 done , 1 failed , 1 pruned" in said.replace(" ,", " ,") or "22 done, 1 failed" in said
    assert unescape(page).count("jobs/fit_router.py 'router.temperature=0.31'") == 1
    assert "<b>soft" not in page  # a choice is text
    rows = re.findall(r"<tr( class=\"head\")?><td class=\"n\">\d+</td>", page)
    assert len(rows) == 24 and sum(bool(row) for row in rows) == 1


def test_every_picture_is_whole_and_stands_alone() -> None:
    page = report.page(material())
    pictures = re.findall(r"<svg viewBox=\"0 0.*?role=\"img\">.*?</svg>(?=\s*(?:</|<p|<div))", page, re.S)
    assert len(pictures) == 3  # history, parallel coordinates, one plane
    for picture in pictures:
        ElementTree.fromstring(picture)
    assert not re.findall(r"https?://|<script|<link|url\(", page)
    # In the plane the axes are real ones: logarithmic where the space is.
    assert ">0.1<" in pictures[2] and ">1<" in pictures[2] and "router.balance" in pictures[2]


def test_cost_and_cadence_are_the_numbers_that_were_given() -> None:
    said, given = text(report.page(material())), material()
    assert "so far 2.0 h 1.00 EUR" in said and "of it, attempts that were lost or killed 10.0 min 0.08 EUR" in said
    forecast, known = given.bill.forecast, given.cadence
    assert forecast is not None and known is not None
    assert f"to finish {report.span(forecast.slot_s)} {given.bill.price(forecast.slot_s)}" in said
    assert f"Young's interval {report.span(known.young_s)}" in said and f"Daly's interval {report.span(known.daly_s)}" in said
    assert "3 in 2 slot-hours" in said


def test_what_is_not_known_is_said_to_be_unknown() -> None:
    nothing = material(told=(), shape=(), best=None, command="", verdict="", cadence=None)
    nothing = replace(nothing, bill=Bill(Spent(0, 0.0), None, None, "USD"))
    said = text(report.page(nothing))
    for words in ("No trial has a value", "Too few trials", "No price is given", "No trial has said what"):
        assert words in said
    assert "USD" not in said and "to finish" not in said and "Where the search looked" not in said


def test_without_optuna_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "is_installed", lambda: False)
    said = text(report.page(material()))
    assert "Optuna is not installed. pip install 'medtrain[search]'" in said and "PED-ANOVA" not in said


@pytest.mark.skipif(not report.is_installed(), reason="Optuna is not installed")
def test_the_parameter_that_decides_is_the_most_important() -> None:
    page = report.page(material())
    names = re.findall(r"<tr><td class=\"metric\">([\w.]+)</td><td style", page)
    assert names[0] == "router.temperature" and len(names) == 3


def test_one_range_is_shown_over_updates_and_five_in_six_planes() -> None:
    few = Space({"x": {"low": 0.0, "high": 1.0}, "k": {"choices": ["a", "b"]}})
    many = Space({f"x{n}": {"low": 0.0, "high": 1.0} for n in range(5)})
    assert len(report.ellipses(few, [Ellipse(0, np.full(3, 0.5), np.eye(3))], [], [])) == 1
    shape = [Ellipse(0, np.full(5, 0.5), np.eye(5))]
    planes = report.ellipses(many, shape, [], [("x4", 0.9), ("x2", 0.1)])
    assert len(planes) == 6 and sum("x4" in plane for plane in planes) == 3 and not any("x3" in p for p in planes)
    assert report.ellipses(many, [], [], []) == []


@pytest.mark.parametrize(("seconds", "said"), [(0.25, "0.25 s"), (89.0, "89 s"), (600.0, "10.0 min"), (9000.0, "2.5 h")])
def test_times_are_for_people(seconds: float, said: str) -> None:
    assert report.span(seconds) == said
