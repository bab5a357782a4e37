"""What to say when a device's memory or a host's is exhausted: the numbers, and what to lower, the cheapest first."""

import re

import torch

from medtrain.train.settings import TrainConfig

GIB = 2**30


def is_exhausted(error: BaseException) -> bool:
    """Whether an error is an allocation that a device or the host refused to PyTorch.

    CUDA's own refusal, of a context or pinned memory, is none: what a killed process held may be free a moment later.
    """
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)
    )


def advice(config: TrainConfig, device: torch.device, error: BaseException) -> str:
    """One message: what was refused, what the device held, and which settings hold less."""
    numbers = "; ".join(filter(None, (_refused(str(error)), _held(device))))
    known = f" ({numbers})" if numbers else ""
    return f"out of memory on {device}{known}: {'; '.join(_levers(config))}; --dry-run says what fits"


def host_advice(config: TrainConfig, *, gpu: bool) -> str:
    """One message: which settings hold less of a host's memory, in which a worker without a GPU has everything."""
    levers = [] if gpu else _levers(config)
    if config.checkpoint.memory_every_steps:
        levers.append(f"set checkpoint.memory_every_steps: 0 instead of {config.checkpoint.memory_every_steps}")
    if config.engine.offload_optimizer:
        levers.append("set engine.offload_optimizer: false")
    levers.append("lower runtime.workers, if several share a node")
    return f"out of the memory of a worker's host: {'; '.join(levers)}"


def _levers(config: TrainConfig) -> list[str]:
    """The settings with which a worker's model and batches take less."""
    batch, engine = config.batch, config.engine
    levers = [] if engine.gradient_checkpointing == "whole" else ["set engine.gradient_checkpointing: whole"]
    if batch.layout == "packed":
        anew = [f"lower batch.micro_tokens={batch.micro_tokens} (not below the longest sample)"]
    else:
        anew = [f"lower batch.micro_samples={batch.micro_samples}"] if batch.micro_samples > 1 else []
    if config.model.precision != "nf4":
        anew.append(f"set model.precision: nf4 instead of {config.model.precision}")
    anew.append("cut samples shorter (context_tokens of their tokens)")
    return [*levers, f"as a run of its own (another name, or --again) {', or '.join(anew)}"]


def _refused(text: str) -> str:
    """The size that an allocator was asked for in vain, by its error's text; empty where it says none."""
    said = re.search(r"[Tt]ried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)", text)
    if said is None:
        return ""
    size = float(said[1]) * {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": GIB}[said[2]]
    if size < 2**20:
        return "less than 1 MiB refused"
    return f"{size / GIB:,.1f} GiB refused" if size >= GIB else f"{size / 2**20:.1f} MiB refused"


def _held(device: torch.device) -> str:
    if device.type != "cuda":
        return ""
    free, total = torch.cuda.mem_get_info(device)
    peak = torch.cuda.max_memory_allocated(device)
    return f"{peak / GIB:.1f} GiB allocated at the peak, {free / GIB:.1f} of {total / GIB:.1f} GiB free"
