"""Ray Tune's searcher: its contract as Ray's own tests put it, and a real study with trials that end out of order."""

import math
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search import Searcher as RaySearcher

from medtrain.errors import ConfigError, IdentityMismatch, TrainingError
from medtrain.search.journal import Recorded
from medtrain.search.launch import REPEAT, TuneSearcher
from medtrain.search.space import Values

SPACE: dict[str, Any] = {
    "optimizer.learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
    "rank": {"low": 1, "high": 8, "int": True},
}


def made(kind: str = "cmaes", full: tuple[str, float] | None = None, **given: Any) -> TuneSearcher:
    """A searcher for the metric `loss`."""
    return TuneSearcher(Recorded({"kind": kind, **given}, SPACE, {}), "loss", full)


def loss(values: Values) -> float:
    """Least at 1e-3 and 4."""
    return math.log10(values["optimizer.learning_rate"] / 1e-3) ** 2 + abs(values["rank"] - 4)


def run(searcher: TuneSearcher, first: int, last: int) -> list[Any]:
    """Trials one after the other."""
    seen = []
    for number in range(first, last):
        found = searcher.suggest(f"trial{number}")
        assert isinstance(found, dict)
        seen.append(found)
        searcher.on_trial_complete(f"trial{number}", {"loss": loss(found), "training_iteration": 1})
    return seen


def test_it_is_a_searcher_that_takes_the_metric_and_no_other() -> None:
    searcher = made()
    assert isinstance(searcher, RaySearcher) and (searcher.metric, searcher.mode) == ("loss", "min")
    assert searcher.set_search_properties(None, None, {}) is True
    assert searcher.set_search_properties("loss", "min", {"data": 3}, num_samples=9) is True
    for metric, mode, config, message in (
        ("accuracy", None, {}, "tune_config.metric=accuracy: the search has metric=loss"),
        (None, "max", {}, "mode=max: the search has mode=min"),
        (None, None, {"rank": 3}, "param_space: rank is in the search space"),
    ):
        with pytest.raises(ConfigError, match=message):
            searcher.set_search_properties(metric, mode, config)
    assert made(mode="max").mode == "max"


@pytest.mark.parametrize("kind", ["cmaes", "random", "grid"])
def test_saved_and_restored_it_goes_on_as_if_nothing_had_been(kind: str, tmp_path: Path) -> None:
    searcher, path = made(kind), tmp_path / "searcher-state.pkl"
    run(searcher, 0, 15)
    running = searcher.suggest("running")
    searcher.save(str(path))
    again = made(kind)
    again.restore(str(path))
    assert type(again.search.search) is type(searcher.search.search) and again.search.search.told == 15
    with pytest.raises(ValueError, match="trial running: has its parameters already"):
        again.suggest("running")
    for one in (searcher, again):
        assert isinstance(running, dict)
        one.on_trial_complete("running", {"loss": loss(running)})
    assert run(again, 15, 24) == run(searcher, 15, 24) and again.search.events == searcher.search.events
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_state_of_another_search_or_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    searcher = made()
    run(searcher, 0, 3)
    searcher.save(str(path))
    with pytest.raises(IdentityMismatch, match="begin anew"):
        made(seed=9).restore(str(path))
    path.write_text("{")
    with pytest.raises(TrainingError, match="begin anew without it"):
        made().restore(str(path))


@pytest.mark.parametrize(
    ("result", "error", "counts"),
    [
        ({"loss": 1.0}, False, True),
        ({"loss": 1}, False, True),
        ({"eval": {"loss": 1.0}}, False, False),
        ({"loss": math.nan}, False, False),
        ({"loss": math.inf}, False, False),
        ({"loss": "low"}, False, False),
        ({"loss": None}, False, False),
        ({}, False, False),
        (None, False, False),
        (None, True, False),
        ({"loss": 1.0}, True, False),
    ],
)
def test_what_counts_as_a_value(result: dict[str, Any] | None, error: bool, counts: bool) -> None:
    searcher = made("random")
    searcher.suggest("t")
    searcher.on_trial_result("t", result or {})
    searcher.on_trial_complete("t", result, error)
    searcher.on_trial_complete("t", {"loss": 0.0})
    searcher.on_trial_complete("never heard of", {"loss": 0.0})
    assert (searcher.search.search.best is not None) == counts and searcher.search.search.told == 1


