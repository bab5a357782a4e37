"""The space: every value there and back, wrong spaces refused by name, the winner as overrides to the last bit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from medtrain.config import override, read_yaml
from medtrain.errors import ConfigError
from medtrain.search.space import Space, assignments

FULL = """
optimizer.learning_rate: {low: 1e-5, high: 1e-3, log: true}
adapter.dropout: {low: 0, high: 0.3}
adapter.rank: {low: 4, high: 64, step: 4, int: true}
order.seed: {low: 0, high: 9, int: true}
tokens: {low: 1, high: 1000, log: true, int: true}
tau: {low: 0.5, high: 2.0, step: 0.25}
adapter.kind: {choices: [lora, adalora, null]}
batch: {choices: [{size: 1}, {size: 2}]}
model.name: {fixed: tiny}
"""


@pytest.fixture
def space(tmp_path: Path) -> Space:
    (tmp_path / "space.yaml").write_text(FULL)
    return Space(read_yaml(tmp_path / "space.yaml"))


def test_each_kind_of_parameter_has_its_coordinates(space: Space) -> None:
    assert [c.name for c in space.coordinates] == [
        "optimizer.learning_rate", "adapter.dropout", "adapter.rank", "order.seed", "tokens", "tau",
        *["adapter.kind"] * 3, *["batch"] * 2,
    ]  # fmt: skip
    assert [c.cells for c in space.coordinates] == [None, None, 16, 10, None, 7, *[None] * 5]
    assert [c.choice for c in space.coordinates] == [*[None] * 6, 0, 1, 2, 0, 1]


def test_the_ends_and_the_middle_are_where_they_belong(space: Space) -> None:
    low, high = space.values([0.0] * 11), space.values([1.0] * 11)
    assert [low[name] for name in list(low)[:6]] == pytest.approx([1e-5, 0.0, 4, 0, 1, 0.5])
    assert [high[name] for name in list(high)[:6]] == pytest.approx([1e-3, 0.3, 64, 9, 1000, 2.0])
    assert low["optimizer.learning_rate"] == 1e-5 and high["optimizer.learning_rate"] == 1e-3
    middle = space.values([*[0.5] * 6, 0.2, 0.9, 0.4, 0.1, 0.0])
    assert middle["optimizer.learning_rate"] == pytest.approx(1e-4) and middle["tokens"] == 32
    assert (middle["adapter.rank"], middle["tau"], middle["adapter.kind"]) == (36, 1.25, "adalora")
    assert middle["batch"] == {"size": 1} and middle["model.name"] == "tiny"
    assert isinstance(middle["adapter.rank"], int) and isinstance(middle["tau"], float)


def test_every_setting_comes_back_from_its_point(space: Space) -> None:
    draw = np.random.default_rng(0)
    for _ in range(300):
        values = space.values(draw.random(11).tolist())
        again = space.values(space.point(values))
        assert again.keys() == values.keys()
        for name, value in values.items():
            assert again[name] == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value), name


def test_cells_are_of_equal_width(space: Space) -> None:
    seen = [space.values([0.5, 0.5, at, *[0.5] * 8])["adapter.rank"] for at in (np.arange(1600) + 0.5) / 1600]
    assert {seen.count(rank) for rank in range(4, 65, 4)} == {100}


def test_the_winner_is_a_command_line_to_the_last_bit(space: Space) -> None:
    values = space.values(np.random.default_rng(1).random(11).tolist())
    made = override({"optimizer": {"learning_rate": 1.0}}, assignments(values))
    assert made["optimizer"]["learning_rate"] == values["optimizer.learning_rate"]
    assert made["adapter"] == {key: values[f"adapter.{key}"] for key in ("dropout", "rank", "kind")}
    assert made["batch"] == values["batch"]


def test_a_search_starts_at_given_values_then_the_base_s_then_the_centre(space: Space) -> None:
    base = {"optimizer": {"learning_rate": 1e-5}, "adapter": {"rank": 5, "kind": "lora"}, "tau": 1.25}
    found = space.start(base, {"tau": 2.0})
    assert found == pytest.approx([0.0, 0.5, 0.5, 0.5, 0.5, 6.5 / 7, 0.75, 0.25, 0.25, 0.5, 0.5])
    with pytest.raises(ConfigError, match=r"tau=3\.0 is no number from 0\.5 to 2\.0"):
        space.start(base, {"tau": 3.0})
    with pytest.raises(ConfigError, match="'tua' is no parameter of the space"):
        space.start(base, {"tua": 1.0})


def test_settings_that_the_space_has_not_are_refused(space: Space) -> None:
    values = space.values([0.5] * 11)
    for change, message in (
        ({"tau": 0.6}, r"tau=0\.6 is no whole number of steps of 0\.25 above 0\.5"),
        ({"order.seed": 1.5}, "order.seed=1.5 is no whole number"),
        ({"adapter.rank": True}, "adapter.rank=True is no number from"),
        ({"adapter.kind": "moe"}, "adapter.kind='moe' is none of the choices"),
        ({"tau": None}, "tau=None is no number"),
    ):
        with pytest.raises(ConfigError, match=message):
            space.point({**values, **change})
    with pytest.raises(ConfigError, match="tau has no value"):
        space.point({name: value for name, value in values.items() if name != "tau"})


def test_the_fingerprint_is_of_what_decides(space: Space) -> None:
    content = yaml.safe_load(FULL.replace("1e-5", "0.00001").replace("1e-3", "0.001"))
    assert Space(content).fingerprint == space.fingerprint
    assert Space(dict(reversed(content.items()))).fingerprint != space.fingerprint
    content["tau"]["high"] = 2.25
    assert Space(content).fingerprint != space.fingerprint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "at least 1"),
        ({"a": {"fixed": 1}}, "nothing varies"),
        ({"a": {"low": 2, "high": 1}}, r"low=2\.0 is not below high=1\.0; for one value write"),
        ({"a": {"low": 0, "high": 1, "log": True}}, "has no logarithm"),
        ({"a": {"low": 1, "high": 2, "log": True, "step": 0.5}}, "exclude each other"),
        ({"a": {"low": 1.5, "high": 2, "int": True}}, "whole numbers for low, high and step"),
        ({"a": {"low": 0, "high": 1, "step": 0.3}}, r"no whole number of steps|not a whole number of steps"),
        ({"a": {"low": 0, "hihg": 1}}, "hihg"),
        ({"a": {"choices": [1]}}, "at least 2"),
        ({"a": {"choices": [1, 1]}}, "stands twice"),
        ({"a": {"choices": [1, 2], "low": 1}}, "low"),
        ({"a": 3}, "a"),
        ({"a b": {"low": 0, "high": 1}}, "no dotted config name"),
        ({"a": {"low": 0, "high": 1}, "a.b": {"low": 0, "high": 1}}, "set the same place"),
        ({"a": {"low": 0, "high": float("inf")}}, "finite"),
    ],
)
def test_a_space_that_is_none_is_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Space(content)


def test_choices_that_python_takes_for_equal_stay_apart() -> None:
    space = Space({"a": {"choices": [1, True, "1"]}})
    found = [space.values(space.point({"a": value}))["a"] for value in (1, True, "1")]
    assert json.dumps(found) == '[1, true, "1"]'
