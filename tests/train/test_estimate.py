"""The estimate of a stage against models, optimizers and engines that are really there, and against BioQwen's table."""

from pathlib import Path
from typing import Any

import bitsandbytes
import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from medtrain.errors import ConfigError
from medtrain.tokens.shards import SCHEMA, Samples
from medtrain.train import adapters, checkpointing
from medtrain.train.batches import collate
from medtrain.train.deepspeed_config import EngineConfig
from medtrain.train.engine import Engine
from medtrain.train.estimate import GIB, device_class, estimate, render, token_flops
from medtrain.train.footprint import ModelShape, activation_bytes, base_bytes, memory, shape_of
from medtrain.train.loss import LossModule
from medtrain.train.model import ModelConfig, load_base
from medtrain.train.order import BatchConfig, Plan
from medtrain.train.stage import StageConfig

CPU = torch.device("cpu")


def config(**given: Any) -> StageConfig:
    """A stage's config."""
    return StageConfig.model_validate({"name": "x", "tokens": "t", "stage": 1, **given})


TINY = (128, 320, 3, 4, 2)
"""Sizes that all differ: hidden, inner, layers, query heads, KV heads."""
SHAPES = {
    "4/2-nf4": (TINY, "nf4"),
    "4/2-fp32": (TINY, "fp32"),
    "14/2-fp32": ((448, 2432, 2, 14, 2), "fp32"),
    "4/4-nf4": ((256, 704, 5, 4, 4), "nf4"),
}
"""By query and KV heads, and precision; a KV head is shared by two, by seven (as in the 0.5B base) or not (1.8B)."""


def sized(tied: bool, sizes: tuple[int, ...] = TINY) -> Qwen2Config:
    """A tiny model."""
    hidden, inner, layers, heads, kv_heads = sizes
    return Qwen2Config(
        vocab_size=512,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        tie_word_embeddings=tied,
    )


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny base on disk."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    Qwen2ForCausalLM(sized(request.param)).save_pretrained(folder)
    return str(folder)


def held_bytes(model: Any) -> int:
    """Bytes of a loaded base: parameters, buffers and the state of 4-bit weights."""
    tensors = [*model.parameters(), *model.buffers()]
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            state = module.weight.quant_state
            tensors += [state.absmax, state.code]
            if state.nested:
                tensors += [state.offset, state.state2.absmax, state.state2.code]
    return sum(tensor.numel() * tensor.element_size() for tensor in {id(t): t for t in tensors}.values())


@pytest.mark.parametrize(
    "model",
    [
        {"precision": "nf4"},
        {"precision": "nf4", "quant_storage": "bfloat16"},
        {"precision": "nf4", "double_quantization": False},
        {"precision": "nf4", "compute_dtype": "float32"},
        {"precision": "bf16"},
        {"precision": "fp32"},
    ],
    ids=str,
)
def test_base_bytes_are_those_of_the_loaded_model(path: str, model: dict[str, Any]) -> None:
    loaded = load_base(path, ModelConfig.model_validate(model), CPU)
    stage = config(model=model)
    assert base_bytes(shape_of(path, stage), stage, 1) == held_bytes(loaded)


@pytest.mark.parametrize("adapter", [{"rank": 6}, {"rank": 4, "dora": True}, {"target_modules": ["q_proj"]}], ids=str)
def test_adapter_bytes_are_those_of_the_attached_one(path: str, adapter: dict[str, Any]) -> None:
    stage = config(adapter={"kind": "lora", **adapter})
    model = adapters.attach(load_base(path, ModelConfig(precision="fp32"), CPU), stage.adapter, seed=0)
    trained = [p for p in model.parameters() if p.requires_grad]
    found = memory(shape_of(path, stage), stage, 64, workers=1)
    assert found["adapter"] == sum(p.numel() * p.element_size() for p in trained)


def samples(lengths: list[int]) -> Samples:
    """Rows of these lengths; the last token is trained."""
    text = {"source": "s", "task": "qa", "category": "QA", "language": "en", "split": "train"}
    rows = []
    for number, length in enumerate(lengths):
        ids = {"length": length, "trained_tokens": 1, "input_ids": [7] * length, "trained": [[length - 1, length]]}
        rows.append({"id": str(number), **text, **ids})
    return Samples(pa.Table.from_pylist(rows, schema=SCHEMA))


