"""Many adapters fused into one by weights, with what that costs in exactness."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import FiniteFloat

from medtrain.config import Config
from medtrain.errors import ConfigError
from medtrain.experts import merges
from medtrain.experts.fold import read
from medtrain.experts.folder import Adapter, Factors, write
from medtrain.experts.products import Weighted, distance, exact_sum, norm
from medtrain.storage import Store

Granularity = Literal["task", "layer", "matrix"]


class Weights(Config):
    """How much of each expert, in one of three granularities."""

    granularity: Granularity = "task"
    """What has weights of its own: the whole adapter, each layer, or each matrix."""
    values: dict[str, tuple[FiniteFloat, ...]]
    """Place (see `place`) -> one number for each expert, in the experts' order."""

    def at(self, module: str) -> tuple[float, ...]:
        """The experts' weights in a module.

        Raises:
            ConfigError: its place has none.
        """
        found = self.values.get(place(module, self.granularity))
        if found is None:
            raise ConfigError(
                f"weights.values: nothing for {place(module, self.granularity)!r}, the place of {module} at "
                f"granularity={self.granularity}; give one number for each expert there"
            )
        return found


def place(module: str, granularity: Granularity) -> str:
    """Where a module's weights stand: `task`; its layer, as `model.layers.3`; or its own name.

    A module that is in no layer (the head) is a place of its own.
    """
    if granularity == "task":
        return "task"
    layer = re.match(r".*?\.\d+(?=\.)", module)
    return layer[0] if layer and granularity == "layer" else module


@dataclass(frozen=True)
class Report:
    """How far a fused adapter, as it is written, is from the weighted sum of the experts' products."""

    error: float
    """Frobenius norm of the difference over that of the sum, all modules together."""
    errors: dict[str, float]
    """The same by module."""
    ranks: dict[str, int]
    """The fused rank by module that has an update."""


def fuse(store: Store, experts: Sequence[str], weights: Weights, merge: dict[str, Any], target: str) -> Report:
    """Fuse adapter folders of a store, AdaLoRA folded, into one LoRA adapter folder of it.

    Args:
        experts: folders in PEFT's layout.
        weights: how much of each.
        merge: `kind` of the merge and its settings; `{"kind": "cat"}` is exact.
        target: folder to write.

    Raises:
        ConfigError: experts, weights and merge do not go together; nothing is written.
        CorruptArtifact: an expert's folder is not whole.
    """
    adapter, report = combine([read(store, folder) for folder in experts], weights, merge)
    write(store, target, adapter)
    return report


def check_one_base(experts: Sequence[Adapter]) -> None:
    """See that adapters fit one base.

    Raises:
        ConfigError: they do not.
    """
    first = experts[0]
    for number, adapter in enumerate(experts, 1):
        if (adapter.base, adapter.fan_in_fan_out) != (first.base, first.fan_in_fan_out):
            raise ConfigError(
                f"expert {number}: it was trained on {adapter.base!r} and expert 1 on {first.base!r}; "
                "an update fits its own base alone, so fuse experts of one base"
            )


def combine(experts: Sequence[Adapter], weights: Weights, merge: dict[str, Any]) -> tuple[Adapter, Report]:
    """Fuse adapters in memory, module by module in float64, rounded once to float32.

    A module is adapted if any expert adapts it; one that does not adds nothing there.

    Raises:
        ConfigError: experts, weights and merge do not go together.
    """
    check_one_base(experts)
    first = experts[0]
    fused, exact = dict[str, Factors](), dict[str, tuple[float, float]]()
    for module in sorted({name for adapter in experts for name in adapter.modules}):
        parts = _taking_part(experts, weights, module)
        if parts:
            made = merges.merge(parts, merge)
            fused[module] = Factors(made.A.float(), made.B.float(), made.scale)
            wanted = exact_sum(parts)
            exact[module] = (distance(wanted, _double(fused[module])), norm(wanted))
    apart = sum(d**2 for d, _ in exact.values()) ** 0.5
    size = sum(n**2 for _, n in exact.values()) ** 0.5
    errors = {module: d / n if n else 0.0 for module, (d, n) in exact.items()}
    ranks = {module: factors.rank for module, factors in fused.items()}
    return Adapter(first.base, fused, first.fan_in_fan_out), Report(apart / size if size else 0.0, errors, ranks)


def _taking_part(experts: Sequence[Adapter], weights: Weights, module: str) -> Weighted:
    """The experts that have a weight and an update in a module, in float64."""
    given = weights.at(module)
    if len(given) != len(experts):
        raise ConfigError(
            f"weights.values[{place(module, weights.granularity)!r}]: {len(given)} numbers for {len(experts)} experts; "
            "give one for each"
        )
    parts = [
        (weight, _double(adapter.modules[module]))
        for weight, adapter in zip(given, experts, strict=True)
        if weight and module in adapter.modules
    ]
    shapes = sorted({(f.B.shape[0], f.A.shape[1]) for _, f in parts})
    if len(shapes) > 1:
        raise ConfigError(f"module {module}: the experts' updates are {shapes} (out, in); fuse experts of one base")
    return parts


def _double(factors: Factors) -> Factors:
    return Factors(factors.A.double(), factors.B.double(), factors.scale)
