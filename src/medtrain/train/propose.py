"""What to change so that a stage fits a device's memory: the cheapest settings first, none that changes its results."""

from typing import Any

from medtrain.train import adapters
from medtrain.train.estimate import estimate
from medtrain.train.footprint import ModelShape
from medtrain.train.order import Ints
from medtrain.train.settings import TrainConfig

Override = tuple[str, Any]
"""A setting below the stage's config, with dots, and its value."""


def fitting(
    shape: ModelShape, config: TrainConfig, lengths: Ints, workers: int, device: str, device_memory_gib: float
) -> list[Override] | None:
    """The settings with which a stage fits, as few as do; None where all of them together are not enough.

    Every second layer recomputed, then all; smaller micro-batches; ZeRO-3 on several devices; masters and moments on
    the host. Dropout is drawn by micro-batch, so that with smaller ones it falls on other places.
    """
    chosen: dict[str, Any] = {}
    for setting, value in _levers(config, lengths, workers):
        chosen[setting] = value
        changed = _changed(config, chosen)
        if estimate(shape, changed, lengths, workers, device, device_memory_gib).fits:
            return list(chosen.items())
    return None


def _levers(config: TrainConfig, lengths: Ints, workers: int) -> list[Override]:
    engine, batch = config.engine, config.batch
    ladder = ("none", "selective", "whole")
    levers: list[Override] = [
        ("engine.gradient_checkpointing", how) for how in ladder[ladder.index(engine.gradient_checkpointing) + 1 :]
    ]
    if batch.layout == "packed":
        tokens, longest = batch.micro_tokens, int(lengths.max())
        while tokens > longest:
            tokens = max(tokens // 2, longest)
            levers.append(("batch.micro_tokens", tokens))
    else:
        samples = min(batch.micro_samples, len(lengths))
        while samples > 1:
            samples //= 2
            levers.append(("batch.micro_samples", samples))
    if config.optimizer.kind == "adamw":
        sharded = adapters.refusal(config.adapter, 3, config.validation.keep, config.validation.patience) == ""
        if workers > 1 and engine.zero_stage < 3 and sharded:
            levers.append(("engine.zero_stage", 3))
        elif engine.zero_stage == 0:
            levers.append(("engine.zero_stage", 1))
        if not engine.offload_optimizer:
            levers.append(("engine.offload_optimizer", True))
    return levers


def _changed(config: TrainConfig, chosen: dict[str, Any]) -> TrainConfig:
    given = config.model_dump(mode="json")
    for setting, value in chosen.items():
        section, name = setting.split(".")
        given[section][name] = value
    return type(config).model_validate(given)


def render(found: list[Override] | None, section: str = "train") -> str:
    """The proposal as a line for `--dry-run`, in the words of the command line."""
    if found is None:
        return (
            "no setting that keeps the results makes it fit: take model.precision nf4, shorter samples or more memory"
        )
    return "it fits with: " + " ".join(f"{section}.{setting}={_word(value)}" for setting, value in found)


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
