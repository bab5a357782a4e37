"""medtrain.search.settings: what a study refuses before anything runs."""

from typing import Any

import pytest

from medtrain.config import identity, parse
from medtrain.errors import ConfigError
from medtrain.search.settings import StudyConfig

ROUTER = {"kind": "fit", "library": "x", "tasks": {"x": {}}}


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({"trial": {"kind": "quik"}}, "did you mean 'quick'"),
        ({"trial": {"kind": "quick", "second": 1}}, "second"),
        ({"searcher": {"kind": "cmaes", "popsize": 3}}, "popsize"),
        ({"space": {"x": {"low": 2, "high": 1}}}, "is not below"),
        ({"searcher": {"reevaluate": 5}}, "trial.seed"),
        ({"trial": {"kind": "quick", "seed": "x"}}, "it is in the space"),
        ({"budget": {"cost": 3}}, "price.per_slot_hour"),
        ({"scheduler": {"kind": "hyperband"}}, "scheduler"),
        ({"name": "../up"}, "name"),
        ({"trial": ROUTER, "scheduler": {"kind": "asha"}}, "searcher.pruned=failed"),
        ({"trial": ROUTER, "scheduler": {"kind": "median"}, "searcher": {"kind": "random"}}, "searcher.pruned=failed"),
    ],
)
def test_it_refuses(configured: Any, study: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configured(**study)


def test_what_may_change_between_submissions_is_no_part_of_the_identity(configured: Any) -> None:
    one = configured()
    other = configured(
        slots=9, timeout_s=3, budget={"trials": 99}, keep=4, scheduler={"kind": "asha"}, price={"per_slot_hour": 1}
    )
    assert identity(one) == identity(other) != identity(configured(metric="accuracy"))


def test_what_is_stopped_in_the_middle_of_its_work_is_no_value(configured: Any) -> None:
    failed = configured(trial=ROUTER, scheduler={"kind": "asha"}, searcher={"kind": "cmaes", "pruned": "failed"})
    assert failed.study.scheduler.kind == "asha" and configured(trial=ROUTER).study.scheduler.kind == "none"


@pytest.mark.parametrize(
    ("budget", "most"),
    [({}, 24), ({"hours": 2}, None), ({"cost": 2}, None), ({"hours": 2, "trials": 5}, 5), ({"trials": None}, None)],
)
def test_trials_are_a_limit_by_default_only_where_there_is_no_other(
    configured: Any, budget: dict[str, Any], most: int | None
) -> None:
    config = configured(budget=budget, price={"per_slot_hour": 1})
    assert config.study.budget.trials == most
    assert parse(StudyConfig, config.model_dump(mode="json")).study.budget.trials == most, "also of a resolved config"
