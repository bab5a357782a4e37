"""Summed losses of a task's examples against the naive sum, and twice the same to the last bit; what is no example."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from medtrain.errors import TrainingError
from medtrain.router.examples import Examples
from medtrain.router.mixture import Mixture
from medtrain.router.objective import PassConfig

ROWS, SHORT = (0, 1, 2, 3, 4), PassConfig(micro_tokens=64)
"""Several micro-batches."""


def test_losses_are_the_naive_ones(world: Any, random_weights: Callable[..., torch.Tensor]) -> None:
    samples = world.rows(*ROWS)
    made = Examples(Mixture(world.base(), world.experts, "task"), samples, SHORT)
    groups = [random_weights(2, 1, 3, seed).numpy() for seed in (0, 1)]
    found, again = made.losses(groups), made.losses(groups)
    assert found == again
    for group, own in zip(groups, found, strict=True):
        for candidate, loss in zip(group, own, strict=True):
            naive = float(world.naive(samples, {"task": torch.from_numpy(candidate[0])}))
            assert loss / sum(s.trained_tokens for s in samples) == pytest.approx(naive, rel=1e-6)


def test_gradients_of_micro_batches_sum_to_that_of_all(world: Any) -> None:
    made = Examples(Mixture(world.base(), world.experts, "layer"), world.rows(*ROWS), PassConfig())
    R = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
    parts, (whole,) = made.gradients(R, [(0, 1), (2, 3, 4)]), made.gradients(R, [ROWS])
    assert sum(loss for loss, _ in parts) == pytest.approx(whole[0], rel=1e-6)
    np.testing.assert_allclose(parts[0][1] + parts[1][1], whole[1], rtol=1e-4, atol=1e-4)
    assert made.losses([R[None]])[0][0] == pytest.approx(whole[0], rel=1e-6)


def test_losses_by_example_are_the_naive_ones(world: Any, random_weights: Callable[..., torch.Tensor]) -> None:
    samples, weights = world.rows(*ROWS), random_weights(1, 1, 3)[0]
    found = Examples(Mixture(world.base(), world.experts, "task"), samples, SHORT).by_example(weights.numpy())
    for sample, loss in zip(samples, found, strict=True):
        naive = float(world.naive([sample], {"task": weights[0]}))
        assert loss / sample.trained_tokens == pytest.approx(naive, rel=1e-6)


def test_what_teaches_nothing_or_is_too_long_is_refused(world: Any) -> None:
    mixture, samples = Mixture(world.base(), world.experts, "task"), world.rows(0, 1)
    idle = replace(samples[1], id="idle", trained=((0, 1),))
    for given, config, word in (
        ([], SHORT, "there is none"),
        ([samples[0], idle], SHORT, "idle has no trained token"),
        (samples, PassConfig(micro_tokens=5), "micro_tokens=5"),
    ):
        with pytest.raises(TrainingError, match=word):
            Examples(mixture, given, config)
