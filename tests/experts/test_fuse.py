"""Fusion: unmodified PEFT opens what was fused, and it is the weighted sum of products; the baselines are PEFT's."""

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from medtrain.errors import ConfigError
from medtrain.experts.fold import read
from medtrain.experts.folder import Adapter, Factors, write
from medtrain.experts.fuse import Weights, combine, fuse, place
from medtrain.storage import Store
from medtrain.train.merge import merged

ADALORA: dict[str, Any] = {"kind": "adalora", "init_rank": 5, "target_rank": 2, "schedule": "scaled"}
IDS = torch.arange(5, 25)[None]
CAT = {"kind": "cat"}
SHAPES = {
    f"model.layers.{layer}.{name}": shape
    for layer in (0, 1)
    for name, shape in {
        "self_attn.q_proj": (64, 64),
        "self_attn.v_proj": (32, 64),
        "mlp.gate_proj": (128, 64),
        "mlp.down_proj": (64, 128),
    }.items()
}
"""Layers of the base and their weights' (out, in)."""


def task(*weights: float) -> Weights:
    """One number for each expert."""
    return Weights(values={"task": weights})


def unlike(expert: Any) -> list[str]:
    """Three experts of unequal ranks, scales and modules; the first is AdaLoRA with an empty module."""
    return [
        expert("one", 1, **ADALORA),
        expert("two", 2, rank=3, alpha=5, target_modules=["q_proj", "gate_proj", "down_proj"]),
        expert("three", 3, rank=6, rslora=True, target_modules=["v_proj", "down_proj"]),
    ]


def full(factors: Factors) -> torch.Tensor:
    """The (out, in) update in float64."""
    return factors.scale * factors.B.double() @ factors.A.double()


def logits(model: Any) -> torch.Tensor:
    """(1, 20, V) float64 logits of fixed ids."""
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=IDS).logits.double()
    return found


def naive(base: Path, store: Store, experts: list[str], weights: Any) -> torch.Tensor:
    """Logits of the base plus the sum of the updates that PEFT itself gives each expert, in float64."""
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float64)
    for number, folder in enumerate(experts):
        plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        opened: Any = peft.PeftModel.from_pretrained(plain, str(store.local(folder)))
        for name, module in opened.base_model.model.named_modules():
            if hasattr(module, "lora_A") and module.lora_A.keys() and module.r["default"]:
                delta = module.double().get_delta_weight("default").detach()
                model.get_submodule(name).weight.data += weights(name)[number] * delta
    return logits(model)


def test_place() -> None:
    head, down = "lm_head", "model.layers.11.mlp.down_proj"
    assert [place(down, g) for g in ("task", "layer", "matrix")] == ["task", "model.layers.11", down]
    assert [place(head, g) for g in ("task", "layer", "matrix")] == ["task", head, head]


@pytest.mark.parametrize("granularity", ["task", "layer", "matrix"])
def test_fused_logits_are_those_of_the_naive_sum(base_path: Path, store: Store, expert: Any, granularity: Any) -> None:
    experts = unlike(expert)
    modules = sorted({name for folder in experts for name in read(store, folder).modules})
    draw = torch.Generator().manual_seed(5)
    places = sorted({place(module, granularity) for module in modules})
    assert len(places) == {"task": 1, "layer": 2, "matrix": len(modules)}[granularity]
    values = {p: tuple(torch.rand(3, generator=draw, dtype=torch.float64).tolist()) for p in places}
    weights = Weights(granularity=granularity, values=values)
    report = fuse(store, experts, weights, CAT, "fused")
    plain = AutoModelForCausalLM.from_pretrained(base_path, dtype=torch.float32)
    opened = peft.PeftModel.from_pretrained(plain, str(store.local("fused")))
    wanted = naive(base_path, store, experts, weights.at)
    assert float((logits(opened) - wanted).norm() / wanted.norm()) < 1e-5
    assert report.error < 1e-7 and max(report.errors.values()) < 1e-7 and report.ranks.keys() == set(modules)
    merged_model = merged(str(base_path), str(store.local("fused")), torch.float32)
    assert float((logits(merged_model) - wanted).norm() / wanted.norm()) < 1e-5
    ranks = {name: sum(len(read(store, f).modules[name].A) for f in experts if name in read(store, f).modules)
             for name in modules}  # fmt: skip
    assert report.ranks == ranks


