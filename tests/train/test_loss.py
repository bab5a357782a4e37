"""The summed loss against a naive loop, and packed rows against padded ones: same loss, same LoRA gradients."""

import contextlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import bitsandbytes
import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from medtrain.errors import MedtrainError
from medtrain.tokens.shards import Sample
from medtrain.train import adapters, attention
from medtrain.train import loss as losses
from medtrain.train.batches import Batch, collate
from medtrain.train.deepspeed_config import EngineConfig
from medtrain.train.engine import Engine
from medtrain.train.loss import LossModule, token_loss_sum
from medtrain.train.model import ModelConfig, load_base
from medtrain.train.optimizer import OptimizerConfig
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


@contextlib.contextmanager
def watched(head: torch.nn.Module) -> Iterator[list[int]]:
    """The rows of each call of a head, whose logits are as many."""
    seen: list[int] = []
    with head.register_forward_hook(lambda module, given, found: seen.append(found.shape[:-1].numel())):
        yield seen


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


def test_no_more_logits_than_a_chunks_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "CHUNK_TOKENS", 8)
    head, hidden, targets = states(21)
    with watched(head) as seen:
        token_loss_sum(head, hidden.requires_grad_(), targets).backward()
    assert max(seen) <= 8 and sum(seen) == 2 * 21, "forward, and again in the backward pass"


def test_no_target_is_a_loss_of_0_with_a_gradient_of_0() -> None:
    head, hidden, targets = states(0)
    hidden = torch.randn(0, 8, requires_grad=True)
    found = token_loss_sum(head, hidden, targets)
    found.backward()
    assert float(found.detach()) == 0 and hidden.grad is not None


def hooked() -> torch.nn.Linear:
    head = torch.nn.Linear(8, VOCABULARY)
    head.register_forward_hook(lambda module, inputs, output: output)
    return head


def sharded() -> torch.nn.Linear:
    """What ZeRO-3 makes of a layer, as far as it is asked for here."""
    head = torch.nn.Linear(8, VOCABULARY)
    head.weight.ds_id = 0
    return head


class Scaled(torch.nn.Linear):
    """A head that does more than its weight says."""


PLAIN = torch.nn.Linear(8, VOCABULARY, bias=False).requires_grad_(False)
NO_KERNEL = {
    "trained": (torch.nn.Linear(8, VOCABULARY), "cuda"),
    "a kind of its own": (Scaled(8, VOCABULARY).requires_grad_(False), "cuda"),
    "quantised": (bitsandbytes.nn.Linear4bit(64, VOCABULARY).requires_grad_(False), "cuda"),
    "hooked": (hooked().requires_grad_(False), "cuda"),
    "sharded": (sharded().requires_grad_(False), "cuda"),
    "on a CPU": (PLAIN, "cpu"),
}


@pytest.mark.parametrize("why", sorted(NO_KERNEL))
def test_only_a_plain_frozen_head_on_a_gpu_is_fused(why: str) -> None:
    assert losses.fuses(PLAIN, "cuda")
    assert losses.fuses(torch.nn.Linear(8, VOCABULARY).requires_grad_(False), "cuda"), "a bias is no matter"
    assert not losses.fuses(*NO_KERNEL[why])


def test_a_head_with_an_adapter_is_not_fused() -> None:
    shape = Qwen2Config(vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=1)
    lora = {"kind": "lora", "rank": 4, "target_modules": ["q_proj", "lm_head"]}
    adapted = adapters.attach(Qwen2ForCausalLM(shape), lora, seed=0)
    assert not losses.fuses(adapted.get_base_model().lm_head, "cuda")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("precision", ["nf4", "fp32"])
def test_the_head_of_a_base_as_it_is_trained_is_fused(precision: str, tied: bool, tmp_path: Path) -> None:
    shape = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=64, num_hidden_layers=1, tie_word_embeddings=tied
    )
    Qwen2ForCausalLM(shape).save_pretrained(tmp_path)
    config = ModelConfig.model_validate({"precision": precision, "compute_dtype": "float32"})
    model = adapters.attach(load_base(str(tmp_path), config, torch.device("cpu")), {"kind": "lora", "rank": 4}, seed=0)
    assert losses.fuses(model.get_base_model().lm_head, "cuda")


