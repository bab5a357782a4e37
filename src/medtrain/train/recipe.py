"""Recipes: a paper's settings as defaults of a stage, chosen by name and mode.

`mode: paper` follows the paper's text, `mode: released` the code its authors published; they differ in the rows below.
"""

from typing import Any

from medtrain.errors import ConfigError

Settings = dict[str, Any]


def bioqwen(stage: int, mode: str) -> Settings:
    """BioQwen's two stages (Li et al. 2025, section 2.4; released scripts stage 1 and 2).

    Both: rank 64, alpha 16, dropout 0.05, all linear layers but the head, NF4 with double quantisation, 2e-4, 10 %
    warm-up, 64 samples a step, clip 0.3, seed 42. Stage 1 has 3 epochs (the paper is silent, the code has 3), stage 2
    has 5. Paper: the rate falls linearly, stage 2 decays weights by 1e-5. Released: constant rate, no decay, left
    padding (of padded rows: packed ones, `batch.layout`, have none).
    """
    paper = mode == "paper"
    return {
        "seed": 42,
        "epochs": {1: 3, 2: 5}[stage],
        "model": {"precision": "nf4", "double_quantization": True},
        "adapter": {"kind": "lora", "rank": 64, "alpha": 16, "dropout": 0.05, "target_modules": "all-linear"},
        "batch": {"unit": "samples", "size": 64, "micro_samples": 4, "pad_side": "right" if paper else "left"},
        "optimizer": {
            "learning_rate": 2e-4,
            "warmup_fraction": 0.1,
            "schedule": "linear" if paper else "constant",
            "weight_decay": 1e-5 if paper and stage == 2 else 0.0,
            "clip": 0.3,
        },
    }


RECIPES = {"bioqwen": bioqwen}


def fill(given: Settings, stage: int) -> Settings:
    """Settings with every field that is not given taken from the recipe they name, if they name one.

    Raises:
        ConfigError: there is no such recipe or mode.
    """
    name, mode = given.get("recipe"), given.get("mode", "paper")
    if name is None:
        return given
    if name not in RECIPES:
        raise ConfigError(f"recipe={name!r}: there is no such recipe; there are: {', '.join(RECIPES)}")
    if mode not in ("paper", "released"):
        raise ConfigError(f"mode={mode!r}: there is no such mode; use paper or released")
    return under(given, RECIPES[name](stage, mode))


def under(given: Settings, defaults: Settings) -> Settings:
    """Settings with what they do not give taken from `defaults`, section by section."""
    merged = dict(defaults)
    for key, value in given.items():
        below = merged.get(key)
        merged[key] = under(value, below) if isinstance(value, dict) and isinstance(below, dict) else value
    return merged
