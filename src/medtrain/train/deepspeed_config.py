"""DeepSpeed's configuration as one pure function."""

from typing import Any, Literal

from pydantic import model_validator

from medtrain.config import Config, knob


class EngineConfig(Config):
    """How the step is computed; none of it changes what is computed."""

    zero_stage: Literal[0, 1, 2, 3] = knob(1)
    """What ranks shard: nothing, optimizer state (1), gradients too (2), weights too (3)."""
    gradient_checkpointing: Literal["none", "selective", "whole"] = knob("none")
    """Layers whose activations are recomputed in the backward pass: every second one for a quarter more operations, or
    all for half as many more (the base is frozen, so that its backward pass is one product a weight)."""
    offload_optimizer: bool = knob(False)
    """Keep float32 masters and moments in the host's memory (ZeRO 1-3), and make the optimizer's step there."""
    bucket_elements: int = knob(50_000_000, gt=0)
    """Elements that are reduced at once."""
    deterministic: bool = knob(False)
    """On GPUs, the slower kernels whose sums have one order: a run is then the same again, bit for bit, on the same
    devices. CPUs need it not."""
    time_communication: bool = knob(False)
    """Log the seconds in collectives too; on a GPU each of them then waits for the device, which costs speed."""

    @model_validator(mode="after")
    def _sharded_where_offloaded(self) -> "EngineConfig":
        if self.offload_optimizer and self.zero_stage == 0:
            raise ValueError("offload_optimizer=true: ZeRO-0 has no masters to keep elsewhere; set zero_stage: 1")
        return self


def deepspeed_config(engine: EngineConfig, clip: float, world_size: int, *, gpu: bool = False) -> dict[str, Any]:
    """The dictionary for `deepspeed.initialize`.

    Accumulation is ours (a step's number of micro-batches varies), so DeepSpeed counts one; adapters are float32 and
    `bf16` is off: the base computes in bfloat16 by itself, and a bfloat16 adapter would lose small updates.

    Args:
        engine: ZeRO stage and buckets.
        clip: largest global gradient norm, 0 for none.
        world_size: workers in the group.
        gpu: whether they train on GPUs, which read pinned memory faster.
    """
    zero: dict[str, Any] = {
        "stage": engine.zero_stage,
        "reduce_bucket_size": engine.bucket_elements,
        "allgather_bucket_size": engine.bucket_elements,
        "overlap_comm": False,
        "contiguous_gradients": engine.zero_stage >= 2,
    }
    if engine.offload_optimizer:
        zero |= {"offload_optimizer": {"device": "cpu", "pin_memory": gpu}}
    if engine.zero_stage == 3:
        zero |= {"stage3_param_persistence_threshold": 0, "stage3_prefetch_bucket_size": engine.bucket_elements}
    # DeepSpeed logs, and waits at every collective, wherever the key is there, whatever its `enabled` says.
    timed = {"comms_logger": {"enabled": True, "verbose": False, "prof_all": True, "debug": False}}
    return (timed if engine.time_communication else {}) | {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "train_batch_size": world_size,
        "gradient_clipping": clip,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # PyTorch's AdamW, which needs no compiler, wherever the masters lie
        "fp16": {"enabled": False},
        "bf16": {"enabled": False},
        "steps_per_print": 1_000_000_000,
        "timers": {"throughput": {"enabled": False}},  # it would wait for the device before every micro-batch
        "wall_clock_breakdown": False,
    }
