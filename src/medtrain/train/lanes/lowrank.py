"""The low-rank products of all lanes at one linear layer: each lane's rows of a packed batch with its own A, E, B.

Written out forward and backward rather than left to autograd: the products go straight into the output, nothing of the
whole width is kept but the dropout mask, and short lanes are multiplied together. That no lane's numbers ever
meet another's, not even as a factor of zero, keeps one lane's NaN from the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

SHORT_TOKENS = 256
"""Lanes with at most so many tokens are multiplied in one batch, padded to the longest; longer ones one by one.

Products of 4 lanes, 256 -> 1024 and 1024 -> 256, r 12, forward and backward on one AVX2 core, in one batch against one
by one: 32 tokens a lane 1.1 against 1.6 ms, 128 tokens 3.9 against 4.7, 512 tokens 18.6 against 19.3, 1024 tokens 54.6
against 36.5 (2026-11-21)."""


@dataclass(frozen=True, slots=True)
class Factors:
    """One lane's factors at one layer: its product is `scale * B (E * A)`."""

    a: torch.Tensor
    """(r, in)."""
    e: torch.Tensor | None
    """(r, 1), AdaLoRA's singular values; None is LoRA."""
    b: torch.Tensor
    """(out, r)."""
    scale: float
    dropout: float
    """Rate on the product's input."""


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of a packed batch that belong to one lane."""

    lane: str
    start: int
    stop: int
    generator: torch.Generator
    """Draws this lane's dropout and nothing else."""

    @property
    def tokens(self) -> int:
        """How many rows it has."""
        return self.stop - self.start


def add_products(result: torch.Tensor, x: torch.Tensor, parts: Sequence[Part], factors: Sequence[Factors]) -> Any:
    """The base's output with each lane's product added to its rows.

    Args:
        result: (1, T, out), the base layer's output.
        x: (1, T, in), the base layer's input.
        parts: the lanes that are present and have factors here.
        factors: theirs, in the same order.
    """
    flat = [tensor for f in factors for tensor in (f.a, f.e, f.b)]
    return _Products.apply(result, x, parts, factors, *flat) if parts else result


def groups(parts: Sequence[Part], factors: Sequence[Factors]) -> list[list[int]]:
    """Positions of the lanes that are multiplied together: short ones of the same shape, any other alone."""
    found: dict[tuple[int, ...], list[int]] = {}
    for number, (part, f) in enumerate(zip(parts, factors, strict=True)):
        short = part.tokens <= SHORT_TOKENS
        found.setdefault((len(f.a), f.e is None) if short else (-1, number), []).append(number)
    return list(found.values())


class _Products(torch.autograd.Function):
    """result += dropout(x) (E * A)^T B^T * scale, by lane."""

    @staticmethod
    def forward(ctx: Any, result: torch.Tensor, x: torch.Tensor, parts: Any, factors: Any, *flat: Any) -> torch.Tensor:
        ctx.parts, ctx.factors, ctx.groups = parts, factors, groups(parts, factors)
        kept: list[torch.Tensor | None] = []
        rows = x.reshape(-1, x.shape[-1])
        result = result.clone()  # a 4-bit layer's output is a view that autograd lets nobody write to
        out = result.view(-1, result.shape[-1])
        for group in ctx.groups:
            mine, theirs = [parts[n] for n in group], [factors[n] for n in group]
            a, e, b = _stacked(theirs)
            m, mask = a * e, _mask(mine, theirs, rows)
            h = torch.bmm(_masked(_gathered(rows, mine, a.dtype), mask), m.mT)  # (K, T, r)
            _add(out, mine, h, b)
            kept += [a, e, b, m, mask, h]
        # The factors too, so that one that changes before the backward pass is an error.
        ctx.save_for_backward(x, *kept, *flat)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        x, *saved = ctx.saved_tensors
        rows, above = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
        below = torch.zeros_like(rows) if ctx.needs_input_grad[1] else None
        found: list[Any] = [None] * (3 * len(ctx.parts))
        for number, group in enumerate(ctx.groups):
            a, e, b, m, mask, h = saved[6 * number : 6 * number + 6]
            mine = [ctx.parts[n] for n in group]
            g = _gathered(above, mine, a.dtype)  # (K, T, out)
            dh = torch.bmm(g, b)
            # As (r, out) and not (out, r): three times faster on a CPU.
            db = torch.bmm(h.mT, g).mT
            dm = torch.bmm(dh.mT, _masked(_gathered(rows, mine, a.dtype), mask))  # of E * A * scale, (K, r, in)
            da, de = dm * e, (dm * a).sum(-1, keepdim=True)
            for place, n in enumerate(group):
                f = ctx.factors[n]
                found[3 * n : 3 * n + 3] = da[place], None if f.e is None else de[place] * _factor(f), db[place]
            if below is not None:
                _write(below, mine, _masked(torch.bmm(dh, m), mask))
        return gradient, None if below is None else below.view_as(x), None, None, *found


