"""medtrain.search.study: trials handed out and told, killed at any place, budgets, twins, losses, leftovers."""

import json
from typing import Any

import pytest

from medtrain import plugins
from medtrain.artifacts import Policy
from medtrain.errors import ConfigError, IdentityMismatch, MissingArtifact, TrainingError
from medtrain.search import cadence, judging, trial, trials
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
    assert 0 < study.used.hours <= study.used.slot_hours + 1e-9


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
    assert again.told[-1].error == read(again.store)[-1].error == "RuntimeError: no room"


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
    config = configured(space=few, searcher={"kind": "random"}, budget={"trials": 12}, slots=3)
    study = opened(config)
    first, second = study.next(), study.next()
    assert first is not None and second is not None and first.number != second.number
    assert study.next() is None and not study.told, "what is out is not begun twice"
    asked = len(study.recorded.events)
    assert study.next() is None and len(study.recorded.events) == asked, "nor asked for again and again"
    study = opened(config)
    assert {order.number for order in (study.next(), study.next()) if order} == {first.number, second.number}
    for order in (first, second):
        attempt(study, order)
        study.ended(order.number)
        assert not study.over or order == second
    finish(study)
    assert study.over == "every setting it suggests is known" and study.next() is None
    assert {told.number for told in study.told} == {first.number, second.number} and len(study.told) == 2
    assert all(len(trial.attempts(study.store, number)) == 1 for number in (first.number, second.number))
    assert read(study.store) == study.told


@pytest.mark.parametrize("kind", ["cmaes", "random"])
def test_a_space_of_which_all_is_known_ends_a_study_of_hours(configured: Any, kind: str) -> None:
    few = {"x": {"low": 0, "high": 1, "step": 0.5}, "y": {"fixed": 0.5}}
    config = configured(space=few, searcher={"kind": kind}, budget={"trials": None, "hours": 1.0})
    study = finish(opened(config))
    assert study.over == "every setting it suggests is known" and len(study.told) == 3
    assert len(study.recorded.events) < 300
    assert finish(opened(config)).over == study.over


def test_a_setting_that_failed_or_was_stopped_early_is_not_run_again(configured: Any) -> None:
    few = {"x": {"choices": [0.1, 0.9]}, "y": {"fixed": 0.5}}
    study = opened(configured(space=few, searcher={"kind": "random"}, budget={"trials": 12}))
    for stopped in (None, 3.0):
        order = study.next()
        assert order is not None
        with pytest.raises(Killed):
            attempt(study, order, killed=True)
        trial.end(study.store, order.number, "failed", "no room") if stopped is None else None
        study.ended(order.number, stopped)
    finish(study)
    assert study.over.endswith("is known") and [told.outcome for told in study.told] == ["failed", "pruned"]
    assert {event["outcome"] for event in study.recorded.events if event.get("known")} == {"failed", "pruned"}


@pytest.mark.parametrize("killed", [False, True])
def test_a_trial_that_is_tried_again_is_one_trial(configured: Any, killed: bool) -> None:
    broken = {"kind": "quick", "trouble": 1.0, "troubles": ["error"]}
    config = configured(trial=broken, searcher={"kind": "random", "retries": 2}, budget={"trials": 4})
    study, none = opened(config), 0
    while (order := study.next()) is not None:
        attempt(study, order)
        none += study.ended(order.number) is None
        study = opened(config) if killed else study
    assert [told.attempts for told in study.told] == [3] * 4 and none == 8 and study.over == "budget.trials=4"
    assert len({told.number for told in study.told}) == 4
    if not killed:
        assert read(study.store) == study.told


