"""What to say when a device's memory is exhausted: the numbers, and what to lower, the cheapest first."""

import torch

from medtrain.train.settings import TrainConfig

GIB = 2**30


def is_exhausted(error: BaseException) -> bool:
    """Whether an error is an allocation that a device or the host refused."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)
    )


def advice(config: TrainConfig, device: torch.device) -> str:
    """One message: what the device held, and which settings hold less."""
    batch, engine = config.batch, config.engine
    levers = [] if engine.gradient_checkpointing == "whole" else ["set engine.gradient_checkpointing: whole"]
    if batch.layout == "packed":
        levers.append(f"lower batch.micro_tokens={batch.micro_tokens} (not below the longest sample)")
    elif batch.micro_samples > 1:
        levers.append(f"lower batch.micro_samples={batch.micro_samples}")
    if config.model.precision != "nf4":
        levers.append(f"set model.precision: nf4 instead of {config.model.precision}")
    levers.append("cut samples shorter (tokens.context_tokens of build_tokens)")
    return f"out of memory on {device}{_held(device)}: {'; '.join(levers)}; --dry-run says what fits"


def _held(device: torch.device) -> str:
    if device.type != "cuda":
        return ""
    free, total = torch.cuda.mem_get_info(device)
    peak = torch.cuda.max_memory_allocated(device)
    return f" ({peak / GIB:.1f} GiB allocated at the peak, {free / GIB:.1f} of {total / GIB:.1f} GiB free)"
