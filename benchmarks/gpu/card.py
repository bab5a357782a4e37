"""A smaller card than the device: what the estimator says of it against what is found, and hours on such cards."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from medtrain.train.estimate import DEVICES, GIB

CARD_GIB = 24
BIOQWEN_TOKENS = 87.0e6 * (3 + 5)
"""Both stages of BioQwen: the tokens of an epoch, and the epochs of each stage."""


@contextmanager
def capped(device: torch.device) -> Iterator[float]:
    """A device that gives no more than a 24 GB card would, or than it has; yields how many GiB these are."""
    total = torch.cuda.mem_get_info(device)[1]
    held = min(CARD_GIB * GIB, total)
    torch.cuda.set_per_process_memory_fraction(held / total, device)
    try:
        yield held / GIB
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def fits(trial: Callable[[], object]) -> bool:
    """Whether a trial ends within the device's memory; any other failure is its own."""
    try:
        trial()
    except torch.OutOfMemoryError:
        return False
    return True


def claim(of: str, settings: list[dict[str, Any]], facts: dict[str, Any]) -> dict[str, Any]:
    """The estimator's words as a claim: each setting that it says fits did fit, each other one did not.

    Args:
        of: what was trained.
        settings: each with `said` and `found`.
        facts: fields that all claims of a run share.
    """
    right = sum(one["said"] == one["found"] for one in settings)
    return {
        "claim": f"settings of QLoRA on {of} where the estimator is right on whether a {CARD_GIB} GB card holds them",
        "ours": right,
        "peer": len(settings),
        "ratio": round(right / len(settings), 4),
        "bar": 1.0,
        "holds": right == len(settings),
        "settings": settings,
        **facts,
    }


def bioqwen_hours(tokens_per_s: float, peak: float) -> float:
    """Hours of both stages of BioQwen on four RTX 3090, from the tokens/s of one device of this peak in FLOP/s."""
    return BIOQWEN_TOKENS / (4 * tokens_per_s * DEVICES["rtx3090"] / peak) / 3600
