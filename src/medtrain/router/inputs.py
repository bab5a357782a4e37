"""What a fit reads: the experts of a library, and a task's rows drawn by seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from medtrain import artifacts
from medtrain.artifacts import Artifact
from medtrain.errors import ConfigError
from medtrain.experts.fold import read as read_adapter
from medtrain.experts.folder import Adapter
from medtrain.router import methods
from medtrain.router.examples import Examples
from medtrain.router.mixture import Mixture
from medtrain.router.settings import FitConfig
from medtrain.storage import Store
from medtrain.tokens.shards import Sample, Samples


@dataclass(frozen=True)
class Inputs:
    """A fit's experts and examples."""

    config: FitConfig
    experts: Sequence[str]
    adapters: Sequence[Adapter]
    samples: Sequence[Sample]
    base: str
    """The base's model reference."""
    base_path: str
    facts: dict[str, Any]
    """What the library says of each expert."""


def read(root: Store, config: FitConfig) -> Inputs:
    """Open library and rows.

    Raises:
        ConfigError: the library has no such expert, its base is not that of the tokens, or there are too few rows.
        MissingArtifact: an input does not exist; the message names the job that makes it.
        CorruptArtifact: one is damaged.
    """
    library = artifacts.locate(root, "library", config.library)
    tokens = artifacts.locate(root, "tokens", config.tokens)
    facts: dict[str, Any] = library.facts["experts"]
    names = list(config.experts or facts)
    if unknown := [name for name in names if name not in facts]:
        raise ConfigError(f"experts={unknown[0]!r}: library/{config.library} has {', '.join(facts)}")
    base = str(library.facts["base"])
    if tokens.facts["base"] != base:
        raise ConfigError(
            f"tokens={config.tokens}: made for the base {tokens.facts['base']}, and library/{config.library} is over "
            f"{base}; build the task's tokens for that base"
        )
    return Inputs(
        config=config,
        experts=names,
        adapters=[read_adapter(library.store, name) for name in names],
        samples=draw(tokens, config),
        base=base,
        base_path=artifacts.model_path(root, base),
        facts={name: facts[name] for name in names},
    )


def draw(tokens: Artifact, config: FitConfig) -> list[Sample]:
    """The rows to fit to, in artifact order; those without a trained token are left out.

    Raises:
        ConfigError: there are too few.
    """
    samples = Samples.open(tokens)
    rows = samples.select(config.split)
    rows = rows[samples.trained_tokens[rows] > 0]
    if len(rows) < (config.shots or 1):
        raise ConfigError(
            f"shots={config.shots}: tokens/{tokens.name} has {len(rows)} rows with a trained token in split "
            f"{config.split!r} (it has the splits {', '.join(sorted(set(samples.splits)))}); ask for fewer, or another"
        )
    if config.shots is not None:
        shuffled = np.random.Generator(np.random.PCG64([config.seed])).permutation(len(rows))
        rows = rows[np.sort(shuffled[: config.shots])]
    return [samples[int(row)] for row in rows]


def load(inputs: Inputs, device: torch.device) -> Examples:
    """The base with the experts in it, and the examples, on a device.

    Raises:
        ConfigError: experts and base, or experts and method, do not go together.
        TrainingError: an example does not fit a pass.
    """
    from medtrain.train.model import load_base

    config = inputs.config
    model = load_base(inputs.base_path, config.model, device, layout="packed")
    mixture = Mixture(model, inputs.adapters, config.router.granularity, methods.merge_of(config.method))
    return Examples(mixture, inputs.samples, config.passes)
