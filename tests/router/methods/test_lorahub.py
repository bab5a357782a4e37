"""LoRAHub's objective and its bounds; the merge itself is tested in `test_mixture.py`."""

from typing import Any

import numpy as np
import pytest

from medtrain.router import methods
from medtrain.router.methods import Given


def test_it_searches_the_penalised_loss_within_its_bounds(taught: Any) -> None:
    made = taught.objective(merge="lorahub")
    candidates: list[Any] = []
    plain = made.problem.losses
    made.problem.losses = lambda weights: candidates.extend(weights) or plain(weights)
    values: list[float] = []
    method = {"kind": "lorahub", "bound": 0.4, "l1": 0.3, "evaluations": 20, "sigma": 0.5}
    given = Given(taught.names, made, seed=1, log=lambda metrics, step: values.append(metrics["value"]))
    found = methods.fit(method, given)
    assert found.facts["evaluations"] == 14 and len(candidates) == 15  # two generations of 7, and the mean
    assert all(np.abs(R).max() <= 0.4 for R in candidates) and np.abs(candidates).max() > 0.35
    losses = plain(candidates[:7])
    wanted = min(loss + 0.3 * sum(map(abs, R.ravel())) / 3 for loss, R in zip(losses, candidates, strict=False))
    assert values[0] == pytest.approx(wanted, rel=1e-12)
    assert np.array_equal(candidates[-1], found.weights)
