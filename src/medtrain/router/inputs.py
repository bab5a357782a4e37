"""What a fit reads: the experts of a library, and a task's rows drawn by seed."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch

from medtrain import artifacts
from medtrain.artifacts import Artifact
from medtrain.errors import ConfigError
from medtrain.experts.fold import read as read_adapter
from medtrain.experts.folder import Adapter
from medtrain.experts.fuse import check_one_base
from medtrain.router import methods
from medtrain.router.mixture import Mixture
from medtrain.router.settings import FitConfig
from medtrain.storage import Store
from medtrain.tokens.shards import Sample, Samples
from medtrain.train.order import Ints

Part = Literal["fit", "held out"]
"""Which rows of a task: those that weights are fitted to, or those that they are judged on."""


@dataclass(frozen=True)
class Inputs:
    """A fit's experts and rows."""

    config: FitConfig
    library: Artifact
    rows: dict[Part, list[Sample]]
    """Nothing is held out where the task has no such rows."""
    base_path: str

    @property
    def base(self) -> str:
        """The base's model reference."""
        return str(self.library.facts["base"])

    @property
    def facts(self) -> dict[str, Any]:
        """What the library says of each expert that is weighed, in the weights' order."""
        known = self.library.facts["experts"]
        return {name: known[name] for name in self.config.experts or known}

    @cached_property
    def adapters(self) -> list[Adapter]:
        """The experts, read when they are first asked for.

        Raises:
            ConfigError: they are of several bases.
        """
        found = [read_adapter(self.library.store, name) for name in self.facts]
        check_one_base(found)
        return found


def read(root: Store, config: FitConfig) -> Inputs:
    """Open library and rows.

    Raises:
        ConfigError: the library has no such expert, its base is not that of the tokens, or there are too few rows, or
            one that does not fit a micro-batch.
        MissingArtifact: an input does not exist; the message names the job that makes it.
        CorruptArtifact: one is damaged.
    """
    library = artifacts.locate(root, "library", config.library)
    tokens = artifacts.locate(root, "tokens", config.tokens)
    known, base = library.facts["experts"], str(library.facts["base"])
    for field, given in (("experts", config.experts or ()), ("own", (config.own,) if config.own else ())):
        if unknown := [name for name in given if name not in known]:
            raise ConfigError(f"{field}={unknown[0]!r}: library/{config.library} has {', '.join(known)}; name one")
    if tokens.facts["base"] != base:
        raise ConfigError(
            f"tokens={config.tokens}: made for the base {tokens.facts['base']}, and library/{config.library} is over "
            f"{base}; build the task's tokens for that base"
        )
    samples, judged = Samples.open(tokens), config.held_out
    rows = draw(samples, config.split, config.shots, config.seed)
    if len(rows) < (config.shots or 1):
        raise ConfigError(
            f"shots={config.shots}, split={config.split!r}: tokens/{tokens.name} has {len(rows)} such rows with a "
            f"trained token (splits: {', '.join(sorted(set(samples.splits)))}); ask for fewer, or another split"
        )
    parts: dict[Part, list[Sample]] = {
        "fit": rows,
        "held out": draw(samples, judged.split, judged.max_rows, judged.seed),
    }
    longest = max(len(sample.input_ids) for part in parts.values() for sample in part)
    if longest > config.passes.micro_tokens:
        raise ConfigError(
            f"passes.micro_tokens={config.passes.micro_tokens}: tokens/{tokens.name} has a row of {longest} tokens; "
            "give at least that many"
        )
    return Inputs(config, library, parts, artifacts.model_path(root, base))


def draw(samples: Samples, split: str, count: int | None, seed: int) -> list[Sample]:
    """At most so many rows of a split, by seed, in artifact order; those without a trained token are left out."""
    rows = samples.select(split)
    return [samples[int(row)] for row in drawn(rows[samples.trained_tokens[rows] > 0], count, seed)]


def drawn(rows: Ints, count: int | None, seed: int) -> Ints:
    """At most so many of some row numbers, by seed, in their order."""
    if count is None:
        return rows
    shuffled = np.random.Generator(np.random.PCG64([seed])).permutation(len(rows))
    return rows[np.sort(shuffled[:count])]


def mixture_key(inputs: Inputs) -> list[Any]:
    """What a mixture is made from, JSON: fits of one key may share it."""
    config = inputs.config
    model, merge = config.model.model_dump(mode="json"), methods.merge_of(config.method)
    return [inputs.library.fingerprint, list(inputs.facts), model, config.router.granularity, merge]


def mixture(inputs: Inputs, device: torch.device) -> Mixture:
    """The base with the experts in it, on a device.

    Raises:
        ConfigError: experts and base, or experts and method, do not go together.
    """
    from medtrain.train.model import load_base

    config = inputs.config
    model = load_base(inputs.base_path, config.model, device, layout="packed")
    return Mixture(model, inputs.adapters, config.router.granularity, methods.merge_of(config.method))