class Room:
    """Trials of `quick` fail for a cause outside of them, until somebody mends it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        quick = plugins.load("search", "trials", "quick").Trials
        self._run, self.is_there = quick.run, False
        monkeypatch.setattr(quick, "run", lambda *given: self._at(*given))

    def _at(self, *given: Any) -> Any:
        if not self.is_there:
            raise OSError("no room")
        return self._run(*given)


SEARCHES = {
    "asynchronous": ({"kind": "cmaes"}, None),
    "generational": ({"kind": "cmaes", "timing": "generational"}, None),
    "few settings": ({"kind": "cmaes"}, {"x": {"choices": [0.1, 0.9]}, "y": {"fixed": 0.5}}),
}


@pytest.mark.parametrize("which", SEARCHES)
def test_a_study_whose_trials_all_failed_goes_on_once_the_cause_is_mended(
    configured: Any, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    searcher, space = SEARCHES[which]
    config = configured(searcher=searcher, budget={"trials": 40}, **({"space": space} if space else {}))
    room, attempts = Room(monkeypatch), list[int]()
    for _ in range(3):
        study = opened(config)
        with pytest.raises(TrainingError, match="see why they fail"):
            finish(study)
        attempts.append(sum(len(trial.attempts(study.store, number)) for number in study.store.folders("trials")))
    assert attempts[1:] == [attempts[0] + 1, attempts[0] + 2], "each submission tries the last one again"
    room.is_there = True
    study = finish(opened(config))
    assert study.best is not None and study.over and study.told[-1].outcome == "done"
    assert [(told.values, told.value) for told in read(study.store)] == [(t.values, t.value) for t in study.told]


@pytest.mark.parametrize("killed", [False, True])
def test_a_generation_that_failed_as_a_whole_is_run_once_more(
    configured: Any, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    searcher = {"kind": "cmaes", "timing": "generational", "population": 4}
    config = configured(searcher=searcher, budget={"trials": 12})
    study, room = opened(config), Room(monkeypatch)
    for number in range(12):
        room.is_there = number >= 4
        order = study.next()
        assert order is not None
        attempt(study, order)
        study = opened(config) if killed and number in (3, 5) else study
        if order.number in {out.number for out in study.running.values()}:
            study.ended(order.number)
    finish(study)
    outcomes = [told.outcome for told in study.told]
    assert outcomes == ["failed"] * 4 + ["done"] * 8 and study.over == "budget.trials=12"
    assert [told.number for told in study.told[:4]] == [told.number for told in study.told[4:8]]
    assert len(trial.attempts(study.store, study.told[0].number)) == 2


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


@pytest.mark.parametrize(
    ("searcher", "beside"), [({"reevaluate": 2}, {"seed": "seed"}), ({"pruned": "failed"}, {})], ids=["lucky", "pruned"]
)
def test_what_is_kept_is_what_the_searcher_ranks_best(
    configured: Any, searcher: dict[str, Any], beside: dict[str, Any]
) -> None:
    """A first value that was luck, and one of a trial that was stopped early, are below all others."""
    config = configured(keep=1, trial={"kind": "quick", **beside}, searcher={"kind": "random", **searcher})
    study, values = opened(config), [-9.0, 2.0, 30.0, 1.0, 3.0]
    for number, value in enumerate(values):
        order = study.next()
        assert order is not None
        is_stopped, own = "pruned" in searcher and number == 0, study.store.sub(f"trials/{order.number}")
        if not is_stopped:
            facts = {**attempt(study, order).facts, "metrics": {"loss": value}}
            known = json.loads(own.read("manifest.json"))
            own.write("manifest.json", json.dumps({**known, "facts": facts}).encode())
        own.write("files/checkpoint", b"big")
        study.ended(order.number, stopped=value if is_stopped else None)
    study.tidy()
    assert study.best is not None and study.best.value == 1.0
    kept = {told.value for told in study.told if study.store.exists(f"trials/{told.number}/files/checkpoint")}
    assert kept == {1.0}


def test_the_best_setting_itself_is_judged(configured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(trial={"kind": "quick", "seed": "seed"}, searcher={"kind": "random", "reevaluate": 2})
    study = opened(config)
    assert judging.winner(study) is None and not judging.silence(study)
    for value in (-9.0, 2.0, 30.0, 3.0):
        made = study.recorded.ask()
        assert made is not None
        event = study.recorded.tell(made.id, "done", value)
        study.past.tell(made, event, str(made.id))
    assert judging.winner(study) is None, "its kind cannot judge"
    monkeypatch.setattr(plugins.load("search", "trials", "quick").Trials, "judge", None, raising=False)
    won = judging.winner(study)
    assert study.best is not None and won is not None and (won.value, won.values) == (2.0, study.best.values)
    study.recorded.add({"x": 0.3, "y": 0.7}, "done", -10.0)
    assert judging.winner(study) is None and "open" in judging.silence(study)


def test_an_earlier_study_s_trials_count(configured: Any) -> None:
    first = finish(opened(configured(name="first")))
    config = configured(name="second", earlier=["first"])
    second = opened(config)
    assert second.best == first.best and not second.told
    assert opened(config).recorded.events == second.recorded.events, "taken in once"
    with pytest.raises(MissingArtifact, match="no study other"):
        opened(configured(name="third", earlier=["other"]))
    with pytest.raises(IdentityMismatch, match="earlier"):
        opened(configured(name="second"))


def test_an_earlier_study_of_other_values_teaches_or_is_refused(configured: Any) -> None:
    first = finish(opened(configured(name="first")))
    config = configured(name="second", earlier=["first"], trial={"kind": "quick", "steps": 2})
    for second in (opened(config), opened(config)):
        assert second.best is None, "its values are of something else"
        assert [event["counts"] for event in second.recorded.events if event["event"] == "add"] == [False] * 24
    order = second.next()
    assert order is not None and first.best is not None
    assert abs(order.values["x"] - first.best.values["x"]) < 0.35 and second.recorded.search.shape is not None
    mean, alone = second.recorded.search.shape[0], opened(configured(name="alone")).recorded
    alone.ask()
    assert alone.search.shape is not None and tuple(mean) != tuple(alone.search.shape[0]), "the search has learned"
    with pytest.raises(ConfigError, match="earlier=first: its metric is loss and this study's accuracy"):
        opened(configured(name="third", earlier=["first"], metric="accuracy"))
    with pytest.raises(ConfigError, match="its mode is min and this study's max"):
        opened(configured(name="fourth", earlier=["first"], searcher={"kind": "cmaes", "mode": "max"}))


def test_of_two_submissions_one_is_told(configured: Any) -> None:
    one = opened(configured())
    order = one.next()
    other = opened(one.config)
    assert order is not None and other.next() == order and other.next() is not None
    attempt(other, order)
    for call in (one.next, lambda: one.ended(order.number)):
        with pytest.raises(ConfigError, match=r"00000002\.json is there already.*end the other one"):
            call()
    told = other.ended(order.number)
    assert told is not None and told.outcome == "done" and len(opened(one.config).told) == 1


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
