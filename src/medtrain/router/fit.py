"""A fit from config to artifact: weights, the adapter that they fuse to, and a card; no Ray here."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from medtrain import artifacts, plugins
from medtrain.artifacts import Artifact, Build, Identity, Policy
from medtrain.config import identity
from medtrain.errors import TrainingError
from medtrain.experts import folder
from medtrain.experts.fuse import Report, Weights, combine
from medtrain.router import card, inputs, methods
from medtrain.router.gate import Gate, norms_of, places_of
from medtrain.router.inputs import Inputs
from medtrain.router.methods import Fitted, Given
from medtrain.router.objective import Evaluator, Objective, Problem, concentration, entropy
from medtrain.router.settings import FitConfig
from medtrain.router.states import States
from medtrain.storage import Store

KIND, WEIGHTS = "router", "weights.json"


def run(root: Store, config: FitConfig, policy: Policy, load: Callable[[Inputs], Evaluator]) -> Artifact:
    """Fit router/<name>, or read it back if it is whole already; a killed fit is gone on with.

    Args:
        root: the storage root.
        config: the fit.
        policy: what to do with what is there already.
        load: who runs the model; asked only where there is something to fit.

    Raises:
        ConfigError, MissingArtifact, CorruptArtifact: the inputs are not there or do not go together.
        IdentityMismatch: an artifact of this name was made from something else.
        TrainingError: losses are no numbers.
    """
    tokens = artifacts.locate(root, "tokens", config.tokens)
    build = artifacts.begin(root, KIND, config.name, identity_of(root, config), policy)
    if isinstance(build, Artifact):
        print(f"{KIND}/{config.name} is whole already ({build.store.root}); --again fits it again", flush=True)
        return build
    for note in build.notes:
        print(note)
    given = inputs.read(root, config)
    objective = objective_of(given, load(given))
    states = States(build.store, f"{KIND}/{config.name}")
    fitted = methods.fit(
        config.method, Given(given.experts, objective, config.seed, states.state, states.save, states.log)
    )
    losses = _losses(given, objective, fitted)
    for path in tokens.store.files("tokenizer"):
        build.store.write(f"adapter/{path.removeprefix('tokenizer/')}", tokens.store.read(path))
    facts = write(build, given, fitted, losses)
    states.close()
    return build.finish(facts)


def identity_of(root: Store, config: FitConfig) -> Identity:
    """What a fit is made from."""
    library, tokens = (artifacts.locate(root, kind, getattr(config, kind)) for kind in ("library", "tokens"))
    method = plugins.source_of("router", "methods", config.method["kind"])
    code = artifacts.code_hash(
        [*artifacts.room_code("router", "experts/fuse.py", "experts/products.py", "train/loss.py"), method]
    )
    made_from = {"library": library.fingerprint, "tokens": tokens.fingerprint}
    return Identity({**identity(config), "name": None}, made_from, code)


def objective_of(given: Inputs, evaluator: Evaluator) -> Objective:
    """Equation (6) of a fit, over whoever runs the model."""
    norms = norms_of(given.adapters, places_of(given.adapters, given.config.router.granularity))
    return Objective(Gate(given.config.router, norms), Problem(evaluator, given.samples, given.config.passes))


def weights_of(given: Inputs, fitted: Fitted) -> Weights:
    """The fitted weights by place."""
    granularity = given.config.router.granularity
    places = dict.fromkeys(places_of(given.adapters, granularity).values())
    values = {name: tuple(row.tolist()) for name, row in zip(places, fitted.weights, strict=True)}
    return Weights(granularity=granularity, values=values)


def write(build: Build, given: Inputs, fitted: Fitted, losses: Mapping[str, float]) -> dict[str, Any]:
    """Write weights, fused adapter and card.

    Args:
        build: the artifact in the making.
        given: what was fitted.
        fitted: what was found.
        losses: mean losses of the examples by name.

    Returns:
        The artifact's facts.
    """
    config, weights = given.config, weights_of(given, fitted)
    content = {"experts": list(given.experts), "merge": config.merge, **weights.model_dump(mode="json")}
    build.store.write(WEIGHTS, json.dumps(content, indent=1).encode())
    adapter, report = combine(given.adapters, weights, config.merge)
    folder.write(build.store, "adapter", adapter)
    facts = facts_of(given, fitted, losses, report)
    build.store.write("card.md", card.text(config, facts, weights).encode())
    return facts


def facts_of(given: Inputs, fitted: Fitted, losses: Mapping[str, float], report: Report) -> dict[str, Any]:
    """What the manifest says: the system, and how it was found."""
    config = given.config
    mean = np.mean(fitted.weights, axis=0)
    facts = {
        "base": given.base,
        "tokens": config.tokens,
        "model": config.model.model_dump(mode="json"),
        "method": config.method["kind"],
        "rows": len(given.samples),
        "trained_tokens": sum(sample.trained_tokens for sample in given.samples),
        "losses": dict(losses),
        "weights": {name: float(weight) for name, weight in zip(given.experts, mean, strict=True)},
        "fusion_error": report.error,
        "ranks": report.ranks,
        "non_commercial": [name for name in given.experts if given.facts[name].get("non_commercial")],
        "fit": fitted.facts,
    }
    if (fitted.weights >= 0).all():
        facts |= {"entropy": entropy(fitted.weights), "concentration": concentration(fitted.weights)}
    return facts


def _losses(given: Inputs, objective: Objective, fitted: Fitted) -> dict[str, float]:
    """The examples' mean losses before and after."""
    shape = fitted.weights.shape
    candidates = {"base": np.zeros(shape), "average": np.full(shape, 1 / shape[1]), "fitted": fitted.weights}
    if given.config.merge["kind"] == "lorahub":
        del candidates["average"]  # under this merge equal weights are no average
    found = dict(zip(candidates, objective.problem.losses(list(candidates.values())), strict=True))
    if not np.isfinite(found["fitted"]):
        raise TrainingError(f"router/{given.config.name}: the fitted weights have the loss {found['fitted']}")
    return found
