"""The base model in NF4, bfloat16 or float32, and whole systems (base + adapter) for use.

Model libraries are imported where a model is opened: drivers and Ray Train's controller read the config alone.
"""

from typing import Any, Literal

import torch

from medtrain import artifacts
from medtrain.config import Config, knob
from medtrain.errors import ConfigError
from medtrain.storage import Store


class ModelConfig(Config):
    """The frozen base."""

    base: str | None = None
    """Model reference: a path, a hub id or artifact:<kind>/<name>; null takes the base of the token artifact."""
    precision: Literal["nf4", "bf16", "fp32"] = "nf4"
    """How the base's linear weights are held."""
    compute_dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """In which type an NF4 base computes and holds its unquantised tensors; float32 for CPUs without bfloat16 units,
    where a bfloat16 product takes tens of times longer."""
    double_quantization: bool = True
    """Quantise the scales of the 4-bit blocks too (QLoRA, section 3)."""
    quant_storage: Literal["uint8", "bfloat16"] = knob("uint8")
    """Type of the tensors that hold 4-bit weights; ZeRO-3 shards either."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Off: a model is data."""


def compute_dtype(config: ModelConfig) -> torch.dtype:
    """The type of the base's matrix products and of its unquantised tensors."""
    by_precision = {"fp32": "float32", "bf16": "bfloat16", "nf4": config.compute_dtype}
    dtype: torch.dtype = getattr(torch, by_precision[config.precision])
    return dtype


def load_base(path: str, config: ModelConfig, device: torch.device, layout: str | None = None) -> Any:
    """The base as a causal language model with frozen weights.

    Args:
        path: what `artifacts.model_path` gave.
        config: precision and quantisation.
        device: where the weights go.
        layout: of the rows that are trained; None for Transformers' own attention, which can generate.

    Raises:
        ConfigError: the path holds no model that Transformers can open, or one that cannot be trained here.
    """
    import bitsandbytes
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    from medtrain.train import attention, loss

    dtype = compute_dtype(config)
    options: dict[str, Any] = {"dtype": dtype}
    if config.precision == "nf4":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=config.double_quantization,
            bnb_4bit_compute_dtype=dtype,
            bnb_4bit_quant_storage=getattr(torch, config.quant_storage),
        )
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path,
            device_map={"": device},
            attn_implementation=attention.choose(layout, device, dtype),
            trust_remote_code=config.trust_remote_code,
            **options,
        )
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.base={path}: cannot be loaded: {error}") from error
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            # A CPU with AVX512-BF16 repacks 4-bit weights in place on an evaluation forward; training on them breaks.
            module.support_avx512bf16_for_cpu = False
    model.requires_grad_(False)
    if layout is not None and not loss.is_head_of_hidden(model):
        raise ConfigError(
            f"model.base={path}: the logits of {type(model).__name__} are not its head's alone (it scales or caps "
            f"them, or is built in another way), so that its loss would be another one; take a base like Qwen2 or Llama"
        )
    return model


def load_system(root: Store, run: str, *, adapter: bool, device: torch.device) -> tuple[Any, Any]:
    """A finished stage as a model in evaluation mode and its tokenizer.

    Args:
        root: the storage root.
        run: `<kind>/<name>` of a stage, such as `stage1/demo`.
        adapter: with the stage's adapter, or the base it was trained on alone.
        device: where the model goes.

    Raises:
        MissingArtifact: the stage does not exist or is unfinished.
    """
    import peft
    from transformers import AutoTokenizer

    kind, _, name = run.partition("/")
    stage = artifacts.locate(root, kind, name)
    model_config = ModelConfig.model_validate(stage.facts["model"])
    tokenizer = AutoTokenizer.from_pretrained(stage.store.local("adapter"))
    model = load_base(artifacts.model_path(root, stage.facts["base"]), model_config, device)
    if adapter:
        model = peft.PeftModel.from_pretrained(model, str(stage.store.local("adapter")))
    return model.eval(), tokenizer
