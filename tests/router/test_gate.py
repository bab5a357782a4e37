"""Numbers to weights by the paper's equations, written out; norms against whole matrices."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from medtrain.config import parse
from medtrain.errors import ConfigError
from medtrain.experts.folder import Adapter
from medtrain.router.gate import Gate, RouterConfig, norms_of, places_of


def gate(norms: Any = ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0)), **given: Any) -> Gate:
    """Two places, three experts."""
    return Gate(parse(RouterConfig, given), np.array(norms))


def drawn(size: int) -> torch.Tensor:
    """Random numbers of a router."""
    return torch.randn(size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def test_at_zero_all_weights_are_equal() -> None:
    found = gate(form="affine_norm", norms=[[1.0, 5.0, 0.0]] * 2).weights(torch.zeros(12, dtype=torch.float64))
    torch.testing.assert_close(found, torch.full((2, 3), 1 / 3, dtype=torch.float64))


@pytest.mark.parametrize("form", ["affine", "affine_norm"])
def test_equations_2_and_3(form: Any) -> None:
    norms, tau, x = [[3.0, 1.0, 2.0], [4.0, 0.0, 2.0]], 0.7, drawn(12)
    made = gate(norms, form=form, tau=tau)
    assert made.size == 12
    found = made.weights(x)
    for p in range(2):
        e = []
        for i in range(3):
            size = norms[p][i] / (sum(norms[p]) / 3) if form == "affine_norm" else 1.0
            e.append(float(x[3 * p + i]) * size + float(x[6 + 3 * p + i]))
        total = sum(math.exp(value / tau) for value in e)
        assert found[p].tolist() == pytest.approx([math.exp(value / tau) / total for value in e], rel=1e-12)


def test_norms_are_those_of_the_whole_updates(world: Any) -> None:
    modules = places_of(world.experts, "layer")
    found = norms_of(world.experts, modules)
    assert found.shape == (2, 3)
    for p in range(2):
        for i, expert in enumerate(world.experts):
            mine = [f for name, f in expert.modules.items() if name.startswith(f"model.layers.{p}.")]
            square = sum(float((f.scale * f.B.double() @ f.A.double()).square().sum()) for f in mine)
            assert found[p, i] == pytest.approx(square**0.5, rel=1e-10)


def test_places_stand_in_the_layers_order(world: Any) -> None:
    factors = next(iter(world.experts[0].modules.values()))
    names = [f"model.layers.{n}.mlp.up_proj" for n in (10, 2, 1)]
    found = places_of([Adapter("x", {names[0]: factors}), Adapter("x", dict.fromkeys(names[1:], factors))], "layer")
    assert list(found.values()) == ["model.layers.1", "model.layers.2", "model.layers.10"]
    assert list(found) == names[::-1]


@pytest.mark.parametrize("wrong", [{"tau": 0}, {"tau": math.inf}, {"gamma1": -1}, {"form": "linear"}])
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        parse(RouterConfig, wrong)
