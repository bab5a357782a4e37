"""What is proposed fits, with fewer settings it does not, and what cannot fit is said."""

import numpy as np
import pytest
from transformers import Qwen2Config

from medtrain.train.estimate import estimate
from medtrain.train.footprint import ModelShape, shape_of
from medtrain.train.propose import fitting, render
from medtrain.train.stage import StageConfig

LENGTHS = np.array([1024] * 64)


def config(**given: object) -> StageConfig:
    """BioQwen's stage 2, four padded samples of 1,024 tokens a micro-batch."""
    batch = {"layout": "padded", "micro_samples": 4}
    return StageConfig.model_validate(
        {"name": "x", "stage": 2, "tokens": "x", "recipe": "bioqwen", "batch": batch, **given}
    )


@pytest.fixture(scope="module")
def shape(tmp_path_factory: pytest.TempPathFactory) -> ModelShape:
    """Qwen1.5 1.8B by its published sizes."""
    folder = tmp_path_factory.mktemp("model")
    sizes = {"hidden_size": 2048, "num_hidden_layers": 24, "intermediate_size": 5504}
    heads = {"num_attention_heads": 16, "num_key_value_heads": 16}
    Qwen2Config(vocab_size=151936, **sizes, **heads, tie_word_embeddings=False).save_pretrained(folder)
    return shape_of(str(folder), config())


def test_what_is_proposed_fits_and_one_setting_less_does_not(shape: ModelShape) -> None:
    """Does 1.8B with 1,024 tokens, micro-batch 4, fit a 16 GB card?"""
    assert estimate(shape, config(), LENGTHS, 1, "rtx3090", 16).fits is False
    found = fitting(shape, config(), LENGTHS, 1, "rtx3090", 16)
    assert found is not None
    settings = [dict(found), dict(found[:-1])]
    fits = []
    for chosen in settings:
        given: dict[str, dict[str, object]] = {"engine": {}, "batch": {"layout": "padded", "micro_samples": 4}}
        for name, value in chosen.items():
            section, key = name.split(".")
            given[section][key] = value
        fits.append(estimate(shape, config(**given), LENGTHS, 1, "rtx3090", 16).fits)
    assert fits == [True, False]
    print(render(found))


def test_less_memory_takes_more_settings_until_none_is_enough(shape: ModelShape) -> None:
    counts = []
    for gib in (16, 12, 8):
        found = fitting(shape, config(), LENGTHS, 4, "rtx3090", gib)
        counts.append(len(found) if found is not None else 99)
    assert counts == sorted(counts)
    assert fitting(shape, config(), LENGTHS, 4, "rtx3090", 1.0) is None


@pytest.mark.parametrize("workers", [1, 4])
def test_an_adapter_that_cannot_be_sharded_gets_no_such_proposal(shape: ModelShape, workers: int) -> None:
    adapter = {"kind": "adalora", "init_rank": 96, "target_rank": 64, "tinit": 1, "tfinal": 1}
    batch, engine = {"layout": "padded", "micro_samples": 4}, {"zero_stage": 0}
    given = config(recipe=None, adapter=adapter, batch=batch, engine=engine, validation={"keep": "last"})
    found = [fitting(shape, given, LENGTHS, workers, "rtx3090", gib) for gib in (16, 8, 6, 5.5, 5, 4.5, 4, 1)]
    asked = {dict(settings).get("engine.zero_stage", 0) for settings in found if settings is not None}
    assert found[-1] is None and asked == {0, 1}


def test_the_words_are_those_of_the_command_line() -> None:
    found = [("engine.gradient_checkpointing", "whole"), ("engine.offload_optimizer", True)]
    assert (
        render(found) == "it fits with: train.engine.gradient_checkpointing=whole train.engine.offload_optimizer=true"
    )
    assert "no setting that keeps the results" in render(None)
