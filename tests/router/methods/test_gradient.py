"""The gradient method is AdamW over the plan's batches, and finds the expert that the examples were made by."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from medtrain.errors import TrainingError
from medtrain.router import methods
from medtrain.router.methods import Given
from medtrain.train.order import BatchConfig, Plan


def test_it_is_adamw_by_the_formula_over_shuffled_batches(taught: Any) -> None:
    """Kingma and Ba (2015), algorithm 1, written out over the plan's rows."""
    made, method = taught.objective(gamma1=0.2), {"kind": "gradient", "learning_rate": 0.1, "epochs": 2, "size": 3}
    found = methods.fit(method, Given(taught.names, made, seed=4)).facts
    lengths = made.problem.lengths
    plan = Plan(np.arange(len(lengths)), lengths, BatchConfig(size=3, micro_tokens=4096), seed=4, epochs=2)
    x, m, v = (np.zeros(made.gate.size) for _ in range(3))
    for t in range(1, plan.steps + 1):
        rows = [row for batch in plan.at(t - 1) for row in batch.rows]
        _, g = made.value_and_gradient(x.tolist(), rows)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        x -= 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    assert found["steps"] == plan.steps == 2 * math.ceil(len(lengths) / 3)
    np.testing.assert_allclose(found["x"], x, rtol=1e-3, atol=1e-6)


def test_it_finds_the_expert_that_the_examples_were_made_by(taught: Any) -> None:
    method = {"kind": "gradient", "learning_rate": 0.3, "epochs": 3, "size": 4}
    weights = methods.fit(method, Given(taught.names, taught.objective(gamma1=0.0), seed=1)).weights
    assert weights[0].argmax() == taught.right and weights[0, taught.right] > 0.6


def test_a_loss_that_is_no_number_ends_it(taught: Any) -> None:
    made = taught.objective()
    made.problem.loss_and_gradient = lambda R, rows=None: (math.nan, torch.zeros(R.shape).numpy())
    with pytest.raises(TrainingError, match="step 1 has the loss nan"):
        methods.fit({"kind": "gradient"}, Given(taught.names, made, seed=1))
