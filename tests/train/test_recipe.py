"""BioQwen's recipe, row by row of what paper and released code say."""

import pytest
from pydantic import ValidationError

from medtrain.config import parse
from medtrain.errors import ConfigError
from medtrain.train.recipe import fill
from medtrain.train.stage import StageConfig


def staged(stage: int, **given: object) -> StageConfig:
    """A stage's config from the recipe and what is given beside it."""
    return parse(StageConfig, {"name": "x", "tokens": "t", "stage": stage, "recipe": "bioqwen", **given})


@pytest.mark.parametrize("mode", ["paper", "released"])
@pytest.mark.parametrize("stage", [1, 2])
def test_what_paper_and_code_agree_on(stage: int, mode: str) -> None:
    config = staged(stage, mode=mode)
    assert config.adapter == {
        "kind": "lora",
        "rank": 64,
        "alpha": 16,
        "dropout": 0.05,
        "target_modules": "all-linear",
        "rslora": False,
        "dora": False,
    }
    assert (config.model.precision, config.model.double_quantization) == ("nf4", True)
    assert (config.batch.unit, config.batch.size, config.batch.micro_samples) == ("samples", 64, 4)
    assert (config.optimizer.learning_rate, config.optimizer.warmup_fraction, config.optimizer.clip) == (2e-4, 0.1, 0.3)
    assert (config.seed, config.validation.max_rows, config.epochs) == (42, 500, {1: 3, 2: 5}[stage])


@pytest.mark.parametrize(
    ("mode", "stage", "schedule", "decay", "side"),
    [
        ("paper", 1, "linear", 0.0, "right"),
        ("paper", 2, "linear", 1e-5, "right"),
        ("released", 1, "constant", 0.0, "left"),
        ("released", 2, "constant", 0.0, "left"),
    ],
)
def test_where_they_differ(mode: str, stage: int, schedule: str, decay: float, side: str) -> None:
    config = staged(stage, mode=mode)
    assert (config.optimizer.schedule, config.optimizer.weight_decay, config.batch.pad_side) == (schedule, decay, side)


def test_the_paper_is_the_default_mode() -> None:
    assert staged(2) == staged(2, mode="paper")


def test_what_is_given_wins_over_the_recipe_at_any_depth() -> None:
    config = staged(2, epochs=1, optimizer={"learning_rate": 1e-3}, adapter={"rank": 8}, batch={"size": 8})
    assert (config.epochs, config.optimizer.learning_rate, config.adapter["rank"], config.batch.size) == (1, 1e-3, 8, 8)
    assert (config.optimizer.clip, config.optimizer.weight_decay, config.adapter["dropout"]) == (0.3, 1e-5, 0.05)


def test_without_a_recipe_nothing_is_filled_in() -> None:
    given = {"name": "x", "stage": 1}
    assert fill(given, 1) == given


def test_filling_does_not_change_what_was_given() -> None:
    given = {"recipe": "bioqwen", "optimizer": {"clip": 1.0}}
    fill(given, 1)
    assert given == {"recipe": "bioqwen", "optimizer": {"clip": 1.0}}


def test_a_resolved_config_reads_back_as_itself() -> None:
    for mode in ("paper", "released"):
        config = staged(2, mode=mode)
        assert StageConfig.model_validate(config.model_dump(mode="json")) == config


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"recipe='qwen'.*bioqwen"):
        fill({"recipe": "qwen"}, 1)
    with pytest.raises(ConfigError, match=r"mode='code'"):
        fill({"recipe": "bioqwen", "mode": "code"}, 1)
    with pytest.raises((ConfigError, ValidationError), match="rnk"):
        staged(1, adapter={"rnk": 8})