@pytest.mark.parametrize("tokens", [1, 1000, 1024, 1025, 2048, 5000, 100_000])
@pytest.mark.parametrize(("vocabulary", "width"), [(151_936, 896), (151_936, 2048), (32_000, 4096), (320, 64)])
def test_the_kernel_holds_as_many_logits_as_we_do(tokens: int, vocabulary: int, width: int) -> None:
    budget = losses.chunk_budget(tokens, vocabulary, width)
    parts = -(-vocabulary // (budget * width))  # as Liger has it: fused_linear_cross_entropy_forward
    rows = min(tokens, 2 ** int(np.ceil(np.log2(-(-tokens // parts)))))
    assert rows <= losses.CHUNK_TOKENS or rows * vocabulary <= 2 * tokens * width
    assert rows >= min(tokens, losses.CHUNK_TOKENS // 2)


def test_the_kernel_is_asked_for_a_sum_with_the_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    head, told = torch.nn.Linear(8, VOCABULARY), dict[str, Any]()

    def fused(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, **options: Any) -> torch.Tensor:
        told.update(options, shapes=(tuple(hidden.shape), tuple(weight.shape), tuple(targets.shape)))
        return torch.tensor(5.0)

    monkeypatch.setattr(losses, "fuses", lambda head, device_type: True)
    monkeypatch.setattr(losses, "liger", lambda: fused)
    assert float(token_loss_sum(head, torch.randn(3, 8), torch.zeros(3, dtype=torch.long))) == 5
    assert told["reduction"] == "sum" and told["bias"] is head.bias
    assert told["shapes"] == ((3, 8), (VOCABULARY, 8), (3,)) and told["chunk_mem_const"] == VOCABULARY // 8
    monkeypatch.setattr(losses, "liger", lambda: None)
    _, hidden, targets = states(7)
    assert float(token_loss_sum(PLAIN, hidden, targets)) == pytest.approx(naive(PLAIN, hidden, targets), rel=1e-6)


INTERPRETED = """
import torch
from medtrain.train import loss as losses

losses.CHUNK_TOKENS = 8
cases = [(2, 40_000, 8, False), (1, 97, 8, False), (9, 97, 8, False), (9, 97, 8, True)]  # 40,000: two blocks
for count, vocabulary, width, bias in cases:
    torch.manual_seed(count)
    head = torch.nn.Linear(width, vocabulary, bias=bias).requires_grad_(False)
    hidden, targets = torch.randn(count, width, requires_grad=True), torch.randint(vocabulary, (count,))
    assert not losses.fuses(head, hidden.device.type)
    wanted = losses.token_loss_sum(head, hidden, targets)
    wanted_gradient, = torch.autograd.grad(wanted / 7, hidden)
    decide, losses.fuses = losses.fuses, lambda head, device_type: decide(head, "cuda")
    asked, calls = losses.liger(), []
    losses.liger = lambda: lambda *given, **options: (calls.append(1), asked(*given, **options))[1]
    found = losses.token_loss_sum(head, hidden, targets)
    gradient, = torch.autograd.grad(found / 7, hidden)
    with torch.no_grad():
        unseen = losses.token_loss_sum(head, hidden, targets)
    assert calls == [1, 1] and found.dtype == torch.float32 and found.shape == ()
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
    torch.testing.assert_close(unseen, wanted, rtol=1e-6, atol=0)
    assert float((gradient - wanted_gradient).norm() / wanted_gradient.norm()) < 1e-5
    losses.fuses, losses.liger = decide, lambda: asked
"""


@pytest.mark.skipif(
    not (importlib.util.find_spec("liger_kernel") and importlib.util.find_spec("triton")),
    reason="no Liger here",
)
def test_the_kernel_gives_the_loss_and_gradient_of_chunks_by_tritons_interpreter() -> None:
    source = str(Path(losses.__file__).parents[2])
    given = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": source}
    done = subprocess.run([sys.executable, "-c", INTERPRETED], env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.skipif(not torch.cuda.is_available() or losses.liger() is None, reason="no GPU or no Liger")
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-4), (torch.bfloat16, 1e-2)])
def test_the_kernel_gives_the_loss_and_gradient_of_chunks_on_cuda(
    dtype: torch.dtype, near: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(896, 151_936, bias=False, device="cuda", dtype=dtype).requires_grad_(False)
    hidden = torch.randn(3000, 896, device="cuda", dtype=dtype, requires_grad=True)
    targets = torch.randint(151_936, (3000,), device="cuda")
    found = token_loss_sum(head, hidden, targets)
    (gradient,) = torch.autograd.grad(found / 7, hidden)
    monkeypatch.setattr(losses, "liger", lambda: None)
    wanted = token_loss_sum(head, hidden, targets)
    (wanted_gradient,) = torch.autograd.grad(wanted / 7, hidden)
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=near)
    off = (gradient.double() - wanted_gradient.double()).norm() / wanted_gradient.double().norm()
    assert float(off) < near


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
    model.get_base_model().set_attn_implementation(attention.BLOCKS if layout == "packed" else attention.PADDED)
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


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_the_head_runs_chunk_by_chunk_on_trained_tokens_only(
    model: Any, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "CHUNK_TOKENS", 8)
    model.get_base_model().set_attn_implementation(attention.BLOCKS if layout == "packed" else attention.PADDED)
    batch = collate(made(5, 0), LAYOUTS[layout], pad_id=0)
    trained = batch.trained_tokens
    assert batch.input_ids.numel() > trained > 8
    module = LossModule(model)
    with watched(model.get_base_model().lm_head) as seen:
        for found in (module, module.token_losses):
            seen.clear()
            found(batch)
            assert max(seen) <= 8 and sum(seen) == trained


def test_that_comparison_sees_a_sample_that_looks_at_its_neighbour(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = made(5, 0)
    _, wanted = run(model, samples, "packed")
    one_block = lambda implementation, lengths, device: {"sample_lengths": (sum(lengths),)}  # noqa: E731
    monkeypatch.setattr(losses.attention, "arguments", one_block)
    _, leaking = run(model, samples, "packed")
    assert movement(leaking, wanted) > 1e-3


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_an_empty_batch_gives_every_trained_tensor_a_gradient_of_0(model: Any, layout: str) -> None:
    model.get_base_model().set_attn_implementation(attention.BLOCKS if layout == "packed" else attention.PADDED)
    model.zero_grad(set_to_none=True)
    empty: Batch = collate([], BatchConfig(layout=layout), pad_id=0)
    total = LossModule(model)(empty)
    total.backward()
    assert float(total.detach()) == 0
    assert all(p.grad is not None and not p.grad.any() for p in trainable(model).values())


BASES = {
    "qwen2": (Qwen2Config, {}, ""),
    "llama, tied": (LlamaConfig, {"tie_word_embeddings": True}, ""),
    "granite": (GraniteConfig, {"logits_scaling": 8.0}, "its head's alone"),
    "granite without a scale": (GraniteConfig, {"logits_scaling": 1.0}, ""),
    "cohere": (CohereConfig, {"logit_scale": 0.0625}, "its head's alone"),
    "gemma2": (Gemma2Config, {"attn_logit_softcapping": 50.0, "head_dim": 16}, "softcap=50.0"),
    "gpt-neox": (GPTNeoXConfig, {}, "its head's alone"),
}


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("name", BASES)
def test_a_base_whose_logits_are_more_than_its_head_gives_is_refused(tmp_path: Path, name: str, layout: str) -> None:
    kind, own, refused = BASES[name]
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "vocab_size": 32}
    config = kind(**sizes, num_attention_heads=4, num_key_value_heads=2, pad_token_id=0, **own)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(MedtrainError, match=refused) if refused else contextlib.nullcontext():
        load_base(str(tmp_path), ModelConfig(precision="fp32"), torch.device("cpu"), layout)


@pytest.mark.parametrize("stage", [2, 3])
def test_a_head_is_fused_where_zero_leaves_it_whole(group_of_one: None, stage: Literal[2, 3]) -> None:
    """The last test of all: ZeRO-3 replaces the linear function of the process."""
    shape = Qwen2Config(vocab_size=VOCABULARY, hidden_size=64, intermediate_size=64, num_hidden_layers=1)
    adapted = adapters.attach(Qwen2ForCausalLM(shape), {"kind": "lora", "rank": 4}, seed=0)
    settings = {"batch": BatchConfig(), "optimizer": OptimizerConfig(), "engine": EngineConfig(zero_stage=stage)}
    engine = Engine(adapted, None, **settings, pad_id=0)
    assert losses.fuses(adapted.get_base_model().lm_head, "cuda") == (stage < 3)
    engine.release()


@pytest.mark.parametrize("calls", [1, 2, 5, 30])
def test_a_head_is_called_as_often_as_it_must_be_and_that_changes_nothing(calls: int) -> None:
    """ZeRO-3 gathers at each call: a rank with few tokens, or none, makes as many as the others."""
    head, hidden, targets = states(21)
    seen = []
    head.register_forward_hook(lambda module, given, found: seen.append(len(found)))
    hidden.requires_grad_()
    wanted = token_loss_sum(head, hidden, targets)
    (gradient,) = torch.autograd.grad(wanted, hidden)
    seen.clear()
    found = token_loss_sum(head, hidden, targets, calls)
    assert len(seen) == calls and sum(seen) == 21
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(torch.autograd.grad(found, hidden)[0], gradient)
    assert len(seen) == (2 * calls if calls > 1 else 1), "each is made again in the backward pass"
