"""The frozen base with every expert's factors in it: a forward pass under any weights of theirs, or under many at once.

Nothing is loaded for a candidate: its weights are a few numbers that every layer looks up. Candidates share a 4-bit
layer's dequantisation, and either the base's product, to which the experts' factors add, or the sum of the experts'
products with the base's weight, where a candidate has so many tokens that one sum costs less than the factors.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.nn.functional import linear

from medtrain.errors import ConfigError
from medtrain.experts.folder import Adapter, Factors
from medtrain.experts.fuse import Granularity
from medtrain.experts.merges import equal_rank
from medtrain.router.gate import places_of

Merge = Literal["cat", "lorahub"]
"""What weights mean, as in `experts/merges`: those of a sum of products, or of A and B each."""

SUM_PAYS = 2
"""How many times cheaper a candidate's sum of products must be than its factors, by multiplications: it is also written
to memory once."""


@dataclass
class Present:
    """The weights of the forward pass that is under way; every layer looks here."""

    weights: torch.Tensor | None = None
    """(C, places, experts); None is the base alone."""
    read: torch.Tensor | None = None
    """(N,) int64 positions whose last hidden states are read; None is all."""


class MixedLinear(torch.nn.Module):
    """A frozen linear layer and the factors of the experts that adapt it, side by side, in float32.

    Args:
        base_layer: the layer as it was.
        held: (number of the expert, its factors here) of those that adapt it.
        spot: position of this layer's place among the places.
        merge: what weights mean.
        present: where they are looked up.
    """

    A: torch.Tensor
    """(sum r, in)."""
    B: torch.Tensor
    """(out, sum r)."""
    columns: torch.Tensor
    """(experts that adapt this, sum r): 1 where a column belongs to an expert."""

    def __init__(
        self,
        base_layer: torch.nn.Linear,
        held: Sequence[tuple[int, Factors]],
        spot: int,
        merge: Merge,
        present: Present,
    ):
        super().__init__()
        self.base_layer = base_layer
        self._spot, self._merge, self._present = spot, merge, present
        self._experts = [number for number, _ in held]
        device = base_layer.weight.device
        # The root on either side, so that both merges take the same factors.
        A = torch.cat([f.A.double() * f.scale**0.5 for _, f in held])
        B = torch.cat([f.B.double() * f.scale**0.5 for _, f in held], dim=1)
        ones = torch.block_diag(*(torch.ones(1, f.rank) for _, f in held))
        for name, tensor in (("A", A), ("B", B), ("columns", ones)):
            self.register_buffer(name, tensor.to(device, torch.float32), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(1, C * T, in) -> (1, C * T, out), the rows of each candidate under its own weights."""
        if self._present.weights is None:
            alone: torch.Tensor = self.base_layer(x)
            return alone
        weights = self._present.weights[:, self._spot, self._experts].to(self.A.dtype)  # (C, K)
        if self._sum_pays(x, weights):
            return self._summed(x.view(len(weights), -1, x.shape[-1]), weights).view(*x.shape[:-1], -1)
        result: torch.Tensor = self.base_layer(x)
        h = linear(x.to(self.A.dtype), self.A)  # (1, C * T, sum r)
        mixed = self._mixed(h.view(len(weights), -1, h.shape[-1]), weights)
        return (result + linear(mixed.view_as(h), self.B)).to(result.dtype)

    def _sum_pays(self, x: torch.Tensor, weights: torch.Tensor) -> bool:
        """Whether T tokens of a candidate cost more through the factors, T (in + out) sum r, than a sum, in out sum r.

        The factors stay for gradients, which a sum would carry as whole matrices, and in 16 bits, where rounding the
        sum would lose most of a small update.
        """
        if x.dtype != torch.float32 or (torch.is_grad_enabled() and weights.requires_grad):
            return False
        out, inner, tokens = self.base_layer.out_features, self.base_layer.in_features, x.shape[1] // len(weights)
        return bool(tokens * (out + inner) >= SUM_PAYS * out * inner)

    def _summed(self, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """(C, T, in) -> (C, T, out): each candidate's rows through W0 + sum_i R_i s_i B_i A_i."""
        base, bias = _whole_weight(self.base_layer), self.base_layer.bias
        result = x.new_empty(*x.shape[:-1], len(base))
        for own, rows, out in zip(weights, x, result, strict=True):
            W = torch.addmm(base, *self._merged(own)).t()  # (in, out)
            torch.mm(rows, W, out=out) if bias is None else torch.addmm(bias, rows, W, out=out)
        return result

    def _merged(self, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The factors (out, r) and (r, in) of one candidate's update, by its weights (K,)."""
        if self._merge == "lorahub":
            count = len(self._experts)
            B = self.B.unflatten(1, (count, -1)) * weights[:, None]
            A = self.A.unflatten(0, (count, -1)) * weights[:, None, None]
            return B.sum(1), A.sum(0)
        return self.B * (weights @ self.columns), self.A

    def _mixed(self, h: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """What B takes: (C, T, sum r)."""
        if self._merge == "lorahub":
            # (sum_j w_j B_j) (sum_i w_i A_i): each expert's B gets the weighted sum of what every A gave.
            apart = h.unflatten(-1, (len(self._experts), -1))  # (C, T, K, r)
            scale = weights[:, None, :, None]
            return (scale * (scale * apart).sum(2, keepdim=True)).flatten(2)
        # A product with zeros and ones, because the gradient of an indexed look-up has no fixed order of summation.
        return h * (weights @ self.columns)[:, None]


class Mixture:
    """A base that holds experts; its linear layers are replaced in the model that is given.

    Args:
        model: a causal language model; it is put in evaluation mode and frozen.
        experts: their adapters, in the order of the weights.
        granularity: what has weights of its own.
        merge: what weights mean.

    Raises:
        ConfigError: an expert does not fit the base, or the experts do not go with the merge.
    """

    def __init__(self, model: Any, experts: Sequence[Adapter], granularity: Granularity, merge: Merge = "cat"):
        self.model = model.eval().requires_grad_(False)
        self._present = Present()
        self.modules = places_of(experts, granularity)
        """Name of each adapted layer -> its place."""
        self.places = tuple(dict.fromkeys(self.modules.values()))
        for name, spot in self.modules.items():
            held = [(number, e.modules[name]) for number, e in enumerate(experts) if name in e.modules]
            if merge == "lorahub":
                equal_rank("lorahub", [factors for _, factors in held])
            layer = _checked(model, name, [factors for _, factors in held])
            parent, _, child = name.rpartition(".")
            mixed = MixedLinear(layer, held, self.places.index(spot), merge, self._present)
            setattr(model.get_submodule(parent), child, mixed)
        last = getattr(model.model.layers[-1], "mlp", None)
        if last is not None:
            _run_where_read(last, self._present)

    @contextmanager
    def weighted(self, weights: torch.Tensor, read: torch.Tensor | None = None) -> Iterator[None]:
        """Forward passes in here run under weights, through which gradients flow; those outside run the base alone.

        Args:
            weights: (C, places, experts). A packed row is then C runs of as many tokens, one for each candidate.
            read: (N,) positions in this row, as many of each candidate; last hidden states elsewhere mean nothing.
        """
        self._present.weights, self._present.read = weights, read
        try:
            yield
        finally:
            self._present.weights = self._present.read = None


def _run_where_read(mlp: Any, present: Present) -> None:
    """Let the last layer's MLP, behind which no token sees another, run on the positions that are read alone."""
    everywhere = mlp.forward

    def forward(x: torch.Tensor) -> torch.Tensor:
        if present.read is None:
            whole: torch.Tensor = everywhere(x)
            return whole
        found = everywhere(x.index_select(1, present.read))
        return torch.zeros_like(x).index_copy(1, present.read, found)

    mlp.forward = forward


def _whole_weight(layer: torch.nn.Linear) -> torch.Tensor:
    """A layer's weight, (out, in); that of a 4-bit one as it computes with it."""
    state = getattr(layer.weight, "quant_state", None)
    if state is None:
        return layer.weight
    from bitsandbytes.functional import dequantize_4bit

    found: torch.Tensor = dequantize_4bit(layer.weight.data, state)
    return found


def _checked(model: Any, name: str, held: Sequence[Factors]) -> torch.nn.Linear:
    """The layer of a name, if the experts' factors fit it.

    Raises:
        ConfigError: they do not, or it is the head.
    """
    try:
        layer = model.get_submodule(name)
    except AttributeError:
        raise ConfigError(
            f"experts: they adapt {name}, which the base has not; give the base they were trained on"
        ) from None
    if not name.startswith("model.") or not isinstance(layer, torch.nn.Linear):
        raise ConfigError(
            f"experts: they adapt {name}, a {type(layer).__name__}; a router weighs the linear layers below the head "
            "alone, so train the experts on these"
        )
    for factors in held:
        given, wanted = (len(factors.B), factors.A.shape[1]), (layer.out_features, layer.in_features)
        if given != wanted:
            raise ConfigError(
                f"experts: an update of {name} is {given} (out, in) and the layer {wanted}; "
                "give the base they were trained on"
            )
    return layer
