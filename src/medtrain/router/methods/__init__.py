"""Ways to find experts' weights: one file each, named by `method.kind`.

A plug-in has `Config`, `MERGE` (what its weights mean: a merge of `router/mixture.py`), `fit(config, given)` and
`work(config, shape, rows)`, what such a fit takes at most.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from medtrain import plugins
from medtrain.config import Config, parse
from medtrain.router.gate import Array
from medtrain.router.mixture import Merge
from medtrain.router.objective import Objective, entropy

State = dict[str, Any]
"""JSON values from which a fit goes on exactly."""


def _nothing(*_: Any) -> None:
    """What is not kept."""


@dataclass(frozen=True)
class Given:
    """What a method fits, and where it says how far it is."""

    experts: Sequence[str]
    """Their names, in the order of the weights."""
    objective: Objective
    seed: int
    """Seed of every draw."""
    own: str | None = None
    """The expert that was trained for this very task, if there is one."""
    state: State | None = None
    """What `save` was last given before this fit was killed."""
    save: Callable[[State], None] = _nothing
    log: Callable[[dict[str, float], int], None] = _nothing
    """Numbers of a step or generation, counted from 1."""


@dataclass(frozen=True)
class Work:
    """What a fit takes at most."""

    steps: int = 0
    """Steps or generations, as `Given.log` counts them."""
    candidates: int = 0
    """Weights whose loss over all examples is asked for."""
    descents: int = 0
    """Passes over all examples with a gradient."""


@dataclass(frozen=True)
class Fitted:
    """What a method has found."""

    weights: Array
    """(places, experts)."""
    facts: dict[str, Any] = field(default_factory=dict)
    """JSON values that say how."""


def validate(method: dict[str, Any]) -> Config:
    """The method's own config, by its `kind`.

    Raises:
        ConfigError: there is no such kind, or a setting is wrong.
    """
    kind: type[Config] = _module(method).Config
    return parse(kind, method)


def merge_of(method: dict[str, Any]) -> Merge:
    """What the method's weights mean."""
    merge: Merge = _module(method).MERGE
    return merge


def work(method: dict[str, Any], shape: tuple[int, ...], rows: int) -> Work:
    """What a fit takes at most.

    Args:
        method: by `kind`.
        shape: (places, experts).
        rows: examples.
    """
    found: Work = _module(method).work(validate(method), shape, rows)
    return found


def fit(method: dict[str, Any], given: Given) -> Fitted:
    """Find weights, or go on finding them.

    Raises:
        ConfigError: the settings do not go with the experts.
        TrainingError: losses are no numbers.
    """
    found: Fitted = _module(method).fit(validate(method), given)
    return found


def spread(weights: Array) -> dict[str, float]:
    """Entropy in nats and largest weight, as metrics."""
    return {"entropy": entropy(weights), "largest_weight": float(weights.max())}


def _module(method: dict[str, Any]) -> Any:
    return plugins.load("router", "methods", str(method.get("kind", "gradient")))
