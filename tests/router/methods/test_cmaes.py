"""The CMA-ES method asks stock pycma's points, and finds the expert that the examples were made by."""

from collections.abc import Iterator
from typing import Any

import cma
import numpy as np
import pytest

from medtrain.errors import IdentityMismatch
from medtrain.router import methods
from medtrain.router.methods import Given


@pytest.fixture(autouse=True)
def _global_numbers() -> Iterator[None]:
    """Stock pycma seeds numpy's global generator."""
    state = np.random.get_state()
    yield
    np.random.set_state(state)


def test_its_points_and_values_are_those_of_stock_pycma(taught: Any) -> None:
    made = taught.objective()
    seen: list[tuple[float, ...]] = []
    plain = made.values
    made.values = lambda points: seen.extend(points) or plain(points)
    found = methods.fit({"kind": "cmaes", "generations": 3, "population": 6}, Given(taught.names, made, seed=9))
    options = {"seed": 9, "popsize": 6, "verbose": -9, "verb_log": 0, "signals_filename": None}
    stock, points = cma.CMAEvolutionStrategy([0.0] * made.gate.size, 0.5, options), []
    for _ in range(3):
        asked = stock.ask()
        points += [tuple(x) for x in asked]
        stock.tell(asked, plain(asked))
    assert seen[:-1] == points and found.facts["evaluations"] == 18
    assert found.facts["x"] == list(seen[-1]) == list(stock.result.xfavorite)
    assert found.facts["value_of_best"] == stock.best.f
    best = methods.fit(
        {"kind": "cmaes", "generations": 3, "population": 6, "recommend": "best"}, Given(taught.names, made, seed=9)
    )
    assert best.facts["x"] == list(stock.best.x)


def test_it_finds_the_expert_that_the_examples_were_made_by(taught: Any) -> None:
    weights = methods.fit(
        {"kind": "cmaes", "generations": 10, "population": 8}, Given(taught.names, taught.objective(gamma1=0.0), seed=2)
    ).weights
    assert weights[0].argmax() == taught.right and weights[0, taught.right] > 0.6


def test_a_state_of_another_library_is_refused(taught: Any) -> None:
    states: list[Any] = []
    method = {"kind": "cmaes", "generations": 1}
    methods.fit(method, Given(taught.names, taught.objective(), seed=9, save=states.append))
    with pytest.raises(IdentityMismatch):
        methods.fit(method, Given([*taught.names[:2], "other"], taught.objective(), seed=9, state=states[0]))