def _factor(factors: Factors) -> float:
    """What the product is multiplied with, the mean of the dropout's mask undone."""
    return factors.scale / (1 - factors.dropout)


def _stacked(factors: Sequence[Factors]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A (K, r, in), E times the factor (K, r, 1) or (K, 1, 1), and B (K, out, r)."""
    e = [f.a.new_full((1, 1), _factor(f)) if f.e is None else f.e * _factor(f) for f in factors]
    if len(factors) == 1:
        return factors[0].a[None], e[0][None], factors[0].b[None]
    return torch.stack([f.a for f in factors]), torch.stack(e), torch.stack([f.b for f in factors])


def _even(parts: Sequence[Part]) -> bool:
    """Whether parts lie end to end and are equally long."""
    return all(p.stop == q.start and p.tokens == q.tokens for p, q in pairwise(parts))


def _gathered(rows: torch.Tensor, parts: Sequence[Part], dtype: torch.dtype) -> torch.Tensor:
    """The lanes' rows as (K, T, width), zeros behind the shorter ones; a view where none is."""
    if _even(parts):
        return rows[parts[0].start : parts[-1].stop].view(len(parts), -1, rows.shape[-1]).to(dtype)
    padded = torch.zeros(len(parts), max(p.tokens for p in parts), rows.shape[-1], dtype=dtype, device=rows.device)
    for values, part in zip(padded, parts, strict=True):
        values[: part.tokens] = rows[part.start : part.stop]
    return padded


def _mask(parts: Sequence[Part], factors: Sequence[Factors], rows: torch.Tensor) -> torch.Tensor | None:
    """(K, T, in) of 0 and 1, drawn as `torch.nn.Dropout` draws on a CPU for each lane alone; None without dropout."""
    if not any(f.dropout for f in factors):
        return None
    tokens = max(part.tokens for part in parts)
    mask = torch.ones(len(parts), tokens, rows.shape[-1], dtype=factors[0].a.dtype, device=rows.device)
    for values, part, f in zip(mask, parts, factors, strict=True):
        if f.dropout:
            values[: part.tokens].bernoulli_(1 - f.dropout, generator=part.generator)
    return mask


def _masked(rows: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return rows if mask is None else rows * mask


def _write(rows: torch.Tensor, parts: Sequence[Part], values: torch.Tensor) -> None:
    """Put (K, T, width) where the lanes' rows are."""
    for own, part in zip(values, parts, strict=True):
        rows[part.start : part.stop] = own[: part.tokens]


def _add(out: torch.Tensor, parts: Sequence[Part], h: torch.Tensor, b: torch.Tensor) -> None:
    """out += h B^T on the lanes' rows."""
    if _even(parts) and out.dtype == h.dtype:
        out[parts[0].start : parts[-1].stop].view(len(parts), -1, out.shape[-1]).baddbmm_(h, b.mT)
        return
    for values, part in zip(torch.bmm(h, b.mT), parts, strict=True):
        out[part.start : part.stop] += values[: part.tokens]
