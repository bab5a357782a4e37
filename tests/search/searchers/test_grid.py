"""The grid: every combination once, and an end."""

import pytest

from medtrain.errors import ConfigError
from medtrain.search import searchers
from medtrain.search.space import Space

SPACE = Space(
    {
        "lr": {"low": 1e-4, "high": 1e-2, "log": True},
        "n": {"low": 1, "high": 2, "int": True},
        "kind": {"choices": ["a", "b"]},
        "seed": {"fixed": 3},
    }
)


def test_every_combination_comes_once_and_lost_ones_again() -> None:
    searcher = searchers.make({"kind": "grid", "points": 3}, SPACE, {})
    made = []
    while (suggestion := searcher.ask()) is not None:
        made.append(suggestion)
    assert [tuple(s.values.values()) for s in made] == [
        (pytest.approx(lr), n, kind, 3) for lr in (1e-4, 1e-3, 1e-2) for n in (1, 2) for kind in ("a", "b")
    ]
    for suggestion in made:
        assert searcher.finished == ""
        searcher.tell(suggestion.id, "lost" if suggestion.id == 11 else "done", 1.0)
    again = searcher.ask()
    assert again == made[11] and searcher.finished == "" and searcher.ask() is None
    searcher.tell(again.id, "failed")
    assert searcher.finished == "grid" and searcher.ask() is None


def test_a_grid_beyond_bounds_is_refused() -> None:
    many = Space({f"x{number}": {"low": 0, "high": 1} for number in range(9)})
    with pytest.raises(ConfigError, match="1,953,125 combinations"):
        searchers.make({"kind": "grid"}, many, {})
