"""The report of a study: what it says, and that it says nothing that is not known."""

import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from medtrain.artifacts import Policy
from medtrain.config import parse
from medtrain.search import cadence, cost, history, report, trial, trials
from medtrain.search.bill import Bill
from medtrain.search.cost import Limits, Spent
from medtrain.search.history import Ellipse
from medtrain.search.report import Material
from medtrain.search.searcher import Best, Outcome
from medtrain.search.settings import StudyConfig
from medtrain.search.space import Space
from medtrain.search.study import Study
from medtrain.search.told import Told
from medtrain.search.trials import Report, Stopped
from medtrain.storage import Store

TOY = '''"""A trial that is a formula."""
from typing import Literal
from medtrain.artifacts import Identity
from medtrain.search.trials import TrialConfig
class Config(TrialConfig):
    """None."""
    kind: Literal["toy"] = "toy"
def base(config, root):
    return {"x": 0.5, "y": 0.1}
def identity(config, root, overrides):
    return Identity({"overrides": list(overrides)}, {}, "")
def command(config, overrides):
    return " ".join(["toy", *overrides])
def named(config, root, study, number):
    return [f"name={study}-{number}"]
'''

SPACE = Space(
    {
        "router.temperature": {"low": 0.05, "high": 5.0, "log": True},
        "router.balance": {"low": 0.0, "high": 1.0},
        "router.kind": {"choices": ["<b>soft</b>", "hard"]},
        "router.seed": {"fixed": 7},
    }
)


def told(count: int = 24) -> list[Told]:
    """Trials whose values the temperature decides; the third failed, the fifth, stopped early, has the best value."""
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
    assert "24 trials have ended: 22 done, 1 failed, 1 pruned." in said
    assert unescape(page).count("jobs/fit_router.py 'router.temperature=0.31'") == 1
    assert "<b>soft" not in page  # a choice is text
    rows = re.findall(r"<tr( class=\"head\")?><td class=\"n\">\d+</td>", page)
    assert len(rows) == 24 and sum(bool(row) for row in rows) == 1


def test_every_picture_is_whole_and_stands_alone() -> None:
    page = report.page(material())
    pictures = re.findall(r"<svg viewBox=\"0 0.*?</svg>(?!</svg>)", page, re.S)
    assert len(pictures) == 3  # history, parallel coordinates, one plane
    for picture in pictures:
        ElementTree.fromstring(picture)
    assert not re.findall(r"https?://|<script|<link|url\(", page)
    # In the plane the axes are real ones: logarithmic where the space is.
    assert ">0.1<" in pictures[2] and ">1<" in pictures[2] and "router.balance" in pictures[2]


def test_cost_and_cadence_are_the_numbers_that_were_given() -> None:
    said, given = text(report.page(material())), material()
    assert "so far 2.0 h 1.00 EUR" in said and "of it, attempts that were lost or killed 10 min 0.08 EUR" in said
    forecast, known = given.bill.forecast, given.cadence
    assert forecast is not None and known is not None
    assert f"to finish {report.span(forecast.slot_s)} {given.bill.price(forecast.slot_s)}" in said
    for name, seconds in (("Young's", known.young_s), ("Daly's", known.daly_s)):
        assert f"{name} interval {report.span(seconds)}" in said
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


def test_what_went_wrong_is_said_in_a_line_and_only_where_something_has() -> None:
    long = "line ended with 1:\nTraceback\nerror: no room at s3://AKIA:secret@bucket/a <b>\n"
    failed = [replace(one, outcome="failed", error=error) for one, error in zip(told(2), (long, ""), strict=True)]
    said = "error: no room at s3://…@bucket/a <b>"
    assert [report.why(one) for one in failed] == [said, ""]
    page = report.page(material(told=failed))
    assert "<th>what went wrong</th>" in page and said in unescape(page) and "a <b>" not in page
    fine = [one for one in told() if one.outcome != "failed"]
    assert "what went wrong" not in report.page(material(told=fine)) and report.why(replace(fine[0], error="x")) == ""


def test_keys_in_a_storage_uri_are_left_out() -> None:
    command = "jobs/stage2.py 'storage.root=s3://AKIA:se+cret@bucket/a@b' x=1"
    assert report.without_keys(command) == "jobs/stage2.py 'storage.root=s3://…@bucket/a@b' x=1"
    assert report.without_keys("storage.root=s3://bucket/a@b") == "storage.root=s3://bucket/a@b"


class Toy:
    """Runs the formula; every third attempt is lost with its node."""

    def __init__(self) -> None:
        self.count = 0

    def run(self, folder: Store, overrides: list[str], told: Report) -> dict[str, Any]:
        self.count += 1
        if self.count % 3 == 0:
            raise Stopped("lost")
        x, y = (float(override.split("=")[1]) for override in overrides[:2])
        return {"loss": (x - 0.3) ** 2 + y, "checkpoint_s": 0.5 + self.count % 2}


def test_it_is_made_from_a_study_s_folder(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plugins/search/trials").mkdir(parents=True)
    (tmp_path / "plugins/search/trials/toy.py").write_text(TOY)
    monkeypatch.setenv("MEDTRAIN_PLUGINS", str(tmp_path / "plugins"))
    space = {"x": {"low": 0.0, "high": 1.0}, "y": {"low": 1e-3, "high": 1.0, "log": True}}
    wanted = {"name": "toys", "trial": {"kind": "toy"}, "space": space, "metric": "loss", "budget": {"trials": 20}}
    wanted["price"] = {"per_slot_hour": 3600.0}  # a second of a slot costs one
    config = parse(StudyConfig, {"storage": {"root": store.root}, "runtime": {"max_failures": -1}, "study": wanted})
    study, toy = Study(store, config, Policy()), Toy()
    while len(study.told) < 14:
        order = study.next()
        assert order is not None
        trial.run(toy, study.store, order, "node", lambda step, numbers: None)
        study.ended(order.number)
    shape = history.ellipses(study.recorded)
    path = report.build(study.store, config, study.told, shape, study.best, verdict="held out: better")
    page = study.store.read("report.html").decode()
    assert path == f"{study.store.root}/report.html"
    best = min(study.told, key=lambda one: one.value or 0.0)
    ran = trial.about(study.store, best.number)
    assert ran is not None and trials.command(study.settings.trying, ran.overrides) in unescape(page)
    assert f"name=toys-{best.number}" in page and "held out: better" in page
    assert f"trials/{best.number}" in page  # how the winner was made
    every = [one for number in study.store.folders("trials") for one in trial.attempts(study.store, number)]
    lost = sum(one.how == "lost" for one in every)
    assert lost == toy.count // 3 >= 5
    seconds = sum(one.until - one.began for one in every)
    said = text(page)
    assert f"so far {report.span(seconds)} {seconds:.2f} USD" in said
    assert f"{lost} in {seconds / 3600:.3g} slot-hours" in said
    assert "at 20 trials; ends by its budget of trials" in said
    assert len(re.findall(r"<tr(?: class=\"head\")?><td class=\"n\">", page)) == 14
    assert f"over {len(shape) - 1} updates" in said
    assert store.root not in page
