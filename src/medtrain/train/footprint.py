"""Bytes that a stage needs on a device, counted before anything is loaded.

Base, adapter and optimizer are exact: the model and its adapter are built on the meta device, which holds shapes only.
Activations are what autograd keeps of each layer of a Qwen2- or Llama-like model with LoRA.
"""

from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoConfig, AutoModelForCausalLM

from medtrain.errors import ConfigError
from medtrain.train import adapters
from medtrain.train.checkpointing import recomputed
from medtrain.train.loss import CHUNK_TOKENS
from medtrain.train.model import compute_dtype
from medtrain.train.settings import TrainConfig


@dataclass(frozen=True)
class ModelShape:
    """What a base and its adapter hold, by counts of elements."""

    linears: tuple[tuple[int, int], ...]
    """(out, in) of each linear layer but the head; what NF4 quantises."""
    other_elements: int
    """Elements of every other weight: embedding, norms, biases, a head that is not tied."""
    buffer_bytes: int
    adapter_tensors: tuple[int, ...]
    """Elements of each trained tensor."""
    adapted: tuple[tuple[int, int], ...]
    """(in, rank) of each layer that has an adapter."""
    layers: int
    hidden: int
    intermediate: int
    attention: tuple[int, int, int]
    """(heads, KV heads, head size)."""
    vocabulary: int

    @property
    def adapter_elements(self) -> int:
        """Trained parameters."""
        return sum(self.adapter_tensors)


def shape_of(path: str, config: TrainConfig) -> ModelShape:
    """Read a model's config alone and build it, with its adapter, on the meta device.

    Raises:
        ConfigError: the path has no model config, or one of an architecture without the usual sizes.
    """
    try:
        described: Any = AutoConfig.from_pretrained(path, trust_remote_code=config.model.trust_remote_code)
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.base={path}: has no model config: {error}") from error
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(described, trust_remote_code=config.model.trust_remote_code)
        head = model.get_output_embeddings()
        linears = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
        whole = sum(p.numel() for p in model.parameters())
        buffers = sum(b.numel() * b.element_size() for b in model.buffers())
        adapted: Any = adapters.attach(model, config.adapter, config.seed)
    heads = described.num_attention_heads
    size = getattr(described, "head_dim", None) or described.hidden_size // heads
    wrapped = [m for m in adapted.modules() if isinstance(m, BaseTunerLayer)]
    return ModelShape(
        linears=tuple((m.out_features, m.in_features) for m in linears),
        other_elements=whole - sum(m.weight.numel() for m in linears),
        buffer_bytes=buffers,
        adapter_tensors=tuple(p.numel() for p in adapted.parameters() if p.requires_grad),
        adapted=tuple((m.get_base_layer().in_features, getattr(m, "r", {}).get("default", 0)) for m in wrapped),
        layers=described.num_hidden_layers,
        hidden=described.hidden_size,
        intermediate=described.intermediate_size,
        attention=(heads, getattr(described, "num_key_value_heads", None) or heads, size),
        vocabulary=described.vocab_size,
    )


