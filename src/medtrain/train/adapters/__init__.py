"""Adapters: one file each, named by `adapter.kind`."""

from typing import Any

from medtrain import plugins
from medtrain.config import Config, parse


def validate(adapter: dict[str, Any]) -> Config:
    """The adapter's own config, by its `kind`.

    Raises:
        ConfigError: there is no such kind, or a setting is wrong.
    """
    module = plugins.load("train", "adapters", str(adapter.get("kind", "lora")))
    kind: type[Config] = module.Config
    return parse(kind, adapter)


def attach(model: Any, adapter: dict[str, Any], seed: int) -> Any:
    """The model with a fresh adapter of the configured kind, as a `peft.PeftModel`."""
    module = plugins.load("train", "adapters", str(adapter.get("kind", "lora")))
    return module.attach(model, validate(adapter), seed)
