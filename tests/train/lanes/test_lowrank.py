"""The grouped low-rank products, forward and backward, against a naive float64 loop and PyTorch's own dropout."""

from typing import Any

import pytest
import torch

from medtrain.train.lanes import lowrank
from medtrain.train.lanes.lowrank import Factors, Part, add_products, groups

IN, OUT = 8, 6
SIZES = {
    "even": ((4, 4, 4), (3, 3, 3)),
    "uneven": ((5, 2, 3), (3, 3, 3)),
    "ranks": ((4, 4, 4), (3, 2, 3)),
    "long": ((4, 12, 4), (3, 3, 3)),
    "alone": ((7,), (3,)),
}
"""Tokens and ranks by lane; more than 8 tokens are made to count as long."""


def drawn(tokens: tuple[int, ...], ranks: tuple[int, ...], dtype: torch.dtype, *, dropout: bool = True) -> Any:
    """Base output, input, parts and factors; the second lane is a LoRA, the last one has no dropout."""
    torch.manual_seed(0)
    ends = torch.tensor(tokens).cumsum(0).tolist()
    parts = [
        Part(f"lane{n}", end - length, end, torch.Generator().manual_seed(n))
        for n, (end, length) in enumerate(zip(ends, tokens, strict=True))
    ]
    factors = [
        Factors(
            torch.randn(r, IN, dtype=dtype, requires_grad=True),
            None if n == 1 else torch.randn(r, 1, dtype=dtype, requires_grad=True),
            torch.randn(OUT, r, dtype=dtype, requires_grad=True),
            scale=1.5 + n,
            dropout=0.3 if dropout and n != 2 else 0.0,
        )
        for n, r in enumerate(ranks)
    ]
    return torch.randn(1, sum(tokens), OUT, dtype=dtype), torch.randn(1, sum(tokens), IN, dtype=dtype), parts, factors


def naive(result: torch.Tensor, x: torch.Tensor, parts: Any, factors: Any) -> torch.Tensor:
    """One lane and one row at a time, each lane's mask from PyTorch's dropout under the lane's seed."""
    rows = list(result[0])
    for number, (part, f) in enumerate(zip(parts, factors, strict=True)):
        torch.manual_seed(number)
        own = torch.nn.functional.dropout(x[:, part.start : part.stop], f.dropout)[0]
        e = torch.ones(len(f.a), 1, dtype=x.dtype) if f.e is None else f.e
        for place, row in enumerate(own):
            rows[part.start + place] = rows[part.start + place] + f.scale * (f.b @ (e[:, 0] * (f.a @ row)))
    return torch.stack(rows)[None]


@pytest.mark.parametrize("case", SIZES)
def test_products_and_their_gradients_are_those_of_a_naive_loop(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lowrank, "SHORT_TOKENS", 8)
    result, x, parts, factors = drawn(*SIZES[case], torch.float64)
    leaves = [result.requires_grad_(), x.requires_grad_()]
    leaves += [tensor for f in factors for tensor in (f.a, f.e, f.b) if tensor is not None]
    weights = torch.randn(1, result.shape[1], OUT, dtype=torch.float64)
    wanted = naive(result, x, parts, factors)
    found = add_products(result, x, parts, factors)
    torch.testing.assert_close(found, wanted)
    gradients = torch.autograd.grad((found * weights).sum(), leaves)
    for gradient, reference in zip(gradients, torch.autograd.grad((wanted * weights).sum(), leaves), strict=True):
        torch.testing.assert_close(gradient, reference)


def test_short_lanes_of_one_shape_are_multiplied_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lowrank, "SHORT_TOKENS", 8)
    found = {case: groups(*drawn(*sizes, torch.float32)[2:]) for case, sizes in SIZES.items()}
    assert found["even"] == [[0, 2], [1]], "the second is a LoRA"
    assert found["ranks"] == [[0, 2], [1]] and found["long"] == [[0, 2], [1]] and found["alone"] == [[0]]


def test_rows_of_a_lane_without_factors_here_are_the_base_s() -> None:
    result, x, parts, factors = drawn((3, 4, 5), (3, 3, 3), torch.float32)
    x.requires_grad_()
    found = add_products(result, x, [parts[0], parts[2]], [factors[0], factors[2]])
    assert torch.equal(found[:, 3:7], result[:, 3:7]) and not torch.equal(found[:, :3], result[:, :3])
    found.sum().backward()
    assert not x.grad[:, 3:7].any() and x.grad[:, :3].any() and x.grad[:, 7:].any()
    assert add_products(result, x, [], []) is result


@pytest.mark.parametrize("where", ["input", "factor"])
def test_a_lane_that_is_no_number_spoils_no_other(where: str) -> None:
    def gradients(broken: bool) -> tuple[list[torch.Tensor], torch.Tensor]:
        result, x, parts, factors = drawn((4, 4, 4), (3, 3, 3), torch.float32)
        x.requires_grad_()
        if broken and where == "input":
            x.data[:, 8:] = float("nan")
        if broken and where == "factor":
            factors[2].b.data[:] = float("nan")
        found = add_products(result, x, parts, factors)
        found.square().sum().backward()
        own = [tensor.grad for f in factors[:2] for tensor in (f.a, f.e, f.b) if tensor is not None]
        return [*own, x.grad[:, :8], found[:, :8].detach()], found[:, 8:].detach()

    healthy, _ = gradients(broken=False)
    beside, broken = gradients(broken=True)
    assert all(torch.equal(a, b) for a, b in zip(healthy, beside, strict=True)) and broken.isnan().any()


def test_factors_changed_between_forward_and_backward_are_seen() -> None:
    result, x, parts, factors = drawn((4, 4, 4), (3, 3, 3), torch.float32)
    found = add_products(result, x, parts, factors)
    with torch.no_grad():
        factors[0].a.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        found.sum().backward()
