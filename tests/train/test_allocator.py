"""The allocation of AdaLoRA against PEFT's own and against a naive replay in float64, on one stream of gradients."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from medtrain.errors import ConfigError, TrainingError
from medtrain.storage import Store
from medtrain.train import adapter_files, adapters
from medtrain.train.adapters import adalora
from medtrain.train.allocator import Allocator, Budget
from medtrain.train.loss import LossModule
from medtrain.train.model import ModelConfig, load_base
from medtrain.train.state import trainable, weights

STEPS = 200
SETTINGS: dict[str, Any] = {"kind": "adalora", "init_rank": 5, "target_rank": 2, "tinit": 20, "tfinal": 60}
IDS = torch.arange(5, 25)[None]


@pytest.fixture(scope="module")
def base_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Qwen2 on disk."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 99, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    folder = tmp_path_factory.mktemp("base")
    Qwen2ForCausalLM(Qwen2Config(**sizes, num_attention_heads=4, num_key_value_heads=2)).save_pretrained(folder)
    return folder


def attached(path: Path, steps: int = STEPS, **settings: Any) -> tuple[Any, dict[str, torch.nn.Parameter], Allocator]:
    """A model with a fresh adapter, its parameters as the loss module names them, and its rule in a run of `steps`."""
    base = load_base(str(path), ModelConfig(precision="fp32"), torch.device("cpu"))
    model = adapters.attach(base, {**SETTINGS, **settings}, seed=0)
    rule = adapters.rule({**SETTINGS, **settings}, model, steps)
    assert isinstance(rule, Allocator)
    return model, trainable(LossModule(model)), rule


def stream(parameters: dict[str, torch.nn.Parameter], step: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Made weights and gradients of a step: each matrix has a size of its own, so that ranks differ."""
    rng = np.random.default_rng(step)
    drawn: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for number, (name, p) in enumerate(parameters.items()):
        for values in drawn:
            size = 0.5 + (number * 7 % 11) / 10 + rng.random()
            values[name] = torch.tensor(rng.normal(size=p.shape) * size, dtype=torch.float32)
    return drawn


def naive_mask(history: dict[str, list[np.ndarray]], b1: float, b2: float, drop: int) -> dict[str, np.ndarray]:
    """The pattern of E after a stream of |w * gradient|, one element at a time, in float64."""
    scores: dict[str, np.ndarray] = {}
    for name, seen in history.items():
        mean, spread = np.zeros(seen[0].shape), np.zeros(seen[0].shape)
        for importance in seen:
            mean = b1 * mean + (1 - b1) * importance
            spread = b2 * spread + (1 - b2) * np.abs(importance - mean)
        scores[name] = mean * spread
    triplets = {}
    for e in (name for name in scores if ".lora_E." in name):
        a, b = scores[e.replace("lora_E", "lora_A")], scores[e.replace("lora_E", "lora_B")]
        triplets[e] = np.array([scores[e][i, 0] + a[i].mean() + b[:, i].mean() for i in range(len(a))])
    threshold = np.sort(np.concatenate(list(triplets.values())))[drop - 1]
    return {name: values > threshold for name, values in triplets.items()}


def test_importance_and_masks_are_those_of_peft_and_of_a_naive_replay(base_path: Path) -> None:
    model, parameters, rule = attached(base_path)
    told = model.peft_config["default"]
    told.total_step, told.tinit, told.tfinal, told.deltaT = STEPS, 20, 60, 10
    history: dict[str, list[np.ndarray]] = {name: [] for name in parameters}
    allocations = 0
    for step in range(1, STEPS + 1):
        given, gradients = stream(parameters, step)
        for name, p in parameters.items():
            p.data, p.grad = given[name].clone(), gradients[name].clone()
        model.base_model.update_and_allocate(step)
        values = rule.after_step(step, given, gradients, clipped=1.0)
        if step < rule.budget.freeze:
            for name, products in history.items():
                products.append(np.abs(given[name].double().numpy() * gradients[name].double().numpy()))
        for name, value in values.items():
            assert torch.equal(value, parameters[name].data), f"step {step}: {name}"
        if rule.budget.allocates(step) or step == rule.budget.freeze:
            allocations += 1
            drop = rule.budget.initial - rule.budget.at(step)
            naive = naive_mask(history, 0.85, 0.85, drop)
            assert all(np.array_equal(rule.pattern[name].numpy(), mask) for name, mask in naive.items())
            assert sum(int(kept.sum()) for kept in rule.pattern.values()) == rule.budget.at(step)
        allocator = model.base_model.rankallocator
        for name, seen in allocator.exp_avg_ipt.items() if step < rule.budget.freeze else ():
            torch.testing.assert_close(rule._importance[f"model.base_model.model.{name}"], seen)
            torch.testing.assert_close(rule._uncertainty[f"model.base_model.model.{name}"], allocator.exp_avg_unc[name])
    ranks = [int(kept.sum()) for kept in rule.pattern.values()]
    assert allocations == 12 and sum(ranks) == 2 * len(ranks) and len(set(ranks)) > 1
    assert rule.metrics() == {"mean_rank": 2.0}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "nf4"])
