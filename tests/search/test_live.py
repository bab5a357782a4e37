"""medtrain.search.live: what a study says while it runs."""

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
