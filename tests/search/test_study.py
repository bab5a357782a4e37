"""medtrain.search.study: trials handed out and told, killed at any place, budgets, twins, losses, leftovers."""

import json
from typing import Any

import pytest

from medtrain.artifacts import Policy
from medtrain.errors import ConfigError, IdentityMismatch, MissingArtifact
from medtrain.search import cadence, trial, trials
from medtrain.search.settings import StudyConfig
from medtrain.search.study import Study, folder
from medtrain.search.told import read, rhythm
from medtrain.storage import Store


class Killed(BaseException):
    """The process ends here."""


def opened(config: StudyConfig, **policy: bool) -> Study:
    return Study(Store(config.storage.root), config, Policy(**policy))


def attempt(study: Study, order: trial.Order, killed: bool = False) -> trial.Ending:
    """Run a trial here, or begin it."""

    def report(step: int, numbers: dict[str, float]) -> None:
        if killed:
            raise Killed

    made = trials.make(study.settings.trying, study.root, 1.0, False)
    return trial.run(made, study.store, order, "here", report)


def finish(study: Study, most: int = 1000) -> Study:
    """Trials one after another until there are no more."""
    for _ in range(most):
        order = study.next()
        if order is None:
            break
        attempt(study, order)
        study.ended(order.number)
    return study


def test_a_study_runs_to_its_budget_and_its_winner_is_a_command(configured: Any) -> None:
    study = finish(opened(configured()))
    assert len(study.told) == 24 and study.over == "budget.trials=24" and study.best is not None
    assert study.best.value == min(told.value for told in study.told if told.value is not None) < 0.02
    x, y = study.best.values["x"], study.best.values["y"]
    assert study.command(study.best.values) == f"quick x={x!r} y={y!r}"
    assert [told.order for told in study.told] == list(range(24)) and len({told.number for told in study.told}) == 24
    assert read(study.store) == study.told
    assert 0 < study.hours() <= study.slot_hours() + 1e-9


@pytest.mark.parametrize("timing", ["generational", "asynchronous"])
@pytest.mark.parametrize("where", ["handed out", "running", "finished"])
def test_killed_there_each_time_it_goes_on_to_the_same_trials(configured: Any, timing: str, where: str) -> None:
    given = {"searcher": {"kind": "cmaes", "timing": timing}, "budget": {"trials": 14}}
    config = configured(name="killed", **given)
    for _ in range(14):
        study = opened(config)
        order = study.next()
        if order is None:
            break
        if where == "running":
            with pytest.raises(Killed):
                attempt(study, order, killed=True)
            attempt(opened(config), order)
        elif where == "finished":
            assert attempt(study, order).facts["attempts"] == 1
        else:
            order = opened(config).next()
            assert order is not None and order.number == study.running[len(study.told)].number
            attempt(study, order)
    study, whole = finish(opened(config)), finish(opened(configured(name="whole", **given)))
    assert [(told.values, told.value) for told in study.told] == [(told.values, told.value) for told in whole.told]
    assert {told.attempts for told in study.told} == {2 if where == "running" else 1}
    following = [[study.recorded.ask(), study.recorded.ask()] for study in (study, whole)]
    assert following[0] == following[1], "the same distribution, too"


def test_trials_write_checkpoints_as_often_as_the_earlier_ones_say(configured: Any) -> None:
    study = opened(configured(trial={"kind": "quick", "checkpoint_s": 2.0}))
    first, second = study.next(), study.next()
    assert first is not None and second is not None
    assert not [word for order in (first, second) for word in order.overrides if "every" in word]
    attempt(study, first)
    study.ended(first.number)
    third = study.next()
    seen = rhythm(study.told, study.past.attempts)
    assert third is not None and seen is not None and seen.preemptions == 2, "started three times in one attempt"
    assert seen.steps == cadence.every_steps(2.0, 0.5, seen.per_hour) and third.overrides[-1] == f"every={seen.steps}"
    again = opened(study.config).next()
    assert again is not None and again.number == second.number and again.overrides[-1] == third.overrides[-1]


def test_several_that_were_out_are_handed_out_again_with_the_same_values(configured: Any) -> None:
    config = configured(budget={"trials": 8})
    first = opened(config)
    out = [first.next() for _ in range(4)]
    second = opened(config)
    assert [second.next() for _ in range(4)] == out and not second.over
    finish(second)
    assert len(second.told) == 4 and len(second.running) == 4


def test_a_lost_trial_comes_again_until_it_was_lost_too_often(configured: Any) -> None:
    study = opened(configured(runtime={"max_failures": 2}, searcher={"kind": "random"}))
    order = study.next()
    assert order is not None
    for _ in range(2):
        with pytest.raises(Killed):
            attempt(study, order, killed=True)
        assert study.ended(order.number) is None
        study = opened(study.config)
        assert study.next() == order
    told = study.ended(order.number)
    assert told is not None and told.outcome == "failed"
    assert [one.how for one in trial.attempts(study.store, order.number)] == ["lost", "lost"]


def test_failures_count_once_and_are_read_back_too(configured: Any) -> None:
    broken = {"kind": "quick", "trouble": 1.0, "troubles": ["error"]}
    config = configured(trial=broken, searcher={"kind": "random"}, budget={"trials": 12})
    study = opened(config)
    order = study.next()
    assert order is not None and attempt(study, order).how == "failed"
    again = opened(config)
    assert again.next() != order
    assert again.told[-1].outcome == "failed" and len(trial.attempts(again.store, order.number)) == 1


