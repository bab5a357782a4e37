"""The summed loss against a naive loop, and packed rows against padded ones: same loss, same LoRA gradients."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from medtrain.tokens.shards import Sample
from medtrain.train import adapters, attention
from medtrain.train import loss as losses
from medtrain.train.batches import Batch, collate
from medtrain.train.loss import LossModule, token_loss_sum
from medtrain.train.order import BatchConfig
from medtrain.train.state import trainable

VOCABULARY = 97
LAYOUTS = {
    "packed": BatchConfig(layout="packed"),
    "right": BatchConfig(layout="padded", pad_side="right"),
    "left": BatchConfig(layout="padded", pad_side="left"),
}


def naive(head: torch.nn.Module, hidden: torch.Tensor, targets: torch.Tensor) -> float:
    """The same sum token by token in float64."""
    logits = (hidden.double() @ head.weight.double().T).tolist()
    total = 0.0
    for row, target in zip(logits, targets.tolist(), strict=True):
        top = max(row)
        total += top + float(np.log(sum(np.exp(np.array(row) - top)))) - row[target]
    return total


def states(count: int) -> tuple[torch.nn.Linear, torch.Tensor, torch.Tensor]:
    """A head, the hidden states that predict, and their targets."""
    torch.manual_seed(count)
    return torch.nn.Linear(8, VOCABULARY, bias=False), torch.randn(count, 8), torch.randint(VOCABULARY, (count,))


@pytest.mark.parametrize("count", [1, 7, 8, 9, 16, 17])
def test_the_sum_equals_a_naive_loop_on_both_sides_of_the_chunk_size(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "CHUNK_TOKENS", 8)
    head, hidden, targets = states(count)
    found = token_loss_sum(head, hidden, targets)
    assert found.dtype == torch.float32 and found.shape == ()
    assert float(found.detach()) == pytest.approx(naive(head, hidden, targets), rel=1e-6)


def test_chunks_change_neither_loss_nor_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    head, hidden, targets = states(21)
    hidden.requires_grad_()
    whole = token_loss_sum(head, hidden, targets)
    wanted = torch.autograd.grad(whole, hidden)[0]
    monkeypatch.setattr(losses, "CHUNK_TOKENS", 5)
    chunked = token_loss_sum(head, hidden, targets)
    torch.testing.assert_close(chunked, whole)
    torch.testing.assert_close(torch.autograd.grad(chunked, hidden)[0], wanted)


def test_no_target_is_a_loss_of_0_with_a_gradient_of_0() -> None:
    head, hidden, targets = states(0)
    hidden = torch.randn(0, 8, requires_grad=True)
    found = token_loss_sum(head, hidden, targets)
    found.backward()
    assert float(found.detach()) == 0 and hidden.grad is not None


@pytest.fixture(scope="module")
def model() -> Any:
    """A tiny random Qwen2 with a LoRA adapter whose B is no longer 0, float32, without dropout."""
    torch.manual_seed(0)
    shape = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    adapted = adapters.attach(Qwen2ForCausalLM(shape), {"kind": "lora", "rank": 4, "dropout": 0.0}, seed=0)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in trainable(adapted).items():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return adapted.train()


def made(count: int, seed: int) -> list[Sample]:
    """Samples of many turns; the first trains its very first token too."""
    draw, found = np.random.default_rng(seed), []
    for number in range(count):
        length = int(draw.integers(4, 30))
        cuts = sorted(int(c) for c in draw.choice(length + 1, 4, replace=False))
        spans = ((0 if number == 0 else cuts[0], cuts[1]), (cuts[2], cuts[3]))
        ids = draw.integers(0, VOCABULARY, length).astype(np.int32)
        found.append(Sample(str(number), "s", "qa", "QA", "en", "train", ids, spans))
    return found


def run(model: Any, samples: list[Sample], layout: str) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and LoRA gradients of a micro-batch."""
    model.get_base_model().set_attn_implementation(attention.BLOCKS if layout == "packed" else "sdpa")
    model.zero_grad(set_to_none=True)
    total = LossModule(model)(collate(samples, LAYOUTS[layout], pad_id=0))
    total.backward()
    return float(total.detach()), {name: p.grad.clone() for name, p in trainable(model).items()}


def movement(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    """|found - wanted| / |wanted| over all tensors."""
    off = sum(float((found[name] - wanted[name]).double().square().sum()) for name in wanted)
    return float((off / sum(float(t.double().square().sum()) for t in wanted.values())) ** 0.5)


def one_by_one(model: Any, samples: list[Sample]) -> tuple[float, dict[str, torch.Tensor]]:
    """The reference: each sample alone, through the model's own logits and a plain cross-entropy."""
    model.get_base_model().set_attn_implementation("eager")
    model.zero_grad(set_to_none=True)
    total = torch.zeros(())
    for sample in samples:
        ids = torch.from_numpy(sample.input_ids.astype(np.int64))
        logits = model(input_ids=ids[None]).logits[0]
        labels = torch.full_like(ids, -100)
        for start, end in sample.trained:
            labels[start:end] = ids[start:end]
        total = total + torch.nn.functional.cross_entropy(logits[:-1], labels[1:], reduction="sum", ignore_index=-100)
    total.backward()
    return float(total.detach()), {name: p.grad.clone() for name, p in trainable(model).items()}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_every_layout_gives_the_loss_and_gradients_of_samples_alone(model: Any, layout: str, seed: int) -> None:
    samples = made(5, seed)
    wanted_loss, wanted = one_by_one(model, samples)
    loss, gradients = run(model, samples, layout)
    assert loss == pytest.approx(wanted_loss, rel=1e-5)
    assert movement(gradients, wanted) < 1e-5


def test_that_comparison_sees_a_sample_that_looks_at_its_neighbour(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = made(5, 0)
    _, wanted = run(model, samples, "packed")
    one_block = lambda implementation, lengths, packed, device: {"sample_lengths": (sum(lengths),)}  # noqa: E731
    monkeypatch.setattr(losses.attention, "arguments", one_block)
    _, leaking = run(model, samples, "packed")
    assert movement(leaking, wanted) > 1e-3


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_an_empty_batch_gives_every_trained_tensor_a_gradient_of_0(model: Any, layout: str) -> None:
    model.get_base_model().set_attn_implementation(attention.BLOCKS if layout == "packed" else "sdpa")
    model.zero_grad(set_to_none=True)
    empty: Batch = collate([], BatchConfig(layout=layout), pad_id=0)
    total = LossModule(model)(empty)
    total.backward()
    assert float(total.detach()) == 0
    assert all(p.grad is not None and not p.grad.any() for p in trainable(model).values())
