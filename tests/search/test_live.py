"""medtrain.search.live: what a study says while it runs."""

import re
import time
from dataclasses import replace
from typing import Any

import pytest

from medtrain.artifacts import Policy
from medtrain.search import live, trial, trials
from medtrain.search.live import Live
from medtrain.search.study import Study
from medtrain.storage import Store


def test_a_line_for_each_trial_the_best_so_far_and_the_end(configured: Any, capsys: pytest.CaptureFixture[str]) -> None:
    config = configured(budget={"trials": 3}, price={"per_slot_hour": 1e6, "currency": "EUR"})
    study = Study(Store(config.storage.root), config, Policy())
    shown, quick = Live(study), trials.make(study.settings.trying, study.root, 1.0, False)
    for number in range(3):
        order = study.next()
        assert order is not None
        shown.began(order)
        trial.run(quick, study.store, order, "here", lambda step, numbers: None)
        shown.ended(study, order.number, study.ended(order.number))
        lines = capsys.readouterr().out.splitlines()
        told = study.told[number]
        assert told.number in lines[0] and "done" in lines[0] and f"loss={told.value:.6g}" in lines[0]
        assert study.best is not None
        assert f"{number + 1}/3" in lines[1] and f"best loss={study.best.value:.6g}" in lines[1]
        assert re.fullmatch(r"cost [\d.]+ EUR, about [\d.]+ EUR, .* to finish by budget.trials", lines[2]), lines[2]
        assert ("about 0.00 EUR" in lines[2]) == (number == 2)
    shown.close(study)
    end = capsys.readouterr().out
    assert "3 trials" in end and "EUR" in end and "ended by budget.trials=3" in end


def test_it_speaks_of_lost_trials_of_room_and_of_what_runs(
    configured: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(slots=4)
    study = Study(Store(config.storage.root), config, Policy())
    shown, order = Live(study), study.next()
    assert order is not None
    shown.ended(study, order.number, None)
    assert f"{order.number}  lost" in capsys.readouterr().out
    for places in (2, 2, 4, 0):
        shown.room(places, {"CPU": 2.0}, 4)
    assert [line.split(" of")[0] for line in capsys.readouterr().out.splitlines()] == ["room for 2", "room for 0"]
    shown.tick(study)
    assert not capsys.readouterr().out
    monkeypatch.setattr(live, "EVERY_S", -1.0)
    shown.tick(study)
    assert f"running: {order.number}" in capsys.readouterr().out


def end(study: Study, shown: Live) -> str:
    """One trial from its beginning to its end; its number."""
    order = study.next()
    assert order is not None
    quick = trials.make(study.settings.trying, study.root, 1.0, False)
    trial.run(quick, study.store, order, "here", lambda step, numbers: None)
    shown.ended(study, order.number, study.ended(order.number))
    return order.number


def test_what_went_wrong_is_said_with_the_folder(configured: Any, capsys: pytest.CaptureFixture[str]) -> None:
    broken = {"kind": "quick", "trouble": 1.0, "troubles": ["error"]}
    study = Study(Store(configured().storage.root), configured(trial=broken), Policy())
    number = end(study, Live(study))
    _, why, *_ = capsys.readouterr().out.splitlines()
    assert why.strip() == f"RuntimeError: no room; see {study.store.root}/trials/{number}"
    again = Live(study)
    again.ended(study, number, None)
    assert f"{number}  failed (RuntimeError: no room); it will be handed out again" in capsys.readouterr().out
    again.ended(study, "another", None, "OSError: disk full")
    assert "lost with its process or node (OSError: disk full)" in capsys.readouterr().out


def test_a_cadence_is_shown_once_and_again_where_it_has_moved(
    configured: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study(Store(configured().storage.root), configured(trial={"kind": "quick", "checkpoint_s": 2.0}), Policy())
    shown = Live(study)
    end(study, shown)
    seen = live.rhythm(study.told, study.past.attempts)
    assert seen is not None and seen.preemptions == 2
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "checkpoint" in line]
    young, daly = live.span(seen.young_s), live.span(seen.daly_s)
    assert line.startswith(f"a checkpoint each {seen.steps} steps: C 2 s, ")
    assert line.endswith(f"per slot-hour (2 seen), Young {young}, Daly {daly}")
    for factor, again in ((1.2, False), (0.5, True), (0.45, False), (0.1, True)):
        moved = replace(seen, steps=round((seen.steps or 0) * factor))
        monkeypatch.setattr(live, "rhythm", lambda told, attempts, moved=moved: moved)
        end(study, shown)
        said = [line for line in capsys.readouterr().out.splitlines() if "checkpoint" in line]
        assert bool(said) == again and all(f"each {moved.steps} steps" in line for line in said), factor
    assert "the study has its own" in live.rhythm_line(seen, paced=False)


def test_the_report_is_made_again_while_it_runs(
    configured: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "EVERY_S", 0.0)
    monkeypatch.setattr(live, "SHARE", 1e6)
    study = Study(Store(configured().storage.root), configured(), Policy())
    shown = Live(study)
    shown.tick(study)
    assert not study.store.exists("report.html"), "nothing has ended"
    number = end(study, shown)
    shown.tick(study)
    assert number in study.store.read("report.html").decode()
    study.store.delete("report.html")
    shown.tick(study)
    assert not study.store.exists("report.html"), "nothing new has ended"
    assert "to finish by budget.trials" in capsys.readouterr().out
    end(study, shown)
    monkeypatch.setattr(live, "page", lambda study: 1 / 0)
    shown.tick(study)
    assert "no report yet: ZeroDivisionError" in capsys.readouterr().out
    monkeypatch.setattr(live, "SHARE", 1e-9)
    end(study, shown)
    monkeypatch.setattr(live, "page", lambda study: time.sleep(0.01))
    shown.tick(study)
    assert shown._due > time.monotonic() + 3600, "one that takes long is made seldom"
