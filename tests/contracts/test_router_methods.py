"""What every routing method promises, of the package and of `$MEDTRAIN_PLUGINS`."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest

from medtrain import plugins
from medtrain.config import Config
from medtrain.errors import ConfigError
from medtrain.router import methods
from medtrain.router.gate import Gate, RouterConfig
from medtrain.router.methods import Fitted, Given
from medtrain.router.mixture import Merge
from medtrain.router.objective import Objective, PassConfig, Problem
from medtrain.tokens.shards import Sample

KINDS = sorted(plugins.files("router", "methods"))
EXPERTS, PLACES, ROWS = ("near", "far", "further"), 2, 200
GOAL = np.array([[0.8, 0.15, 0.05], [0.7, 0.2, 0.1]])


class Bowl:
    """Losses per token that are least at `GOAL`."""

    def losses(self, groups: Sequence[Any]) -> list[list[float]]:
        return [[2 * ROWS * float(np.square(R - GOAL).sum()) for R in group] for group in groups]

    def gradients(self, weights: Any, batches: Sequence[Any]) -> list[tuple[float, Any]]:
        away = weights - GOAL
        return [(2 * len(rows) * float(np.square(away).sum()), 4 * len(rows) * away) for rows in batches]


def given(**more: Any) -> Given:
    """A made problem of three experts at two places."""
    samples = [
        Sample(str(n), "made", "qa", "QA", "en", "train", np.arange(4, dtype=np.int32), ((2, 4),)) for n in range(ROWS)
    ]
    config = RouterConfig(granularity="layer", gamma1=0.0)
    gate = Gate(config, np.ones((PLACES, len(EXPERTS))))
    objective = Objective(gate, Problem(Bowl(), samples, PassConfig(candidates_per_pass=3)))
    return Given(**{"experts": EXPERTS, "objective": objective, "seed": 5, **more})


def fit(kind: str, **more: Any) -> Fitted:
    """By a method's defaults."""
    return methods.fit({"kind": kind}, given(**more))


@pytest.mark.parametrize("kind", KINDS)
def test_its_config_names_it_and_refuses_what_it_does_not_know(kind: str) -> None:
    config = methods.validate({"kind": kind})
    assert isinstance(config, Config) and config.model_dump()["kind"] == kind
    assert plugins.load("router", "methods", kind).__doc__
    assert all(info.description for info in type(config).model_fields.values())
    assert methods.merge_of({"kind": kind}) in get_args(Merge)
    with pytest.raises(ConfigError, match="no_such_setting"):
        methods.validate({"kind": kind, "no_such_setting": 1})


@pytest.mark.parametrize("kind", KINDS)
def test_it_gives_each_place_and_expert_a_weight_and_json_facts(kind: str) -> None:
    found = fit(kind)
    assert found.weights.shape == (PLACES, len(EXPERTS)) and np.isfinite(found.weights).all()
    assert json.loads(json.dumps(found.facts, allow_nan=False)) == found.facts
    if methods.merge_of({"kind": kind}) == "cat":
        np.testing.assert_allclose(found.weights.sum(-1), 1)
        assert (found.weights >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_it_prefers_what_lowers_the_loss(kind: str) -> None:
    found, problem = fit(kind).weights, given().objective.problem
    reached, equal = problem.losses([found, np.full(found.shape, 1 / 3)])
    assert reached <= equal and found.sum(0)[0] >= found.sum(0).max()


@pytest.mark.parametrize("kind", KINDS)
def test_it_takes_no_more_work_than_it_says(kind: str) -> None:
    made, asked, steps = given(), {"losses": 0, "rows": 0}, []
    problem = made.objective.problem
    losses, descend = problem.losses, problem.loss_and_gradient

    def count_losses(weights: Sequence[Any]) -> list[float]:
        asked["losses"] += len(weights)
        return losses(weights)

    def count_rows(weights: Any, rows: Sequence[int]) -> Any:
        asked["rows"] += len(rows)
        return descend(weights, rows)

    problem.losses, problem.loss_and_gradient = count_losses, count_rows  # type: ignore[method-assign,assignment]
    methods.fit({"kind": kind}, replace(made, log=lambda metrics, step: steps.append(step)))
    work = methods.work({"kind": kind}, (PLACES, len(EXPERTS)), ROWS)
    assert asked["losses"] <= work.candidates and asked["rows"] <= work.descents * ROWS and len(steps) <= work.steps
    assert bool(steps) == bool(work.steps) and bool(asked["rows"]) == bool(work.descents)
    assert asked["losses"] * 2 >= work.candidates, "it says far too much"


def followed(kind: str, state: Any = None) -> tuple[Fitted, list[str], list[tuple[int, float]]]:
    """A fit, the states that it saved, and the steps and values that it logged."""
    states: list[str] = []
    steps: list[tuple[int, float]] = []
    found = fit(
        kind,
        state=state,
        save=lambda state: states.append(json.dumps(state, allow_nan=False)),
        log=lambda metrics, step: steps.append((step, metrics["value"])),
    )
    return found, states, steps


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_weights_also_after_a_kill_at_any_saved_state(kind: str) -> None:
    whole, states, steps = followed(kind)
    assert [step for step, _ in steps] == list(range(1, len(steps) + 1))
    assert bool(states) == bool(steps), "what takes steps can be gone on with"
    assert np.array_equal(fit(kind).weights, whole.weights)
    for state in states[:: max(1, len(states) // 5)]:
        resumed, _, again = followed(kind, json.loads(state))
        assert np.array_equal(resumed.weights, whole.weights) and resumed.facts == whole.facts
        assert len(again) < len(steps) and again == steps[len(steps) - len(again) :]
