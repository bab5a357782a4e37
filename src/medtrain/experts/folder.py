"""Adapter folders in PEFT's layout as factors of modules: tensors and JSON alone, no model is loaded."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load, save

from medtrain.errors import ConfigError, CorruptArtifact
from medtrain.storage import Store

WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<part>[ABE])(\.weight)?")
VARIANTS = (
    *("use_dora", "alora_invocation_tokens", "arrow_config", "layer_replication", "use_bdlora", "use_qalora"),
    *("target_parameters", "kasa_config"),
)
"""Settings under which tensors of LoRA's names mean something else than a sum of products."""
BEGINNINGS = ("gaussian", "eva", "orthogonal", "mica")
"""Values of `init_lora_weights` that leave the base as it is; PEFT's others (pissa, olora, corda, loftq, lora_ga)
take from its weights what they begin with."""

Parts = dict[str, dict[str, torch.Tensor]]
"""Module -> A, B and, of AdaLoRA, E."""


@dataclass(frozen=True)
class Factors:
    """The update of one module: scale * B A."""

    A: torch.Tensor  # (r, in)
    B: torch.Tensor  # (out, r)
    scale: float = 1.0

    @property
    def rank(self) -> int:
        return len(self.A)


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter, whose modules may have different ranks and scales."""

    base: str
    """The base model that it was trained on, as its config names it."""
    modules: dict[str, Factors]
    """Name of a linear layer in the base -> its update."""
    fan_in_fan_out: bool = False
    """Whether the base keeps these layers' weights as (in, out), as GPT-2 does."""


def read_parts(store: Store, folder: str) -> tuple[dict[str, Any], Parts]:
    """What an adapter folder's two files hold: its config and its tensors by module.

    Raises:
        ConfigError: the adapter has more than LoRA's or AdaLoRA's factors.
        CorruptArtifact: the folder is not whole, or holds values that are no numbers.
    """
    for name in (SETTINGS, WEIGHTS):
        if not store.exists(f"{folder}/{name}"):
            raise CorruptArtifact(f"adapter {folder}: no {name} in {store.root}; train or fetch it again")
    config: dict[str, Any] = json.loads(store.read(f"{folder}/{SETTINGS}"))
    for setting in VARIANTS:
        if config.get(setting):
            raise ConfigError(
                f"adapter {folder}: {setting}={config[setting]!r} is no sum of products; merge it into its base instead"
            )
    beginning = config.get("init_lora_weights")
    if isinstance(beginning, str) and beginning.lower() not in BEGINNINGS:
        raise ConfigError(
            f"adapter {folder}: init_lora_weights={beginning!r} began by changing the base; save it with PEFT's "
            "path_initial_model_for_weight_conversion, which gives an adapter of the base as it was"
        )
    parts: Parts = {}
    for name, tensor in load(store.read(f"{folder}/{WEIGHTS}")).items():
        found = TENSOR.fullmatch(name)
        if found is None:
            raise ConfigError(f"adapter {folder}: {name} is no lora_A, lora_B or lora_E; only these can be fused")
        if not bool(tensor.isfinite().all()):
            raise CorruptArtifact(f"adapter {folder}: {name} holds values that are no numbers; train it again")
        parts.setdefault(found["module"], {})[found["part"]] = tensor
    wanted = {"ADALORA": {"A", "B", "E"}, "LORA": {"A", "B"}}.get(config.get("peft_type", ""))
    if wanted is None:
        raise ConfigError(f"adapter {folder}: peft_type={config.get('peft_type')!r}; LORA and ADALORA can be fused")
    torn = [module for module, held in parts.items() if held.keys() != wanted]
    if torn or not parts:
        raise CorruptArtifact(
            f"adapter {folder}: {WEIGHTS} lacks {'factors of ' + torn[0] if torn else 'every tensor'}; train it again"
        )
    return config, parts


def write(store: Store, folder: str, adapter: Adapter) -> None:
    """Save an adapter as a LoRA folder that unmodified PEFT opens, in float32, read back and checked.

    Modules are named in full, so that one without an update gets no layer. `r` is the largest rank and `lora_alpha`
    is equal to it: a program that does not know patterns still scales by 1.

    Raises:
        ConfigError: no module has an update.
        CorruptArtifact: storage holds something else than was written.
    """
    kept = {name: factors for name, factors in sorted(adapter.modules.items()) if factors.rank}
    if not kept:
        raise ConfigError(
            f"adapter {folder}: no module has a rank above 0; every triplet was pruned, or every weight is 0"
        )
    largest = max(factors.rank for factors in kept.values())
    alphas = {name: factors.scale * factors.rank for name, factors in kept.items()}
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": adapter.base,
        "inference_mode": True,
        "bias": "none",
        "fan_in_fan_out": adapter.fan_in_fan_out,
        "lora_dropout": 0.0,
        "r": largest,
        "lora_alpha": largest,
        "rank_pattern": {name: factors.rank for name, factors in kept.items() if factors.rank != largest},
        "alpha_pattern": {name: alpha for name, alpha in alphas.items() if alpha != largest},
        "target_modules": list(kept),
    }
    tensors = {}
    for name, factors in kept.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = factors.A.to(torch.float32).contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = factors.B.to(torch.float32).contiguous()
    files = {WEIGHTS: save(tensors), SETTINGS: json.dumps(config, indent=2).encode()}
    for file, content in files.items():
        store.write(f"{folder}/{file}", content)
        if store.read(f"{folder}/{file}") != content:
            raise CorruptArtifact(f"adapter {folder}: {store.root} gave other bytes back than were written to {file}")


def lora_factors(config: Mapping[str, Any], parts: Parts) -> dict[str, Factors]:
    """LoRA's own factors by module, each with the scale that PEFT gives it: alpha / r, or alpha / sqrt(r) (rsLoRA)."""
    found = {}
    for module, held in parts.items():
        alpha, rank = config["lora_alpha"], len(held["A"])
        for pattern, value in (config.get("alpha_pattern") or {}).items():
            if re.match(rf"(.*\.)?({pattern})$", module):  # as `peft.utils.other.get_pattern_key` does
                alpha = value
                break
        scale = alpha / (rank**0.5 if config.get("use_rslora") else rank)
        found[module] = Factors(held["A"], held["B"], scale)
    return found
