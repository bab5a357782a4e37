"""What every merge plug-in promises, of the package and of `$MEDTRAIN_PLUGINS`."""

from typing import Any

import pytest
import torch

from medtrain import plugins
from medtrain.config import Config
from medtrain.errors import ConfigError
from medtrain.experts import merges
from medtrain.experts.folder import Factors

KINDS = sorted(plugins.files("experts", "merges"))


def drawn(rank: int, seed: int, scale: float = 1.0) -> Factors:
    """Random float64 factors of a (30, 20) update."""
    draw = torch.Generator().manual_seed(seed)
    A = torch.randn(rank, 20, generator=draw, dtype=torch.float64)
    return Factors(A, torch.randn(30, rank, generator=draw, dtype=torch.float64), scale)


def full(factors: Factors) -> torch.Tensor:
    """The (out, in) update."""
    return factors.scale * factors.B @ factors.A


@pytest.mark.parametrize("kind", KINDS)
def test_its_config_names_it_and_refuses_what_it_does_not_know(kind: str) -> None:
    config = merges.validate({"kind": kind})
    assert isinstance(config, Config) and config.model_dump()["kind"] == kind
    assert plugins.load("experts", "merges", kind).__doc__
    assert all(info.description for info in type(config).model_fields.values())
    with pytest.raises(ConfigError, match="no_such_setting"):
        merges.validate({"kind": kind, "no_such_setting": 1})


@pytest.mark.parametrize("kind", KINDS)
def test_one_expert_alone_comes_back(kind: str) -> None:
    expert = drawn(4, 1, scale=0.25)
    torch.testing.assert_close(full(merges.merge([(1.0, expert)], {"kind": kind})), full(expert))


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_same_each_time_in_float64_and_leaves_the_experts_as_they_are(kind: str) -> None:
    parts = [(0.6, drawn(4, 1, scale=2.0)), (0.4, drawn(4, 2))]
    before = [(f.A.clone(), f.B.clone()) for _, f in parts]
    found: Any = [merges.merge(parts, {"kind": kind}) for _ in range(2)]
    assert torch.equal(found[0].A, found[1].A) and torch.equal(found[0].B, found[1].B)
    assert found[0].A.dtype == found[0].B.dtype == torch.float64
    assert found[0].A.shape[1] == 20 and found[0].B.shape[0] == 30
    assert all(torch.equal(f.A, A) and torch.equal(f.B, B) for (_, f), (A, B) in zip(parts, before, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_experts_does_not_matter(kind: str) -> None:
    parts = [(0.6, drawn(4, 1, scale=2.0)), (0.3, drawn(4, 2)), (0.1, drawn(4, 3))]
    found, turned = (full(merges.merge(given, {"kind": kind})) for given in (parts, parts[::-1]))
    torch.testing.assert_close(found, turned)


@pytest.mark.parametrize("kind", KINDS)
def test_unequal_ranks_are_merged_or_refused_by_name(kind: str) -> None:
    try:
        made = merges.merge([(0.5, drawn(4, 1)), (0.5, drawn(7, 2))], {"kind": kind})
    except ConfigError as error:
        assert f"merge.kind={kind}" in str(error) and "[4, 7]" in str(error)
    else:
        assert full(made).shape == (30, 20)