def test_nothing_but_the_factors_is_trained(base_path: Path, precision: str) -> None:
    """PEFT casts the divisor `ranknum` on some bases, and it then has a gradient."""
    base = load_base(str(base_path), ModelConfig.model_validate({"precision": precision}), torch.device("cpu"))
    names = trainable(adapters.attach(base, SETTINGS, seed=0))
    assert len(names) == 36 and all(name.split(".")[-2] in ("lora_A", "lora_E", "lora_B") for name in names)


@pytest.mark.parametrize("importance", ["ema", "raw"])
def test_a_rule_that_goes_on_from_its_state_chooses_the_same(base_path: Path, importance: str) -> None:
    _, parameters, whole = attached(base_path, importance=importance)
    for step in range(1, STEPS + 1):
        weights_now, gradients = stream(parameters, step)
        if step == 87:
            _, _, resumed = attached(base_path, importance=importance)
            resumed.load({**whole.state(), "weight/x": torch.zeros(1)})
        found = whole.after_step(step, weights_now, gradients, clipped=0.5)
        if step >= 87:
            again = resumed.after_step(step, weights_now, gradients, clipped=0.5)
            assert again.keys() == found.keys() and all(torch.equal(again[n], found[n]) for n in found)
    assert whole.frozen and resumed.frozen


def test_a_freezing_step_that_was_left_out_is_made_up_for(base_path: Path) -> None:
    _, parameters, rule = attached(base_path)
    for step in [*range(1, rule.budget.freeze), *range(rule.budget.freeze + 2, STEPS)]:
        rule.after_step(step, *stream(parameters, step), clipped=1.0)
    assert rule.frozen and sum(int(kept.sum()) for kept in rule.pattern.values()) == rule.budget.target


def test_equal_scores_still_leave_exactly_the_budget(base_path: Path) -> None:
    _, parameters, rule = attached(base_path)
    ones = {name: torch.ones_like(p) for name, p in parameters.items()}
    rule.after_step(1, ones, ones, clipped=1.0)
    rule.after_step(rule.budget.freeze, ones, ones, clipped=1.0)
    assert sum(int(kept.sum()) for kept in rule.pattern.values()) == rule.budget.target


def test_clipping_counts_where_it_is_asked_for(base_path: Path) -> None:
    found = {}
    for gradients in ("after_clipping", "before_clipping"):
        _, parameters, rule = attached(base_path, gradients=gradients)
        rule.after_step(1, *stream(parameters, 1), clipped=0.25)
        found[gradients] = next(iter(rule.scores().values()))
    torch.testing.assert_close(found["after_clipping"], found["before_clipping"] / 16)


@pytest.mark.parametrize("form", ["mean_frobenius", "squared_sum"])
def test_the_regulariser_is_a_double_loop(base_path: Path, form: str) -> None:
    _, parameters, rule = attached(base_path, orth_form=form)
    norms = []
    for name, p in parameters.items():
        rows = p.detach().double().numpy() if "lora_A" in name else p.detach().double().numpy().T
        if "lora_E" not in name:
            norms.append(sum((a @ b - float(i == j)) ** 2 for i, a in enumerate(rows) for j, b in enumerate(rows)))
    wanted = 0.5 * (sum(map(math.sqrt, norms)) / len(norms) if form == "mean_frobenius" else sum(norms))
    assert float(rule.regulariser(parameters)) == pytest.approx(wanted, rel=1e-5)


