"""Experts weighed in place against the naive sum and unmodified PEFT; candidates side by side against one by one."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import peft
import pytest
import torch

from medtrain.errors import ConfigError
from medtrain.experts.folder import Adapter, write
from medtrain.experts.fuse import Weights, combine
from medtrain.router import mixture as room
from medtrain.router.mixture import MixedLinear, Mixture
from medtrain.train.batches import collate, join
from medtrain.train.loss import LossModule
from medtrain.train.order import BatchConfig

Draw = Callable[..., torch.Tensor]
PLACES = {"task": 1, "layer": 2, "matrix": 14}


@pytest.fixture(params=["factors", "sum"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether a layer adds what the experts' factors give, or sums their products with its weight."""
    monkeypatch.setattr(room, "SUM_PAYS", math.inf if request.param == "factors" else 0)
    return str(request.param)


@pytest.fixture
def factors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every layer adds what the experts' factors give."""
    monkeypatch.setattr(room, "SUM_PAYS", math.inf)


def batch_of(world: Any, *rows: int) -> Any:
    """One packed row."""
    return collate(world.rows(*rows), BatchConfig(micro_tokens=4096), 3)


def losses(mixture: Mixture, weights: torch.Tensor, batch: Any) -> torch.Tensor:
    """(C, N) token losses of candidates side by side."""
    with mixture.weighted(weights):
        found = LossModule(mixture.model).token_losses(join([batch] * len(weights)))
    return found.view(len(weights), -1)


def one_rank(world: Any) -> list[Adapter]:
    """Experts that LoRAHub can merge."""
    return [world.expert(5, 3, 0.5), world.expert(6, 3, 2.0, "q_proj", "down_proj")]


def opened(world: Any, model: Any, experts: list[Adapter], weights: torch.Tensor, **given: Any) -> Any:
    """The model with a fused adapter, through PEFT."""
    granularity = given.get("granularity", "task")
    mixture = Mixture(world.base(), experts, granularity)
    values = {p: tuple(w.tolist()) for p, w in zip(mixture.places, weights, strict=True)}
    adapter, _ = combine(experts, Weights(granularity=granularity, values=values), {"kind": given.get("kind", "cat")})
    write(world.store, "fused", adapter)
    return peft.PeftModel.from_pretrained(model, str(world.store.local("fused"))).eval()


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("granularity", PLACES)
def test_losses_are_those_of_peft_with_the_fused_adapter(world: Any, random_weights: Draw, granularity: Any) -> None:
    mixture, batch = Mixture(world.base(), world.experts, granularity), batch_of(world, 0, 1, 2)
    assert len(mixture.places) == PLACES[granularity] and len(mixture.modules) == 14
    R = random_weights(1, len(mixture.places), 3)
    theirs = opened(world, world.base(), world.experts, R[0], granularity=granularity)
    with torch.no_grad():
        wanted, alone = LossModule(theirs).token_losses(batch), LossModule(world.base()).token_losses(batch)
        found = losses(mixture, R, batch)[0]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert float((alone - wanted).abs().max()) > 0.1


@pytest.mark.parametrize("granularity", PLACES)
def test_gradients_are_those_of_the_naive_sum_in_float64(world: Any, random_weights: Draw, granularity: Any) -> None:
    mixture, rows = Mixture(world.base(), world.experts, granularity), (0, 1, 2)
    R = random_weights(1, len(mixture.places), 3).requires_grad_()
    losses(mixture, R, batch_of(world, *rows)).mean().backward()
    leaf = R.detach().clone().requires_grad_()
    loss = world.naive(world.rows(*rows), dict(zip(mixture.places, leaf[0], strict=True)), granularity)
    loss.backward()
    assert R.grad is not None and leaf.grad is not None and float(leaf.grad.abs().max()) > 1e-3
    torch.testing.assert_close(R.grad, leaf.grad, rtol=1e-4, atol=1e-6)
    assert all(not p.requires_grad and p.grad is None for p in mixture.model.parameters())


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("precision", "close"), [("fp32", 1e-5), ("nf4", 1e-4)])
def test_candidates_side_by_side_are_each_alone(world: Any, random_weights: Draw, precision: str, close: float) -> None:
    base, batch = world.base(precision, compute_dtype="float32"), batch_of(world, 0, 1)
    mixture, R = Mixture(base, world.experts, "layer"), random_weights(4, 2, 3)
    with torch.no_grad():
        together, again = losses(mixture, R, batch), losses(mixture, R, batch)
        apart = torch.cat([losses(mixture, candidate[None], batch) for candidate in R])
    assert torch.equal(together, again)
    torch.testing.assert_close(together, apart, rtol=close, atol=close)
    assert float((together[0] - together[1]).abs().max()) > 100 * close