@st.composite
def mixes(draw: st.DrawFn) -> tuple[list[Adapter], Weights]:
    """Up to four experts of any modules, ranks and scales, and weights of any sign."""
    experts, seeds = [], st.integers(0, 2**31)
    for _ in range(draw(st.integers(1, 4))):
        chosen = draw(st.lists(st.sampled_from(sorted(SHAPES)), min_size=1, max_size=5, unique=True))
        torch.manual_seed(draw(seeds))
        modules = {}
        for name in chosen:
            (rows, columns), rank, scale = SHAPES[name], draw(st.integers(1, 6)), draw(st.floats(0.1, 3))
            modules[name] = Factors(0.1 * torch.randn(rank, columns), 0.1 * torch.randn(rows, rank), scale)
        experts.append(Adapter("base", modules))
    granularity = draw(st.sampled_from(["task", "layer", "matrix"]))
    places = sorted({place(name, granularity) for expert in experts for name in expert.modules})
    size = st.floats(0.01, 2).flatmap(lambda value: st.sampled_from([value, -value]))
    weights = {p: tuple(draw(st.lists(size, min_size=len(experts), max_size=len(experts)))) for p in places}
    return experts, Weights(granularity=granularity, values=weights)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mix=mixes())
def test_any_experts_fuse_to_their_sum_of_products(base_path: Path, store: Store, mix: Any) -> None:
    experts, weights = mix
    adapter, _ = combine(experts, weights, CAT)
    write(store, "any", adapter)
    plain = AutoModelForCausalLM.from_pretrained(base_path, dtype=torch.float32)
    opened = peft.PeftModel.from_pretrained(plain, str(store.local("any")))
    summed: Any = AutoModelForCausalLM.from_pretrained(base_path, dtype=torch.float64)
    for number, expert in enumerate(experts):
        for name, factors in expert.modules.items():
            summed.get_submodule(name).weight.data += weights.at(name)[number] * full(factors)
    wanted = logits(summed)
    assert float((logits(opened) - wanted).norm() / wanted.norm()) < 1e-5


def test_a_matrix_without_an_update_is_not_adapted(store: Store, expert: Any) -> None:
    experts = unlike(expert)
    report = fuse(store, experts, task(0, 1, 0), CAT, "fused")
    assert set(report.ranks.values()) == {3} and len(report.ranks) == 6
    assert report.ranks.keys() == set(json.loads(store.read("fused/adapter_config.json"))["target_modules"])


def test_equal_experts_come_back_exactly_and_linear_makes_them_k_times_too_large(store: Store, expert: Any) -> None:
    one = read(store, expert("one"))
    for kind in ("cat", "svd"):
        found, report = combine([one] * 4, task(*[0.25] * 4), {"kind": kind})
        assert report.error < 1e-6, kind
        for name, factors in one.modules.items():
            torch.testing.assert_close(full(found.modules[name]), full(factors), rtol=1e-5, atol=1e-6)
    found, report = combine([one] * 4, task(*[0.25] * 4), {"kind": "linear"})
    assert report.error == pytest.approx(3, rel=1e-5)
    for name, factors in one.modules.items():
        torch.testing.assert_close(full(found.modules[name]), 4 * full(factors), rtol=1e-5, atol=1e-6)


def test_svd_reports_what_it_cuts_off(store: Store, expert: Any) -> None:
    experts = [read(store, expert(name, seed, rank=3)) for seed, name in enumerate("abc")]
    weights = (0.5, 0.3, 0.2)
    last = 1.0
    for rank in (1, 4, 8):
        found, report = combine(experts, task(*weights), {"kind": "svd", "rank": rank})
        apart = size = 0.0
        for name, factors in found.modules.items():
            wanted = torch.stack([w * full(e.modules[name]) for w, e in zip(weights, experts, strict=True)]).sum(0)
            tail = float(torch.linalg.svdvals(wanted)[rank:].norm())
            off = float((full(factors) - wanted).norm())
            assert off == pytest.approx(tail, rel=1e-5)
            assert report.errors[name] == pytest.approx(off / float(wanted.norm()), rel=1e-5)
            apart, size = apart + off**2, size + float(wanted.norm()) ** 2
        assert report.error == pytest.approx((apart / size) ** 0.5, rel=1e-5)
        assert 0 < report.error < last
        last = report.error
    _, report = combine(experts, task(*weights), {"kind": "svd", "rank": 9})
    assert report.error < 1e-6
    found, _ = combine(experts, task(*weights), {"kind": "svd"})
    assert {factors.rank for factors in found.modules.values()} == {3}


