"""The learning rate against Transformers' schedules, and AdamW over the trained tensors alone."""

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from medtrain.config import parse
from medtrain.errors import ConfigError
from medtrain.train.optimizer import RATE_SCALE, OptimizerConfig, build, learning_rate

PEAK = 2e-4
THEIRS = {
    "linear": transformers.get_linear_schedule_with_warmup,
    "cosine": transformers.get_cosine_schedule_with_warmup,
}


def rates(schedule: str, warmup: int, steps: int) -> list[float]:
    """The rates that Transformers' schedule gives at each step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    if schedule == "constant":
        scheduler = transformers.get_constant_schedule_with_warmup(optimizer, warmup)
    else:
        scheduler = THEIRS[schedule](optimizer, warmup, steps)
    found = []
    for _ in range(steps):
        found.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("schedule", ["linear", "constant", "cosine"])
@pytest.mark.parametrize(("fraction", "steps"), [(0.1, 40), (0.0, 7), (0.25, 8), (1.0, 5)])
def test_after_the_warm_up_it_is_transformers_rate(schedule: str, fraction: float, steps: int) -> None:
    config = OptimizerConfig(learning_rate=PEAK, warmup_fraction=fraction, schedule=schedule)
    warmup = round(fraction * steps)
    theirs = rates(schedule, warmup, steps)
    ours = [learning_rate(config, step, steps) for step in range(steps)]
    assert ours[warmup:] == pytest.approx(theirs[warmup:], abs=1e-12)
    # In the warm-up ours is one step ahead: the first step is not spent on a rate of 0.
    assert ours[: max(0, warmup - 1)] == pytest.approx(theirs[1:warmup], abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(
    steps=st.integers(1, 400),
    fraction=st.floats(0, 1),
    schedule=st.sampled_from(["linear", "constant", "cosine"]),
)
def test_every_step_learns_and_none_above_the_peak(steps: int, fraction: float, schedule: str) -> None:
    config = OptimizerConfig(learning_rate=PEAK, warmup_fraction=fraction, schedule=schedule)
    ours = [learning_rate(config, step, steps) for step in range(steps)]
    assert all(0 < rate <= PEAK * (1 + 1e-12) for rate in ours)
    top = ours.index(max(ours))
    assert ours[: top + 1] == sorted(ours[: top + 1])
    assert ours[top:] == sorted(ours[top:], reverse=True)


def test_adamw_holds_what_is_trained_alone() -> None:
    frozen, trained = torch.nn.Parameter(torch.zeros(2), requires_grad=False), torch.nn.Parameter(torch.zeros(3))
    config = OptimizerConfig(weight_decay=1e-5, beta1=0.8, beta2=0.95, epsilon=1e-6)
    optimizer = build(config, [("a", frozen), ("b", trained)])
    (group,) = optimizer.param_groups
    assert [parameter is trained for parameter in group["params"]] == [True]
    assert (group["lr"], group["weight_decay"], group["betas"], group["eps"]) == (2e-4, 1e-5, (0.8, 0.95), 1e-6)


def test_lora_plus_gives_b_a_rate_of_its_own() -> None:
    names = ["x.lora_A.default.weight", "x.lora_B.default.weight", "y.lora_A.default.weight"]
    parameters = [(name, torch.nn.Parameter(torch.zeros(2))) for name in names]
    optimizer = build(OptimizerConfig(lora_plus=16), parameters)
    found = {id(p): group[RATE_SCALE] for group in optimizer.param_groups for p in group["params"]}
    assert [found[id(parameter)] for _, parameter in parameters] == [1.0, 16.0, 1.0]


def test_a_paged_optimizer_without_a_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"optimizer.kind=paged_adamw8bit: .* no GPU; use adamw8bit"):
        build(OptimizerConfig(kind="paged_adamw8bit"), [("a", torch.nn.Parameter(torch.zeros(2)))])


@pytest.mark.parametrize(
    "wrong", [{"learning_rate": 0}, {"warmup_fraction": 1.1}, {"clip": -1}, {"schedule": "polynomial"}, {"beta2": 1}]
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        parse(OptimizerConfig, wrong)
