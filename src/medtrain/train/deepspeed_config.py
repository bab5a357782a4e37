"""DeepSpeed's configuration as one pure function."""

from typing import Any, Literal

from medtrain.config import Config, knob


class EngineConfig(Config):
    """How the step is computed; none of it changes what is computed."""

    zero_stage: Literal[0, 1, 2, 3] = knob(1)
    """What ranks shard: nothing, optimizer state (1), gradients too (2), weights too (3)."""
    gradient_checkpointing: bool = knob(False)
    """Recompute activations in the backward pass: less memory, about a third more time."""
    bucket_elements: int = knob(50_000_000, gt=0)
    """Elements that are reduced at once."""


def deepspeed_config(engine: EngineConfig, clip: float, world_size: int) -> dict[str, Any]:
    """The dictionary for `deepspeed.initialize`.

    Accumulation is ours (a step's number of micro-batches varies), so DeepSpeed counts one; adapters are float32 and
    `bf16` is off: the base computes in bfloat16 by itself, and a bfloat16 adapter would lose small updates.

    Args:
        engine: ZeRO stage and buckets.
        clip: largest global gradient norm, 0 for none.
        world_size: workers in the group.
    """
    zero: dict[str, Any] = {
        "stage": engine.zero_stage,
        "reduce_bucket_size": engine.bucket_elements,
        "allgather_bucket_size": engine.bucket_elements,
        "overlap_comm": False,
        "contiguous_gradients": engine.zero_stage >= 2,
    }
    if engine.zero_stage == 3:
        zero |= {"stage3_param_persistence_threshold": 0, "stage3_prefetch_bucket_size": engine.bucket_elements}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "train_batch_size": world_size,
        "gradient_clipping": clip,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "fp16": {"enabled": False},
        "bf16": {"enabled": False},
        "steps_per_print": 1_000_000_000,
        "wall_clock_breakdown": False,
    }