def merged_by_peft(
    base: Path, store: Store, folders: list[str], weights: list[float], kind: str
) -> dict[str, torch.Tensor]:
    """The updates that PEFT's own `add_weighted_adapter` makes, by module."""
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model: Any = peft.PeftModel.from_pretrained(plain, str(store.local(folders[0])), adapter_name=folders[0])
    for folder in folders[1:]:
        model.load_adapter(str(store.local(folder)), adapter_name=folder)
    model.add_weighted_adapter(folders, weights, "made", combination_type=kind)
    layers = {n: m for n, m in model.base_model.model.named_modules() if hasattr(m, "lora_A") and "made" in m.lora_A}
    return {name: layer.get_delta_weight("made").detach().double() for name, layer in layers.items()}


@pytest.mark.parametrize("kind", ["cat", "svd", "linear"])
def test_it_is_pefts_where_peft_is_right(base_path: Path, store: Store, expert: Any, kind: str) -> None:
    folders = [expert("a", 1, alpha=3), expert("b", 2, alpha=7), expert("c", 3, target_modules=["q_proj", "up_proj"])]
    weights = [0.7, -0.2, 0.5]
    found, _ = combine([read(store, folder) for folder in folders], task(*weights), {"kind": kind})
    wanted = merged_by_peft(base_path, store, folders, weights, kind)
    assert found.modules.keys() == wanted.keys()
    for name, factors in found.modules.items():
        torch.testing.assert_close(full(factors), wanted[name], rtol=1e-4, atol=1e-5)


def test_what_peft_gets_wrong_is_right_here(base_path: Path, store: Store, expert: Any) -> None:
    """PEFT 0.21.2: the sum inherits rsLoRA, so that it is too large by the root of its rank (huggingface/peft#3449)."""
    folders = [expert("a", 1, rslora=True), expert("b", 2, rslora=True)]
    experts = [read(store, folder) for folder in folders]
    found, report = combine(experts, task(0.5, 0.5), CAT)
    theirs = merged_by_peft(base_path, store, folders, [0.5, 0.5], "cat")
    for name, factors in found.modules.items():
        wanted = 0.5 * full(experts[0].modules[name]) + 0.5 * full(experts[1].modules[name])
        torch.testing.assert_close(full(factors), wanted, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(theirs[name], wanted * 8**0.5, rtol=1e-4, atol=1e-5)
    assert report.error < 1e-7


def test_lorahub_is_its_formula(store: Store, expert: Any) -> None:
    experts = [read(store, expert("a", 1)), read(store, expert("b", 2))]
    found, report = combine(experts, task(0.4, 0.6), {"kind": "lorahub"})
    for name, factors in found.modules.items():
        a, b = (e.modules[name] for e in experts)
        wanted = a.scale * (0.4 * a.B + 0.6 * b.B).double() @ (0.4 * a.A + 0.6 * b.A).double()
        torch.testing.assert_close(full(factors), wanted, rtol=1e-5, atol=1e-6)
    assert report.error > 0.3


def test_linear_is_far_from_the_sum_of_unlike_experts(store: Store, expert: Any) -> None:
    experts = [read(store, expert("a", 1)), read(store, expert("b", 2))]
    assert combine(experts, task(0.5, 0.5), {"kind": "linear"})[1].error > 0.5


def test_what_does_not_go_together_is_refused_and_nothing_is_written(store: Store, expert: Any) -> None:
    folders = [expert("a", 1), expert("b", 2, rank=6)]
    for weights, merge, message in (
        (task(1), CAT, "1 numbers for 2 experts"),
        (task(0, 0), CAT, "every weight is 0"),
        (Weights(granularity="layer", values={"model.layers.0": (1, 1)}), CAT, r"nothing for 'model\.layers\.1'"),
        (task(0.5, 0.5), {"kind": "linear"}, r"ranks \[4, 6\]"),
        (task(0.5, 0.5), {"kind": "lorahub"}, r"ranks \[4, 6\]"),
        (task(0.5, 0.5), {"kind": "sum"}, "no plug-in 'sum'"),
        (task(0.5, 0.5), {"kind": "svd", "rank": 0}, "rank=0"),
    ):
        with pytest.raises(ConfigError, match=message):
            fuse(store, folders, weights, merge, "fused")
    with pytest.raises(ValueError, match="finite"):
        task(float("nan"))
    assert not store.exists("fused")


def test_experts_of_another_base_are_refused() -> None:
    def adapter(base: str, wide: int) -> Adapter:
        return Adapter(base, {"x": Factors(torch.ones(1, wide), torch.ones(4, 1))})

    with pytest.raises(ConfigError, match="expert 2: it was trained on 'other' and expert 1 on 'base'"):
        combine([adapter("base", 3), adapter("other", 3)], task(1, 1), CAT)
    with pytest.raises(ConfigError, match=r"module x: the experts' updates are \[\(4, 3\), \(4, 5\)\]"):
        combine([adapter("base", 3), adapter("base", 5)], task(1, 1), CAT)
