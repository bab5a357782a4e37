"""What a process keeps from fit to fit: one base with its experts, and the rows of each task."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from medtrain import artifacts
from medtrain.router import inputs
from medtrain.router.examples import Examples
from medtrain.router.gate import Array, Gate, norms_of
from medtrain.router.inputs import Inputs, Part
from medtrain.router.mixture import Mixture
from medtrain.router.objective import Objective, Problem
from medtrain.router.settings import FitConfig
from medtrain.storage import Store
from medtrain.tokens.shards import Sample

OF_A_FIT_ALONE = ("name", "router", "method", "rank")
"""Settings that rows do not depend on."""


class Held:
    """Inputs, mixture and examples on a device, as long as fits ask for the same; rows are kept by task.

    Args:
        device: where they lie.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._inputs: dict[str, tuple[Any, Inputs]] = {}
        self._mixture: tuple[list[Any], Mixture, Array] | None = None
        self._examples: dict[tuple[str, Part], tuple[list[Sample], Examples]] = {}

    def inputs(self, root: Store, config: FitConfig) -> Inputs:
        """A fit's library and rows; raises as `inputs.read`."""
        made_of = [artifacts.locate(root, kind, getattr(config, kind)).fingerprint for kind in ("library", "tokens")]
        key = [root.root, *made_of, config.model_dump(mode="json", exclude=set(OF_A_FIT_ALONE))]
        known = self._inputs.get(config.tokens)
        if known is None or known[0] != key:
            known = self._inputs[config.tokens] = key, inputs.read(root, config)
        return replace(known[1], config=config)

    def examples(self, given: Inputs, part: Part) -> Examples:
        """The rows of a part over the mixture.

        Args:
            given: what `inputs` gave.
            part: which of its rows.
        """
        mixture, rows = self._mixed(given)[0], given.rows[part]
        known = self._examples.get((given.config.tokens, part))
        if known is None or known[0] is not rows:
            known = self._examples[given.config.tokens, part] = rows, Examples(mixture, rows, given.config.passes)
        return known[1]

    def others(self, given: Inputs, samples: Sequence[Sample]) -> Examples:
        """Other rows over the mixture, which are not kept."""
        return Examples(self._mixed(given)[0], samples, given.config.passes)

    def objective(self, given: Inputs) -> Objective:
        """Equation (6) of a fit, as `fit.objective_of` makes it."""
        gate = Gate(given.config.router, self._mixed(given)[1])
        return Objective(gate, Problem(self.examples(given, "fit"), given.rows["fit"], given.config.passes))

    def _mixed(self, given: Inputs) -> tuple[Mixture, Array]:
        """The base with the experts in it, and their norms."""
        key = inputs.mixture_key(given)
        if self._mixture is None or self._mixture[0] != key:
            # The old base leaves memory, with the examples that refer to it, before the new one enters.
            self._mixture, self._examples = None, {}
            made = inputs.mixture(given, self.device)
            self._mixture = key, made, norms_of(given.adapters, made.modules)
        return self._mixture[1:]
