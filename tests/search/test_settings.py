"""medtrain.search.settings: what a study refuses before anything runs."""

from typing import Any

import pytest

from medtrain.config import identity
from medtrain.errors import ConfigError


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
