"""The engine in one process: evaluation between steps disturbs nothing, and a step that teaches nothing is refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from medtrain.artifacts import locate
from medtrain.errors import TrainingError
from medtrain.storage import Store
from medtrain.tokens.shards import Samples
from medtrain.train import adapters, validation
from medtrain.train.deepspeed_config import EngineConfig
from medtrain.train.engine import Engine
from medtrain.train.model import ModelConfig, load_base
from medtrain.train.optimizer import OptimizerConfig
from medtrain.train.order import BatchConfig, Plan

pytestmark = pytest.mark.usefixtures("group_of_one")

BATCH = BatchConfig(size=8, micro_tokens=128)


def opened(made: Store, precision: str) -> tuple[Engine, Samples, Plan]:
    """An engine over the made artifacts, the same each time."""
    samples = Samples.open(locate(made, "tokens", "tiny"))
    rows = samples.select("train")
    plan = Plan(rows, samples.lengths[rows], BATCH, seed=3, epochs=1)
    config = ModelConfig.model_validate({"precision": precision})
    base = load_base(str(made.local("bases/tiny")), config, torch.device("cpu"), BATCH.layout)
    model: Any = adapters.attach(base, {"kind": "lora", "rank": 4}, seed=0)
    engine = Engine(
        model, samples, batch=BATCH, optimizer=OptimizerConfig(), engine=EngineConfig(zero_stage=1), pad_id=3
    )
    return engine, samples, plan


@pytest.mark.parametrize("precision", ["nf4", "fp32"])
def test_train_evaluate_train_is_train_train(made: Store, precision: str) -> None:
    engine, samples, plan = opened(made, precision)
    held_out = validation.micro_batches(samples, samples.select("validation"), BATCH)
    first = engine.step(plan.at(0), 1e-2)["loss"]
    before = engine.losses([micro for _, micro in held_out])
    second = engine.step(plan.at(1), 1e-2)["loss"]
    after = engine.losses([micro for _, micro in held_out])
    calm, _, _ = opened(made, precision)
    assert [calm.step(plan.at(step), 1e-2)["loss"] for step in (0, 1)] == [first, second]
    assert all(torch.equal(calm.weights()[name], tensor) for name, tensor in engine.weights().items())
    assert before != after
    assert sum(tokens for _, tokens in after) == samples.trained_tokens[samples.select("validation")].sum()


def test_a_held_out_loss_has_no_dropout_and_is_the_same_twice(made: Store) -> None:
    engine, samples, _ = opened(made, "fp32")
    micros = [micro for _, micro in validation.micro_batches(samples, samples.select("validation"), BATCH)]
    assert engine.losses(micros) == engine.losses([replace(micro, seed=9) for micro in micros])


def test_a_step_without_a_trained_token_is_refused_with_its_samples(made: Store) -> None:
    engine, samples, plan = opened(made, "fp32")
    samples.trained_tokens = np.zeros_like(samples.trained_tokens)
    with pytest.raises(TrainingError, match=r"a step without a trained token \(samples (notes|questions):train"):
        engine.step(plan.at(0), 1e-3)
