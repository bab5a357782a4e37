"""What a run's settings refuse: parts that do not go together."""

from typing import Any

import pytest

from medtrain.config import parse
from medtrain.errors import ConfigError
from medtrain.train.settings import TrainConfig


def config(**settings: Any) -> TrainConfig:
    return parse(TrainConfig, {"name": "x", "tokens": "t", **settings})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"merge_from": "stage1/a", "init_from": "stage1/a"}, "merge_from and init_from are both set"),
        ({"optimizer": {"kind": "adamw8bit"}, "engine": {"zero_stage": 1}}, "set engine.zero_stage: 0"),
        ({"adapter": {"kind": "adalora"}}, "set validation.keep: last"),
        (
            {"adapter": {"kind": "adalora"}, "validation": {"keep": "last"}, "engine": {"zero_stage": 3}},
            "set engine.zero_stage to 0, 1 or 2",
        ),
        (
            {"adapter": {"kind": "adalora"}, "validation": {"keep": "last", "patience": 2}},
            "validation.patience=2: .* set validation.patience: 0",
        ),
        ({"adapter": {"kind": "lora", "rnak": 4}}, "rnak"),
        ({"stage": 1}, "stage"),
    ],
)
def test_what_does_not_go_together_is_refused_with_a_remedy(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config(**settings)


def test_an_adapter_is_held_with_all_its_settings() -> None:
    held = config(adapter={"kind": "adalora"}, validation={"keep": "last"}).adapter
    assert (held["init_rank"], held["target_rank"], held["orthogonality"]) == (12, 4, 0.5)