def test_the_budget_is_the_cubic_one_and_a_short_run_is_refused_with_its_arithmetic() -> None:
    made = Budget.checked(steps=2000, tinit=200, tail=1000, every=10, initial=2304, target=768)
    assert [made.at(t) for t in (1, 200, 1000, 1001, 2000)] == [2304, 2304, 768, 768, 768]
    assert made.at(600) == int(768 + 1536 * 0.5**3)
    assert [t for t in range(195, 225) if made.allocates(t)] == [210, 220]
    with pytest.raises(ConfigError, match=r"150 optimizer steps - 1000 with a frozen pattern leaves -850, .* 200 come"):
        Budget.checked(steps=150, tinit=200, tail=1000, every=10, initial=24, target=8)


def test_both_readings_and_the_scaled_schedule() -> None:
    def budget(steps: int, **settings: Any) -> Budget:
        given = {"kind": "adalora", "init_rank": 5, "target_rank": 2, **settings}
        return adalora.budget(adalora.Config.model_validate(given), 12, steps)

    assert (budget(1500).tinit, budget(1500).freeze) == (200, 500)
    assert (budget(1500, schedule_reading="step").tinit, budget(1500, schedule_reading="step").freeze) == (200, 1000)
    scaled = budget(150, schedule="scaled")
    assert (scaled.tinit, scaled.freeze, scaled.every) == (15, 75, 1)
    with pytest.raises(ConfigError, match="schedule: scaled"):
        adapters.check_length({"kind": "adalora"}, 150)
    adapters.check_length({"kind": "lora"}, 1)


def test_a_run_has_a_step_to_judge_triplets_by_or_is_refused(base_path: Path) -> None:
    for steps in (1, 2):
        with pytest.raises(ConfigError, match=rf"{steps} optimizer step.* leaves 1, .* train 3 steps or more"):
            attached(base_path, steps, schedule="scaled")
    with pytest.raises(ConfigError, match="30 with a frozen pattern leaves 1, "):
        adapters.check_length({"kind": "adalora", "tinit": 0, "tfinal": 30}, 31)
    _, parameters, rule = attached(base_path, 3, schedule="scaled")
    for step in (1, 2, 3):
        rule.after_step(step, *stream(parameters, step), clipped=1.0)
    assert rule.frozen and sum(int(kept.sum()) for kept in rule.pattern.values()) == rule.budget.target


def test_a_pruned_adapter_opens_in_plain_peft_with_the_same_logits(base_path: Path, store: Store) -> None:
    model, parameters, rule = attached(base_path)
    for step in (1, rule.budget.freeze):
        for name, value in rule.after_step(step, *stream(parameters, step), clipped=1.0).items():
            parameters[name].data.copy_(value)
    with torch.no_grad():
        wanted = model.eval()(input_ids=IDS).logits
    rule.finish()
    adapter_files.write(store, "adapter", model, weights(LossModule(model)))
    base = load_base(str(base_path), ModelConfig(precision="fp32"), torch.device("cpu"))
    opened: Any = peft.PeftModel.from_pretrained(base, str(store.local("adapter")))
    with torch.no_grad():
        torch.testing.assert_close(opened.eval()(input_ids=IDS).logits, wanted)
    told = opened.peft_config["default"]
    assert (told.total_step, told.tinit, told.tfinal, told.deltaT) == (STEPS, 20, 60, 10)
    ranks = {len(p) for name, p in opened.named_parameters() if "lora_E" in name}
    assert len(ranks) > 1 and max(ranks) <= 5


def test_an_adapter_that_learned_nothing_is_said(base_path: Path, store: Store) -> None:
    model, _, _ = attached(base_path)
    with pytest.raises(TrainingError, match="every lora_E is zero"):
        adapter_files.write(store, "adapter", model, weights(LossModule(model)))


def test_what_does_not_go_together_is_refused() -> None:
    assert "engine.zero_stage to 0, 1 or 2" in adapters.refusal({"kind": "adalora"}, 3, "last", 0)
    assert "validation.keep: last" in adapters.refusal({"kind": "adalora"}, 2, "best", 0)
    assert "validation.patience: 0" in adapters.refusal({"kind": "adalora"}, 2, "last", 1)
    assert adapters.refusal({"kind": "adalora"}, 2, "last", 0) == adapters.refusal({"kind": "lora"}, 3, "best", 1) == ""
    with pytest.raises(ConfigError, match="not below init_rank"):
        adapters.validate({"kind": "adalora", "target_rank": 12})
