"""The trainable state whole, in and out of an engine of any ZeRO stage: weights and both AdamW moments.

DeepSpeed keeps the moments in partitions of flat buffers (stages 1-3) or in the optimizer itself (stage 0). Here they
are tensors by parameter name, so that a state loads on any number of workers and any stage.
"""

from typing import Any

import torch

MOMENTS = ("exp_avg", "exp_avg_sq")
State = dict[str, torch.Tensor]
"""`weight/<name>`, `exp_avg/<name>`, `exp_avg_sq/<name>` -> float32 tensor of the parameter's full shape, on the host.
bitsandbytes' optimizers have names and types of their own for the moments: `state1/<name>`, `absmax1/<name>`."""


def trainable(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def on_host(tensor: torch.Tensor, key: str, room: State | None = None) -> torch.Tensor:
    """A copy on the host, in the memory of `room`'s tensor of this key where it fits.

    Fresh memory costs a page fault for every few KiB of it, on a virtual machine twice.
    """
    spare = (room or {}).get(key)
    if spare is None or (spare.shape, spare.dtype) != (tensor.shape, tensor.dtype):
        return tensor.detach().to("cpu", copy=True)
    return spare.copy_(tensor.detach())


def room_for(parameters: dict[str, torch.nn.Parameter], optimizer: str) -> State:
    """Memory on the host for the first state of parameters, touched before their first step.

    Of the moments of AdamW alone: those of bitsandbytes have sizes of their own.
    """
    moments = MOMENTS if optimizer == "adamw" else ()
    shapes = {name: getattr(parameter, "ds_shape", parameter.shape) for name, parameter in parameters.items()}
    keys = [(f"{kind}/{name}", shape) for kind in ("weight", *moments) for name, shape in shapes.items()]
    return {key: torch.zeros(shape) for key, shape in keys}


def weights(module: torch.nn.Module, room: State | None = None) -> State:
    """Every trained tensor at full shape on the host, in the memory of an earlier `State`; collective under ZeRO-3."""
    from deepspeed.runtime.zero import GatheredParameters

    gathered: State = {}
    for name, parameter in trainable(module).items():
        with GatheredParameters([parameter], enabled=hasattr(parameter, "ds_id")):
            gathered[name] = on_host(parameter.float(), f"weight/{name}", room)
    return gathered


def gather(engine: Any, room: State | None = None) -> State:
    """The whole trainable state of an engine that has made at least one step; collective on all ranks.

    Args:
        engine: DeepSpeed's.
        room: an earlier state that nobody needs any more; its memory is filled anew.
    """
    from deepspeed.utils import safe_get_full_optimizer_state

    stage = engine.zero_optimization_stage()
    if stage in (1, 2):
        _link_moments(engine.optimizer)
    state = {f"weight/{name}": tensor for name, tensor in weights(engine.module, room).items()}
    if stage == 0:
        return state | moments(engine.optimizer, trainable(engine.module), room)
    for name, parameter in trainable(engine.module).items():
        held = {moment: safe_get_full_optimizer_state(parameter, moment) for moment in MOMENTS}
        state |= {f"{key}/{name}": on_host(value, f"{key}/{name}", room) for key, value in held.items()}
    return state


def moments(
    optimizer: torch.optim.Optimizer, parameters: dict[str, torch.nn.Parameter], room: State | None = None
) -> State:
    """The moments that an optimizer outside DeepSpeed keeps of parameters, by their names; `room` as in `gather`."""
    state: State = {}
    for name, parameter in parameters.items():
        held = {k: v for k, v in optimizer.state[parameter].items() if k != "step" and torch.is_tensor(v)}
        state |= {f"{key}/{name}": on_host(value, f"{key}/{name}", room) for key, value in held.items()}
    return state


def set_weights(module: torch.nn.Module, state: State) -> None:
    """Put a state's weights into a module that is not yet wrapped by an engine."""
    for name, parameter in trainable(module).items():
        parameter.data.copy_(state[f"weight/{name}"])


def set_moments(engine: Any, state: State, steps: int) -> None:
    """Give a fresh engine the moments of a state, as if its optimizer had made `steps` steps."""
    from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

    stage = engine.zero_optimization_stage()
    if stage == 0:
        set_optimizer(engine.optimizer, trainable(engine.module), state, steps)
        return
    adamw = engine.optimizer.optimizer
    for tensor in _optimizer_tensors(engine, adamw, stage):
        adamw.state[tensor] = {
            "step": torch.tensor(float(steps)),
            **{moment: torch.zeros_like(tensor) for moment in MOMENTS},
        }
    if stage in (1, 2):
        _link_moments(engine.optimizer)
    for name, parameter in trainable(engine.module).items():
        for moment in MOMENTS:
            value = state[f"{moment}/{name}"].to(parameter.device)
            if stage == 3:  # DeepSpeed's setter of whole tensors fails where the ranks do not divide them evenly
                rank = torch.distributed.get_rank(parameter.ds_process_group)
                safe_set_local_optimizer_state(parameter, partition(value, rank, parameter.ds_tensor.numel()), moment)
            else:
                safe_set_full_optimizer_state(parameter, value, moment)


def partition(value: torch.Tensor, rank: int, size: int) -> torch.Tensor:
    """A rank's elements (size,) of a tensor that ZeRO-3 shares out; zeros follow where the tensor has ended."""
    mine = value.flatten()[rank * size : (rank + 1) * size]
    return torch.nn.functional.pad(mine, (0, size - len(mine)))


def set_optimizer(
    optimizer: torch.optim.Optimizer, parameters: dict[str, torch.nn.Parameter], state: State, steps: int
) -> None:
    """Give a fresh optimizer outside DeepSpeed the moments of a state, as if it had made `steps` steps."""
    if not isinstance(optimizer, torch.optim.AdamW):
        _set_bitsandbytes(optimizer, parameters, state, steps)
        return
    for name, parameter in parameters.items():
        held = {moment: state[f"{moment}/{name}"].to(parameter.device, copy=True) for moment in MOMENTS}
        device = parameter.device if optimizer.defaults["fused"] else "cpu"  # where PyTorch wants the counter
        optimizer.state[parameter] = {"step": torch.tensor(float(steps), device=device), **held}


def _link_moments(optimizer: Any) -> None:
    """Let DeepSpeed find each parameter's moments in the flat ones of ZeRO-1 and 2.

    It does so once by itself, after the first group's first step, when those of a second group are not there yet.
    """
    optimizer._hp_optimizer_states_linked = False
    optimizer._lazy_init_hp_params_optimizer_state()


def _set_bitsandbytes(optimizer: Any, parameters: dict[str, torch.nn.Parameter], state: State, steps: int) -> None:
    """Make the buffers as the optimizer's first step would, and fill them."""
    names = {parameter: name for name, parameter in parameters.items()}
    for number, group in enumerate(optimizer.param_groups):
        for place, parameter in enumerate(group["params"]):
            optimizer.init_state(group, parameter, number, place)
            held = optimizer.state[parameter]
            held["step"] = steps
            for key in [key for key, value in held.items() if torch.is_tensor(value)]:
                held[key].copy_(state[f"{key}/{names[parameter]}"])


def _optimizer_tensors(engine: Any, adamw: torch.optim.Optimizer, stage: int) -> list[torch.Tensor]:
    """The tensors that the wrapped AdamW keeps state for on this rank."""
    if stage == 3:
        return list(engine.optimizer.fp32_partitioned_groups_flat)
    return [tensor for group in adamw.param_groups for tensor in group["params"]]