def kept_bytes(model: Any, batch: Any) -> int:
    """What autograd keeps of a forward pass, each storage once, without weights and buffers."""
    known = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = LossModule(model)(batch)
    found = sum(kept.values())
    del loss
    return found


MICRO_TOKENS = {"packed": 160 + 120, "padded": 2 * 160}
"""Of a micro-batch of two samples, by layout."""


def kept_and_estimated(
    folder: Path, staged: StageConfig, device: torch.device, sizes: tuple[int, ...] = TINY
) -> tuple[int, int]:
    """Bytes that autograd keeps of two samples after the forward pass: counted, and by formula."""
    Qwen2ForCausalLM(sized(True, sizes)).save_pretrained(folder)
    base = load_base(str(folder), staged.model, device, staged.batch.layout)
    model = adapters.attach(base, staged.adapter, seed=0).train()
    how = staged.engine.gradient_checkpointing
    checkpointing.enable(model, how)
    rows, gpu = samples([160, 120]), device.type == "cuda"
    counted = kept_bytes(model, collate([rows[0], rows[1]], staged.batch, 0).to(device))
    shape = shape_of(str(folder), staged)
    tokens = MICRO_TOKENS[staged.batch.layout]
    found = activation_bytes(shape, staged, tokens, gpu=gpu)
    if how == "whole":  # the one layer that is recomputed is not there yet after the forward pass
        whole = staged.model_copy(update={"engine": EngineConfig()})
        last_norm = tokens * 4 * (shape.hidden + 1)
        found -= (activation_bytes(shape, whole, tokens, gpu=gpu) - last_norm) // shape.layers
    return counted, found


def left_out(shape: ModelShape, staged: StageConfig) -> int:
    """Bytes that the formula leaves out on a CPU, each a small share of a real model's."""
    tokens = MICRO_TOKENS[staged.batch.layout]
    how = staged.engine.gradient_checkpointing
    compute = 4 if staged.model.precision == "fp32" else 2
    kept = shape.layers - len(checkpointing.recomputed(shape.layers, how))
    logits = 4 * 2 * shape.vocabulary  # of the two trained tokens
    rotary = 2 * compute * tokens * shape.attention[2] if kept else 0  # one sine and one cosine for all layers
    masked = staged.batch.layout == "padded" and staged.batch.pad_side == "left"
    masks = kept * compute * 2 * 160**2 if masked else 0
    # Nothing below the first layer is trained: its norm, and the dropout of its three inputs, need no gradient.
    first = tokens * (4 * shape.hidden + 4 + 3 * 4 * shape.hidden) if how == "none" else 0
    return logits + rotary + masks - first


@pytest.mark.parametrize("how", ["none", "selective", "whole"])
@pytest.mark.parametrize(("layout", "side"), [("packed", "right"), ("padded", "right"), ("padded", "left")])
@pytest.mark.parametrize(("sizes", "precision"), SHAPES.values(), ids=SHAPES)
def test_activations_are_what_autograd_keeps(
    tmp_path: Path, sizes: tuple[int, ...], precision: str, layout: str, side: str, how: str
) -> None:
    engine, batch = {"gradient_checkpointing": how}, {"layout": layout, "pad_side": side}
    adapter = {"kind": "lora", "rank": 16}
    staged = config(model={"precision": precision}, adapter=adapter, batch=batch, engine=engine)
    counted, found = kept_and_estimated(tmp_path, staged, CPU, sizes)
    assert found == pytest.approx(counted, rel=0.06)
    assert found + left_out(shape_of(str(tmp_path), staged), staged) == pytest.approx(counted, rel=0.001)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_activations_on_cuda_are_what_autograd_keeps(tmp_path: Path) -> None:
    staged = config(adapter={"kind": "lora", "rank": 16}, batch={"layout": "packed"})
    counted, found = kept_and_estimated(tmp_path, staged, torch.device("cuda", 0))
    assert found == pytest.approx(counted, rel=0.15)


