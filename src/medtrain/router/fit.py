"""A fit from config to artifact: weights, the adapter that they fuse to, and a card; no Ray here."""

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import numpy as np

from medtrain import artifacts, plugins
from medtrain.artifacts import Artifact, Build, Identity, Policy
from medtrain.config import identity
from medtrain.errors import TrainingError
from medtrain.experts import folder
from medtrain.experts.fuse import Report, Weights, combine
from medtrain.router import card, inputs, methods
from medtrain.router.gate import Array, Gate, norms_of, places_of
from medtrain.router.inputs import Inputs, Part
from medtrain.router.methods import Fitted, Given
from medtrain.router.objective import Evaluator, Objective, Problem, concentration, entropy
from medtrain.router.settings import FitConfig
from medtrain.router.states import States
from medtrain.storage import Store
from medtrain.tokens.shards import Sample

KIND, WEIGHTS, CARD = "router", "weights.json", "card.md"
CODE = (
    *(f"router/{name}.py" for name in ("examples", "fit", "gate", "inputs", "minimise", "mixture", "objective")),
    *("router/methods/__init__.py", "evolution.py", "strategy.py", "restarts.py"),
    *("experts/fuse.py", "experts/products.py", "experts/folder.py", "experts/merges"),
    *(f"train/{name}.py" for name in ("attention", "batches", "loss", "model", "order", "packing")),
)
"""What the weights depend on, beside the method's own file."""

Open = Callable[[FitConfig, Part], Evaluator]
"""Who runs the model over a fit's rows; asked only where there is something to do."""


def run(root: Store, config: FitConfig, policy: Policy, evaluator: Open) -> Artifact:
    """Fit router/<name>, or read it back if it is whole already; a killed fit is gone on with.

    Args:
        root: the storage root.
        config: the fit.
        policy: what to do with what is there already.
        evaluator: who runs the model.

    Raises:
        ConfigError, MissingArtifact, CorruptArtifact: the inputs are not there or do not go together.
        IdentityMismatch: an artifact of this name was made from something else.
        TrainingError: losses are no numbers.
    """
    given = inputs.read(root, config)
    build = artifacts.begin(root, KIND, config.name, identity_of(root, config), policy)
    if isinstance(build, Artifact):
        print(f"{KIND}/{config.name} is whole already ({build.store.root}); --again fits it again", flush=True)
        return build
    for note in build.notes:
        print(note)
    objective = objective_of(given, evaluator(config, "fit"))
    with closing(States(build.store, f"{KIND}/{config.name}", steps(objective, config))) as states:
        fitted = find(given, objective, states)
        losses: dict[Part, dict[str, float]] = {"fit": judged(given, objective.problem, fitted.weights)}
        if given.rows["held out"]:
            problem = Problem(evaluator(config, "held out"), given.rows["held out"], config.passes)
            losses["held out"] = judged(given, problem, fitted.weights)
        copy_tokenizer(root, build, config.tokens)
        facts = write(build, given, fitted, losses)
        states.forget()
    return build.finish(facts)


def steps(objective: Objective, config: FitConfig) -> int:
    """How many steps or generations a fit has at most."""
    return methods.work(config.method, objective.gate.shape, len(objective.problem.lengths)).steps


def find(given: Inputs, objective: Objective, states: States, heed: Callable[[], None] = lambda: None) -> Fitted:
    """The weights of a fit, or what is left of finding them after its last state.

    Args:
        given: experts and rows.
        objective: what weights are fitted to.
        states: where the fit has come, and where it says so.
        heed: is called after each step; what it raises ends the fit.

    Raises:
        TrainingError: losses are no numbers.
    """

    def log(metrics: dict[str, float], step: int) -> None:
        states.log(metrics, step)
        heed()

    config = given.config
    told = Given(list(given.facts), objective, config.seed, config.own, states.state, states.save, log)
    return methods.fit(config.method, told)


def identity_of(root: Store, config: FitConfig) -> Identity:
    """What a fit is made from."""
    library, tokens = (artifacts.locate(root, kind, getattr(config, kind)) for kind in ("library", "tokens"))
    method = plugins.source_of("router", "methods", config.method["kind"])
    code = artifacts.code_hash([*artifacts.room_code(*CODE), method])
    made_from = {f"library/{library.name}": library.fingerprint, f"tokens/{tokens.name}": tokens.fingerprint}
    return Identity({**identity(config), "method": identity(methods.validate(config.method))}, made_from, code)