def test_no_number_is_a_failure_and_stopped_early_is_pruned_and_stays_so(configured: Any) -> None:
    study = opened(configured(metric="accuracy"))
    order = study.next()
    assert order is not None
    attempt(study, order)
    told = study.ended(order.number)
    assert told is not None and (told.outcome, told.value) == ("failed", None) and "loss" in told.metrics
    order = study.next()
    assert order is not None
    with pytest.raises(Killed):
        attempt(study, order, killed=True)
    told = study.ended(order.number, stopped=3.0)
    assert told is not None and (told.outcome, told.value) == ("pruned", 3.0)
    assert not trial.runs(study.store, order.number)
    assert read(study.store) == study.told


def test_the_same_setting_twice_is_one_trial(configured: Any) -> None:
    few = {"x": {"choices": [0.1, 0.9]}, "y": {"fixed": 0.5}}
    study = opened(configured(space=few, searcher={"kind": "random"}, budget={"trials": 12}, slots=3))
    first, second = study.next(), study.next()
    assert first is not None and second is not None and first.number != second.number
    assert study.next() is None and not study.told, "what is out is not begun twice"
    attempt(study, first)
    study.ended(first.number)
    finish(study)
    attempt(study, second)
    study.ended(second.number)
    finish(study)
    assert len(study.told) == 12 and len({told.number for told in study.told}) == 2
    assert all(len(trial.attempts(study.store, number)) == 1 for number in (first.number, second.number))


def test_a_setting_that_is_tried_again_has_another_seed(configured: Any) -> None:
    given = {"trial": {"kind": "quick", "seed": "seed"}, "searcher": {"kind": "cmaes", "reevaluate": 4}}
    study = finish(opened(configured(**given)))
    again = [trial.about(study.store, told.number) for told in study.told]
    repeats = [order for order in again if order is not None and order.repeat]
    assert repeats and all(f"seed={order.repeat}" in order.overrides for order in repeats)


@pytest.mark.parametrize(
    ("budget", "price", "over"),
    [
        ({"trials": None, "hours": 1e-9}, {}, "budget.hours=1e-09"),
        ({"trials": None, "cost": 1e-9}, {"per_slot_hour": 5.0}, "budget.cost=1e-09 USD"),
        ({"trials": 3}, {}, "budget.trials=3"),
    ],
)
def test_budgets(configured: Any, budget: dict[str, Any], price: dict[str, Any], over: str) -> None:
    study = finish(opened(configured(budget=budget, price=price)))
    assert study.over == over and len(study.told) == (budget["trials"] or 1)
    more = opened(configured(budget={"trials": 5}))
    assert len(finish(more).told) == 5, "a greater budget goes on"


def test_a_spent_budget_ends_a_study_that_was_killed_with_trials_out(configured: Any) -> None:
    study = opened(configured())
    order = study.next()
    assert order is not None
    attempt(study, order)
    study.ended(order.number)
    assert study.next() is not None
    again = opened(configured(budget={"trials": None, "hours": 1e-9}))
    assert again.over == "budget.hours=1e-09" and again.next() is None
    assert not opened(configured()).over


def test_hours_count_what_ran_at_once_only_once(configured: Any) -> None:
    study = opened(configured())
    for number, (began, until) in enumerate([(0.0, 3600.0), (1800.0, 5400.0), (7200.0, 7200.0 + 1800)]):
        made = trial.Attempt(number=1, began=began, seen=until, ended=until, how="done")
        study.past.attempts[str(number)] = [made]
    assert (study.hours(), study.slot_hours(), study.cost()) == (2.0, 2.5, None)


def test_only_the_best_keep_their_files(configured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    study = opened(configured(keep=2, budget={"trials": 8}))
    while (order := study.next()) is not None:
        study.store.write(f"trials/{order.number}/files/checkpoint", b"big")
        study.store.write(f"trials/{order.number}/identity.json", _identity(order))
        attempt(study, order)
        study.ended(order.number)
    best = sorted(study.told, key=lambda told: told.value or 0.0)[:2]
    kept = {told.number for told in study.told if study.store.exists(f"trials/{told.number}/files/checkpoint")}
    assert kept == {told.number for told in best}
    assert all(told.metrics["loss"] == told.value for told in read(study.store))


def test_an_earlier_study_s_trials_count(configured: Any) -> None:
    first = finish(opened(configured(name="first")))
    config = configured(name="second", earlier=["first"])
    second = opened(config)
    assert second.best == first.best and not second.told
    assert opened(config).recorded.events == second.recorded.events, "taken in once"
    with pytest.raises(MissingArtifact, match="no study other"):
        opened(configured(name="third", earlier=["other"]))


def test_it_refuses_to_go_on_as_something_else(configured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(opened(configured(budget={"trials": 2})))
    with pytest.raises(IdentityMismatch, match="metric"):
        opened(configured(metric="other"))
    with pytest.raises(IdentityMismatch, match="--again"):
        opened(configured(trial={"kind": "quick", "seconds": 0.1}))
    with pytest.raises(IdentityMismatch, match="journal"):
        opened(configured(searcher={"kind": "random"}))
    assert not opened(configured(metric="other"), again=True).told


def test_a_name_that_the_base_config_has_not_is_seen_at_once(configured: Any, store: Store) -> None:
    with pytest.raises(ConfigError, match=r"z"):
        opened(configured(name="typo", space={"z.": {"low": 0, "high": 1}}))
    assert not folder(store, "typo").exists("journal")


def _identity(order: trial.Order) -> bytes:
    return json.dumps(order.identity).encode()