def published(tmp_path: Path, name: str) -> ModelShape:
    """One of BioQwen's bases by its published sizes."""
    hidden, layers, inner, heads, kv_heads, tied = {
        "0.5B": (896, 24, 4864, 14, 2, True),
        "1.5B": (1536, 28, 8960, 12, 2, True),
        "1.8B": (2048, 24, 5504, 16, 16, False),
    }[name]
    Qwen2Config(
        vocab_size=151936,
        hidden_size=hidden,
        num_hidden_layers=layers,
        intermediate_size=inner,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        tie_word_embeddings=tied,
        architectures=["Qwen2ForCausalLM"],
    ).save_pretrained(tmp_path)
    return shape_of(str(tmp_path), config(stage=2, recipe="bioqwen"))


@pytest.mark.parametrize(
    ("name", "tokens_per_s", "hours"), [("0.5B", 6700, 18), ("1.5B", 3100, 39), ("1.8B", 2750, 44)]
)
def test_bioqwens_table_within_a_factor_of_two(tmp_path: Path, name: str, tokens_per_s: int, hours: int) -> None:
    staged = config(stage=2, recipe="bioqwen", engine={"gradient_checkpointing": "whole"})
    lengths = np.full(40_360, 215)  # a tenth of the rows, at their mean length
    found = estimate(published(tmp_path, name), staged, lengths, 4, "rtx3090", 24)
    print(f"{name}: {found.tokens_per_s:.0f} tokens/s, {10 * found.total_s / 3600:.1f} h, {found.bytes / GIB:.2f} GiB")
    assert 0.5 < found.tokens_per_s / tokens_per_s < 2
    assert 0.5 < 10 * found.total_s / 3600 / hours < 2
    assert found.steps == 5 * 631
    assert found.fits


def test_zero_stages_take_less_the_more_they_shard(tmp_path: Path) -> None:
    shape = published(tmp_path, "0.5B")
    totals = []
    for stage in (0, 1, 2, 3):
        staged = config(engine={"zero_stage": stage, "bucket_elements": 1_000_000})
        totals.append(sum(memory(shape, staged, 1024, workers=8).values()))
    assert totals[1:] == sorted(totals[1:], reverse=True)
    one, eight = (memory(shape, config(engine={"zero_stage": 3}), 1024, workers=n) for n in (1, 8))
    for part in ("adapter", "moments", "masters", "gradients"):
        assert eight[part] == pytest.approx(one[part] / 8, rel=1e-3)


def test_it_fits_or_not(tmp_path: Path) -> None:
    shape, lengths = published(tmp_path, "1.8B"), np.full(100, 1024)
    fits = [estimate(shape, config(), lengths, 1, "h100", gib).fits for gib in (None, 4.0, 80.0)]
    assert fits == [None, False, True]
    saved = [
        estimate(shape, config(engine={"gradient_checkpointing": on}), lengths, 1, "h100").parts["activations"]
        for on in ("whole", "none")
    ]
    assert saved[0] < saved[1] / 5


def test_steps_and_tokens_are_those_of_the_plan(tmp_path: Path) -> None:
    shape, lengths = published(tmp_path, "0.5B"), np.arange(1, 101)
    found = estimate(shape, config(epochs=3, batch={"size": 8}), lengths, 2, "a100")
    assert (found.steps, found.tokens_per_epoch, found.rows) == (39, 5050, 100)
    assert found.epoch_s * 3 == pytest.approx(found.total_s)
    short = estimate(shape, config(epochs=3, batch={"size": 8}, max_steps=13), lengths, 2, "a100")
    assert short.total_s == pytest.approx(found.epoch_s)
    assert estimate(shape, config(epochs=3, batch={"size": 8}), lengths, 4, "a100").step_s == found.step_s / 2


def test_a_padded_step_takes_longer_by_its_padding(tmp_path: Path) -> None:
    shape, lengths = published(tmp_path, "0.5B"), np.tile([10, 190], 32)
    packed, padded = (
        estimate(shape, config(batch={"size": 64, "layout": kind, "micro_samples": 64}), lengths, 1, "a100")
        for kind in ("packed", "padded")
    )
    assert padded.step_s / packed.step_s == pytest.approx(1.9)


def test_it_is_shown_in_words(tmp_path: Path) -> None:
    found = estimate(published(tmp_path, "0.5B"), config(), np.full(100, 200), 4, "rtx3090", 24)
    text = render(found)
    assert "100 rows, 20,000 tokens an epoch" in text and f" {found.epoch_s:,.0f} s an epoch, " in text
    assert "fits" in text and "4 x rtx3090" in text and "base" in text
    assert "NOT" in render(estimate(published(tmp_path, "0.5B"), config(), np.full(100, 200), 4, "rtx3090", 1))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("NVIDIA GeForce RTX 3090", "rtx3090"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
        ("Tesla T4", None),
        ("NVIDIA RTX A1000 Laptop GPU", None),
    ],
)
def test_a_device_is_known_by_its_own_name(name: str, kind: str | None) -> None:
    assert device_class(name) == kind


