"""AdaLoRA folded into plain LoRA, so that it can be fused with others and served.

AdaLoRA's update is alpha / (init_r + 1e-5) * B (E * A). PEFT divides by the rank that a module began with, for ever,
and not by what pruning has left of it.
"""

from typing import Any

import torch

from medtrain.errors import ConfigError
from medtrain.experts.folder import Adapter, Factors, Parts, lora_factors, read_parts, write
from medtrain.storage import Store


def fold(store: Store, source: str, target: str) -> None:
    """Write an AdaLoRA adapter folder as a LoRA adapter folder of the same store, with the same update.

    Raises:
        ConfigError: the source is no AdaLoRA adapter, or every triplet of it was pruned.
        CorruptArtifact: the source is not whole, or what was written cannot be read back.
    """
    config, parts = read_parts(store, source)
    if config["peft_type"] != "ADALORA":
        raise ConfigError(
            f"adapter {source}: peft_type={config['peft_type']}, there is nothing to fold; use it as it is"
        )
    write(store, target, _adapter(config, adalora_factors(config, parts)))


def read(store: Store, folder: str) -> Adapter:
    """A LoRA adapter folder, or an AdaLoRA adapter folder folded.

    Raises:
        ConfigError: the adapter is no sum of products.
        CorruptArtifact: the folder is not whole.
    """
    config, parts = read_parts(store, folder)
    factors = adalora_factors if config["peft_type"] == "ADALORA" else lora_factors
    return _adapter(config, factors(config, parts))


def adalora_factors(config: dict[str, Any], parts: Parts) -> dict[str, Factors]:
    """Factors of every module that has a rank left: A' = E A, B' = B alpha / (init_r + 1e-5), of the kept rows.

    Computed in float64 and rounded once to float32.
    """
    scale = config["lora_alpha"] / (config["init_r"] + 1e-5)
    found = {}
    for module, held in parts.items():
        E = held["E"].double()  # (r, 1)
        kept = E[:, 0] != 0
        if bool(kept.any()):
            A, B = (E * held["A"].double())[kept], held["B"].double()[:, kept] * scale
            found[module] = Factors(A.to(torch.float32), B.to(torch.float32))
    return found


def _adapter(config: dict[str, Any], modules: dict[str, Factors]) -> Adapter:
    return Adapter(config.get("base_model_name_or_path") or "", modules, bool(config.get("fan_in_fan_out")))