@pytest.mark.parametrize("precision", ["fp32", "nf4"])
def test_both_ways_have_the_same_losses(
    world: Any, random_weights: Draw, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixture = Mixture(world.base(precision, compute_dtype="float32"), world.experts, "layer")
    R, batch, found = random_weights(3, 2, 3), batch_of(world, 0, 1), []
    for pays in (0, math.inf):
        monkeypatch.setattr(room, "SUM_PAYS", pays)
        with torch.no_grad():
            found.append(losses(mixture, R, batch))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)
    assert not torch.equal(*found)


@pytest.mark.parametrize(
    ("tokens", "dtype", "learns", "sums"),
    [
        (86, torch.float32, False, True),
        (85, torch.float32, False, False),  # 2 * 64 * 128 / (64 + 128) = 85.3
        (86, torch.bfloat16, False, False),
        (86, torch.float32, True, False),
    ],
)
def test_when_the_sum_is_made(world: Any, tokens: int, dtype: torch.dtype, learns: bool, sums: bool) -> None:
    mixture = Mixture(world.base().to(dtype), world.experts, "task")
    layer = mixture.model.get_submodule("model.layers.0.mlp.down_proj")
    ran: list[int] = []
    layer.base_layer.register_forward_hook(lambda *_: ran.append(1))
    with mixture.weighted(torch.ones(2, 1, 3, requires_grad=learns)):
        layer(torch.ones(1, 2 * tokens, 128, dtype=dtype))
    assert ran == ([] if sums else [1])


@pytest.mark.usefixtures("way")
def test_the_last_mlp_runs_where_something_is_read(world: Any, random_weights: Draw) -> None:
    mixture, R = Mixture(world.base(), world.experts, "task"), random_weights(2, 1, 3)
    batch, ran = join([batch_of(world, 0, 1)] * 2), list[int]()
    with torch.no_grad():
        with mixture.weighted(R):
            wanted = LossModule(mixture.model).token_losses(batch)
        for layer in mixture.model.model.layers:
            layer.mlp.down_proj.register_forward_hook(lambda module, given, result: ran.append(given[0].shape[1]))
        with mixture.weighted(R, batch.predictors):
            found = LossModule(mixture.model).token_losses(batch)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert ran == [batch.input_ids.shape[1], batch.trained_tokens]


@pytest.mark.usefixtures("factors")
def test_each_layer_runs_its_base_once_for_all_candidates(world: Any, random_weights: Draw) -> None:
    mixture, batch = Mixture(world.base(), world.experts, "task"), batch_of(world, 0, 1)
    shapes: list[Any] = []
    layer = mixture.model.get_submodule("model.layers.0.mlp.down_proj")
    assert isinstance(layer, MixedLinear)
    layer.base_layer.register_forward_hook(lambda module, given, result: shapes.append(given[0].shape[:2]))
    with torch.no_grad():
        losses(mixture, random_weights(4, 1, 3), batch)
    assert shapes == [(1, 4 * batch.input_ids.shape[1])]


@pytest.mark.usefixtures("factors")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_expert_alone_is_peft_to_the_last_bit(world: Any, precision: str) -> None:
    experts, batch = [world.expert(1, 4, 1.0)], batch_of(world, 0, 1)
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    theirs = opened(world, world.base(precision), experts, one[0])
    with torch.no_grad():
        wanted = LossModule(theirs).token_losses(batch)
        assert torch.equal(losses(Mixture(world.base(precision), experts, "task"), one, batch)[0], wanted)


def test_outside_it_is_the_base_alone(world: Any, random_weights: Draw) -> None:
    mixture, batch = Mixture(world.base(), world.experts, "task"), batch_of(world, 0, 1)
    with torch.no_grad():
        losses(mixture, random_weights(1, 1, 3), batch)
        found, wanted = (LossModule(m).token_losses(batch) for m in (mixture.model, world.base()))
    assert torch.equal(found, wanted)


@pytest.mark.usefixtures("way")
def test_lorahub_s_merge(world: Any) -> None:
    experts, batch = one_rank(world), batch_of(world, 0, 1)
    R = torch.tensor([[[0.7, -0.4]], [[0.2, 0.9]]], dtype=torch.float64)
    with torch.no_grad():
        found = losses(Mixture(world.base(), experts, "task", "lorahub"), R, batch)
        for candidate, own in zip(R, found, strict=True):
            theirs = opened(world, world.base(), experts, candidate, kind="lorahub")
            torch.testing.assert_close(own, LossModule(theirs).token_losses(batch), rtol=1e-5, atol=1e-5)


def test_what_does_not_fit_is_refused(world: Any) -> None:
    down = "model.layers.0.mlp.down_proj"
    factors = world.experts[0].modules[down]
    for name, given, word in (
        ("lm_head", factors, "lm_head"),
        ("model.layers.7.mlp.down_proj", factors, "layers.7"),
        (down, replace(factors, A=factors.A[:, :-1]), r"\(64, 127\)"),
    ):
        with pytest.raises(ConfigError, match=word):
            Mixture(world.base(), [Adapter("x", {name: given})], "task")
    with pytest.raises(ConfigError, match=r"2, 3, 5"):
        Mixture(world.base(), world.experts, "task", "lorahub")