def objective_of(given: Inputs, evaluator: Evaluator) -> Objective:
    """Equation (6) of a fit, over whoever runs the model."""
    config = given.config
    norms = norms_of(given.adapters, places_of(given.adapters, config.router.granularity))
    return Objective(Gate(config.router, norms), Problem(evaluator, given.rows["fit"], config.passes))


def judged(given: Inputs, problem: Problem, weights: Array) -> dict[str, float]:
    """Mean losses per trained token, in nats, of the base, of equal weights and of the fitted ones.

    Raises:
        TrainingError: that of the fitted ones is no number.
    """
    candidates = {"base": np.zeros(weights.shape), "average": np.full(weights.shape, 1 / weights.shape[1])}
    if given.config.merge["kind"] == "lorahub":
        del candidates["average"]  # under this merge equal weights are no average
    candidates["fitted"] = weights
    found = dict(zip(candidates, problem.losses(list(candidates.values())), strict=True))
    if not np.isfinite(found["fitted"]):
        raise TrainingError(
            f"router/{given.config.name}: the fitted weights have the loss {found['fitted']}; see whether an expert "
            "alone gives numbers (method.kind: single)"
        )
    return found


def weights_of(given: Inputs, fitted: Fitted) -> Weights:
    """The fitted weights by place."""
    granularity = given.config.router.granularity
    places = dict.fromkeys(places_of(given.adapters, granularity).values())
    values = {name: tuple(row.tolist()) for name, row in zip(places, fitted.weights, strict=True)}
    return Weights(granularity=granularity, values=values)


def copy_tokenizer(root: Store, build: Build, tokens: str) -> None:
    """Put the task's tokenizer beside the fused adapter, where whoever opens the system looks for it."""
    source = artifacts.locate(root, "tokens", tokens).store
    for path in source.files("tokenizer"):
        build.store.write(f"adapter/{path.removeprefix('tokenizer/')}", source.read(path))


def write(build: Build, given: Inputs, fitted: Fitted, losses: Mapping[Part, Mapping[str, float]]) -> dict[str, Any]:
    """Write weights, fused adapter and card.

    Args:
        build: the artifact in the making.
        given: what was fitted.
        fitted: what was found.
        losses: what `judged` gave, by rows.

    Returns:
        The artifact's facts.
    """
    config, weights = given.config, weights_of(given, fitted)
    content = {"experts": list(given.facts), "merge": config.merge, **weights.model_dump(mode="json")}
    build.store.write(WEIGHTS, json.dumps(content, indent=1).encode())
    adapter, report = combine(given.adapters, weights, config.merge)
    folder.write(build.store, "adapter", adapter)
    facts = facts_of(given, fitted, losses, report)
    build.store.write(CARD, card.text(config, facts, weights).encode())
    return facts


def facts_of(
    given: Inputs, fitted: Fitted, losses: Mapping[Part, Mapping[str, float]], report: Report
) -> dict[str, Any]:
    """What the manifest says: the system, and how it was found."""
    config, mean = given.config, np.mean(fitted.weights, axis=0)
    facts = {
        "base": given.base,
        "tokens": config.tokens,
        "model": config.model.model_dump(mode="json"),
        "library": config.library,
        "method": config.method["kind"],
        "own": config.own,
        "rows": {part: _size(given.rows[part]) for part in losses},
        "losses": {part: dict(found) for part, found in losses.items()},
        "weights": {name: float(weight) for name, weight in zip(given.facts, mean, strict=True)},
        "fusion_error": report.error,
        "ranks": report.ranks,
        "non_commercial": [name for name, known in given.facts.items() if known.get("non_commercial")],
        "fit": fitted.facts,
    }
    if (fitted.weights >= 0).all():
        facts |= {"entropy": entropy(fitted.weights), "concentration": concentration(fitted.weights)}
    return facts


def _size(samples: list[Sample]) -> dict[str, int]:
    return {"rows": len(samples), "trained_tokens": sum(sample.trained_tokens for sample in samples)}