@pytest.mark.parametrize("result", [{"eval/loss": 2.0}, {"eval": {"loss": 2.0}}])
def test_a_metric_may_lie_inside(result: dict[str, Any]) -> None:
    searcher = TuneSearcher(Recorded({"kind": "random"}, SPACE, {}), "eval/loss")
    searcher.suggest("t")
    searcher.on_trial_complete("t", result)
    assert searcher.search.search.best is not None and searcher.search.search.best.value == 2.0


def test_a_trial_that_was_stopped_early_is_known_by_its_budget() -> None:
    for at, outcome in ((3, "pruned"), (9, "done")):
        searcher = made("random", full=("training_iteration", 9))
        searcher.suggest("t")
        searcher.on_trial_complete("t", {"loss": 1.0, "training_iteration": at})
        assert searcher.search.events[-1]["outcome"] == outcome


def test_no_more_run_at_once_than_allowed_and_the_limit_may_change() -> None:
    searcher = made()
    limited = ConcurrencyLimiter(searcher, max_concurrent=3)
    assert [limited.suggest(f"t{number}") is None for number in range(4)] == [False] * 3 + [True]
    searcher.set_max_concurrency(5)
    assert [limited.suggest(f"u{number}") is None for number in range(3)] == [False] * 2 + [True]
    searcher.set_max_concurrency(1)
    limited.on_trial_complete("t0", {"loss": 1.0})
    assert limited.suggest("v") is None


def test_by_generations_it_says_ask_later_and_then_goes_on() -> None:
    searcher = made(timing="generational")
    first = [searcher.suggest(f"t{number}") for number in range(7)]
    assert first[-1] is None and all(isinstance(found, dict) for found in first[:-1])
    for number in range(6):
        searcher.on_trial_complete(f"t{number}", {"loss": float(number)})
    assert isinstance(searcher.suggest("t6"), dict)


def test_it_says_when_there_is_no_more() -> None:
    searcher = made("grid", points=2)
    run(searcher, 0, 4)
    assert searcher.suggest("t") == RaySearcher.FINISHED


def test_a_lost_trial_comes_again_and_repeats_are_counted() -> None:
    searcher = made("random", reevaluate=2)
    first = searcher.suggest("a")
    searcher.lost("a")
    searcher.lost("never heard of")
    assert searcher.suggest("b") == first and isinstance(first, dict) and first[REPEAT] == 0
    searcher.on_trial_complete("b", {"loss": -1.0})
    searcher.suggest("c")
    searcher.on_trial_complete("c", {"loss": 0.0})
    assert searcher.suggest("d") == {**first, REPEAT: 1}


def test_trials_of_another_study_count() -> None:
    searcher = made()
    for number in range(12):
        searcher.add_evaluated_point({"optimizer.learning_rate": 1e-3, "rank": 4, "data": 1}, number)
    searcher.add_evaluated_point({"optimizer.learning_rate": 1e-4, "rank": 1}, -1.0, error=True)
    best = searcher.search.search.best
    assert best is not None and best.value == 5.5 and best.tries == 12
    assert all(abs(found["rank"] - 4) <= 3 for found in run(searcher, 0, 6))


def trial(config: dict[str, Any]) -> None:
    """A trial of Ray Tune: a seventh fails, and short ones overtake long ones."""
    import time

    from ray import tune

    time.sleep(0.05 + 0.2 * (config["rank"] % 3))
    if config["rank"] == 7:
        raise RuntimeError("no room for rank 7")
    tune.report({"loss": loss(config)})


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("timing", ["asynchronous", pytest.param("generational", marks=pytest.mark.long)])
def test_a_real_study(timing: str, tmp_path: Path) -> None:
    searcher = made(timing=timing, seed=4)
    tuner = tune.Tuner(
        tune.with_resources(trial, {"cpu": 1}),
        tune_config=tune.TuneConfig(search_alg=searcher, num_samples=12, max_concurrent_trials=4, reuse_actors=True),
        run_config=tune.RunConfig(storage_path=str(tmp_path), name="study", verbose=0),
    )
    results = tuner.fit()
    search = searcher.search.search
    assert len(results) == 12 and search.told == 12
    best = results.get_best_result("loss", "min")
    assert search.best is not None and best.metrics is not None and best.metrics["loss"] == search.best.value
