"""Importance: the parameter that decides comes first, in either mode, and one that decides nothing gets little."""

import importlib.util
import random

import pytest

from medtrain.search.importance import importance, is_installed
from medtrain.search.space import Space, Values

SPACE = Space(
    {
        "rate": {"low": 1e-5, "high": 1e-2, "log": True},
        "rank": {"low": 4, "high": 64, "step": 4, "int": True},
        "kind": {"choices": ["lora", None, True, 1]},
        "size": {"fixed": 64},
    }
)
pytestmark = pytest.mark.skipif(not is_installed(), reason="Optuna is not installed")


def tried(decides: str, sign: float, count: int = 60) -> list[tuple[Values, float]]:
    """Trials at random whose value one parameter decides, with a little noise."""
    draw, found = random.Random(4), []
    for _ in range(count):
        point = [draw.random() for _ in SPACE.coordinates]
        values = SPACE.values(point)
        by = {"rate": (point[0] - 0.3) ** 2, "rank": (point[1] - 0.3) ** 2, "kind": values["kind"] != "lora"}[decides]
        found.append((values, sign * (by + 0.01 * draw.random())))
    return found


@pytest.mark.parametrize("decides", ["rate", "rank", "kind"])
def test_what_decides_comes_first(decides: str) -> None:
    low = importance(SPACE, tried(decides, 1.0), "min")
    assert low[0][0] == decides and low[0][1] > 1.3 * low[1][1]
    assert {name for name, _ in low} == {"rate", "rank", "kind"}
    assert sum(share for _, share in low) == pytest.approx(1)
    assert dict(importance(SPACE, tried(decides, -1.0), "max")) == pytest.approx(dict(low))
    assert importance(SPACE, tried(decides, 1.0), "max")[0][1] != pytest.approx(low[0][1])


def test_a_few_trials_say_nothing() -> None:
    assert importance(SPACE, tried("rate", 1.0, 9), "min") == []
    assert importance(SPACE, tried("rate", 1.0, 10), "min")


def test_it_is_known_whether_optuna_is_there() -> None:
    assert is_installed() == (importlib.util.find_spec("optuna") is not None)