def test_recomputing_is_no_use_of_the_peak(tmp_path: Path) -> None:
    shape = published(tmp_path, "0.5B")
    none, whole = (config(engine={"gradient_checkpointing": how}) for how in ("none", "whole"))
    useful = token_flops(shape, none, 200)
    assert useful == token_flops(shape, whole, 200, recomputing=False)
    assert 1.3 < token_flops(shape, whole, 200) / useful < 1.5


def test_the_head_counts_for_trained_tokens_alone(tmp_path: Path) -> None:
    shape = published(tmp_path, "0.5B")
    whole, half = (token_flops(shape, config(), 200, trained=trained, recomputing=False) for trained in (1.0, 0.5))
    assert whole - half == pytest.approx(2 * 2 * 0.5 * shape.hidden * shape.vocabulary)


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no model config"):
        shape_of(str(tmp_path), config())
    with pytest.raises(ConfigError, match=r"device='rtx1080': unknown; there are: rtx3090"):
        estimate(published(tmp_path, "0.5B"), config(), np.full(9, 9), 1, "rtx1080")


@pytest.mark.usefixtures("group_of_one")
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_optimizer_bytes_are_those_of_the_engine(stage: int, tmp_path: Path) -> None:
    Qwen2ForCausalLM(sized(True)).save_pretrained(tmp_path)
    engine_config = EngineConfig(zero_stage=stage, bucket_elements=100_000)
    staged = config(adapter={"kind": "lora", "rank": 3}, engine=engine_config)
    model = adapters.attach(load_base(str(tmp_path), ModelConfig(precision="fp32"), CPU), staged.adapter, seed=0)
    rows = samples([9, 12])
    batch = BatchConfig(size=2, layout="padded")
    engine = Engine(model, rows, batch=batch, optimizer=staged.optimizer, engine=engine_config, pad_id=0)
    engine.step(Plan(np.arange(2), rows.lengths, batch, seed=0, epochs=1).at(0), 1e-4)
    adamw = engine.deepspeed.optimizer if stage == 0 else engine.deepspeed.optimizer.optimizer
    moments = [s[name] for s in adamw.state.values() for name in ("exp_avg", "exp_avg_sq")]
    masters = [t for group in adamw.param_groups for t in group["params"]] if stage in (1, 2) else []
    if stage == 3:
        masters = list(engine.deepspeed.optimizer.fp32_partitioned_groups_flat)
    found = memory(shape_of(str(tmp_path), staged), staged, 64, workers=1)
    assert found["moments"] == sum(t.numel() * t.element_size() for t in moments)
    assert found["masters"] == sum(t.numel() * t.element_size() for t in masters)


@pytest.mark.usefixtures("group_of_one")
def test_8_bit_moments_are_those_of_the_engine(tmp_path: Path) -> None:
    Qwen2ForCausalLM(sized(True)).save_pretrained(tmp_path)
    given = {"engine": {"zero_stage": 0}, "optimizer": {"kind": "adamw8bit"}, "adapter": {"kind": "lora", "rank": 32}}
    staged = config(**given)
    model = adapters.attach(load_base(str(tmp_path), ModelConfig(precision="fp32"), CPU), staged.adapter, seed=0)
    rows, batch = samples([9, 12]), BatchConfig(size=2, layout="padded")
    engine = Engine(model, rows, batch=batch, optimizer=staged.optimizer, engine=staged.engine, pad_id=0)
    engine.step(Plan(np.arange(2), rows.lengths, batch, seed=0, epochs=1).at(0), 1e-4)
    held = [t for state in engine.deepspeed.optimizer.state.values() for t in state.values() if torch.is_tensor(t)]
    kinds = {tensor.dtype for tensor in held}
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in held}
    assert kinds == {torch.uint8, torch.float32}
    assert memory(shape_of(str(tmp_path), staged), staged, 64, workers=1)["moments"] == sum(storages.values())