def memory(
    shape: ModelShape, config: TrainConfig, micro_tokens: int, workers: int, *, gpu: bool = True
) -> dict[str, int]:
    """Bytes on one device by part, with a micro-batch of so many tokens."""
    stage, bucket = config.engine.zero_stage, config.engine.bucket_elements
    adapter = shape.adapter_elements
    held = shape.adapter_elements if stage < 3 else sum(-(-n // workers) for n in shape.adapter_tensors)
    # Stages 1 and 2 flatten all tensors and pad to a multiple of twice the workers; stage 3 pads each to a multiple.
    shard = {0: adapter, 3: held}.get(stage, -(-adapter // (2 * workers)) * 2)
    largest = max((out * inner for out, inner in shape.linears), default=0)
    compute: int = compute_dtype(config.model).itemsize
    logits = min(CHUNK_TOKENS, micro_tokens) * shape.vocabulary
    return {
        "base": base_bytes(shape, config, workers if stage == 3 else 1),
        "adapter": 4 * held,
        # ZeRO keeps float32 masters apart from the float32 adapter.
        "masters": 4 * shard if stage and not config.engine.offload_optimizer else 0,
        "moments": 0 if config.engine.offload_optimizer else moment_bytes(shape, config, shard),
        "gradients": 4 * (shard if stage >= 2 else adapter) + (4 * shard if stage == 1 else 0),
        "buckets": 4 * bucket if stage >= 2 else 0,
        "unpacked weight": compute * largest if config.model.precision == "nf4" else 0,
        "activations": activation_bytes(shape, config, micro_tokens, gpu=gpu),
        # Logits in the compute type, in float32, and their log-softmax.
        "logits": logits * (8 if compute == 4 else 10),
    }


def moment_bytes(shape: ModelShape, config: TrainConfig, shard: int) -> int:
    """Bytes of both moments. bitsandbytes keeps tensors below 4,096 elements in float32, others in bytes with a float32
    scale a block of 256 and two tables of 256 float32 for all; paged ones lie on the host when memory is short."""
    if not config.optimizer.kind.endswith("8bit"):
        return 2 * 4 * shard
    packed = [n for n in shape.adapter_tensors if n >= 4096]
    return sum(2 * (n + 4 * -(-n // 256)) for n in packed) + 8 * (shard - sum(packed)) + (2048 if packed else 0)


def base_bytes(shape: ModelShape, config: TrainConfig, shards: int) -> int:
    """Bytes of the frozen base. ZeRO-3 shards weights, not the scales of 4-bit blocks, which are no parameters."""
    width: int = compute_dtype(config.model).itemsize
    if config.model.precision != "nf4":
        sizes = sum(out * inner for out, inner in shape.linears) + shape.other_elements
        return -(-sizes * width // shards) + shape.buffer_bytes
    packed, state = 0, 0
    for out, inner in shape.linears:
        elements = out * inner
        packed += -(-elements // 2)
        blocks = -(-elements // 64)
        # One scale a block of 64: float32; or a byte, with a float32 for 256 of them, an offset and a table of 256.
        state += blocks + 4 * -(-blocks // 256) + 4 + 1024 if config.model.double_quantization else 4 * blocks
        state += 64  # the sixteen values of NF4
    return -(-(packed + shape.other_elements * width) // shards) + state + shape.buffer_bytes


def activation_bytes(shape: ModelShape, config: TrainConfig, tokens: int, *, gpu: bool = True) -> int:
    """What autograd keeps of a micro-batch between forward and backward.

    Without dropout on a float32 base layers share their inputs, so there it is an upper bound.
    """
    compute: int = compute_dtype(config.model).itemsize
    heads, kv_heads, size = shape.attention
    # Rows attend with grouped KV heads; under a mask, for padding at the left, each query head has its own copy.
    masked = config.batch.layout == "padded" and config.batch.pad_side == "left"
    keys = heads if masked else kv_heads
    norm = 4 * shape.hidden + 4
    attention = compute * (2 * heads + 2 * keys) * size + 4 * heads
    gated = 3 * compute * shape.intermediate
    # The adapter's input in float32 with its dropout mask (bytes on a GPU, float32 on a CPU), and A's output.
    mask = 0 if not config.adapter.get("dropout", 0) else 1 if gpu else 4
    adapters_all = sum((4 + mask) * inner + 4 * rank for inner, rank in shape.adapted)
    layer = 2 * norm + attention + gated + adapters_all // shape.layers
    if config.engine.zero_stage == 3 and config.model.precision != "nf4":
        # Under ZeRO-3 DeepSpeed's linear layer keeps its input although its weight is frozen.
        layer += compute * (2 * shape.hidden + heads * size + shape.intermediate)
    inputs = len(recomputed(shape.layers, config.engine.gradient_checkpointing))
    # Of the recomputed layers one is whole at a time; where the last is kept, its place is free by then.
    whole = max(shape.layers - inputs, 1)
    return tokens * (inputs * compute * shape.hidden + whole * layer + norm)
