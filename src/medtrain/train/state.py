"""The trainable state whole, in and out of an engine of any ZeRO stage: weights and both AdamW moments, float32.

DeepSpeed keeps the moments in partitions of flat buffers (stages 1-3) or in the optimizer itself (stage 0). Here they
are tensors by parameter name, so that a state loads on any number of workers and any stage.
"""

from typing import Any

import torch

MOMENTS = ("exp_avg", "exp_avg_sq")
State = dict[str, torch.Tensor]
"""`weight/<name>`, `exp_avg/<name>`, `exp_avg_sq/<name>` -> tensor of the parameter's full shape, on the host."""


def trainable(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def weights(module: torch.nn.Module) -> State:
    """Every trained tensor at full shape on the host; collective under ZeRO-3."""
    from deepspeed.runtime.zero import GatheredParameters

    gathered: State = {}
    for name, parameter in trainable(module).items():
        with GatheredParameters([parameter], enabled=hasattr(parameter, "ds_id")):
            gathered[name] = parameter.detach().to("cpu", torch.float32, copy=True)
    return gathered


def gather(engine: Any) -> State:
    """The whole trainable state of an engine that has made at least one step; collective on all ranks."""
    from deepspeed.utils import safe_get_full_optimizer_state

    state = {f"weight/{name}": tensor for name, tensor in weights(engine.module).items()}
    for name, parameter in trainable(engine.module).items():
        for moment in MOMENTS:
            if engine.zero_optimization_stage() == 0:
                value = engine.optimizer.state[parameter][moment]
            else:
                value = safe_get_full_optimizer_state(parameter, moment)
            state[f"{moment}/{name}"] = value.detach().to("cpu", torch.float32, copy=True)
    return state


def set_weights(module: torch.nn.Module, state: State) -> None:
    """Put a state's weights into a module that is not yet wrapped by an engine."""
    for name, parameter in trainable(module).items():
        parameter.data.copy_(state[f"weight/{name}"])


def set_moments(engine: Any, state: State, steps: int) -> None:
    """Give a fresh engine the moments of a state, as if its optimizer had made `steps` steps."""
    from deepspeed.utils import safe_set_full_optimizer_state

    stage = engine.zero_optimization_stage()
    adamw = engine.optimizer if stage == 0 else engine.optimizer.optimizer
    for tensor in _optimizer_tensors(engine, adamw, stage):
        adamw.state[tensor] = {
            "step": torch.tensor(float(steps)),
            **{moment: torch.zeros_like(tensor) for moment in MOMENTS},
        }
    if stage in (1, 2):
        engine.optimizer._lazy_init_hp_params_optimizer_state()
    for name, parameter in trainable(engine.module).items():
        for moment in MOMENTS:
            value = state[f"{moment}/{name}"].to(parameter.device)
            if stage == 0:
                adamw.state[parameter][moment].copy_(value)
            else:
                safe_set_full_optimizer_state(parameter, value, moment)


def _optimizer_tensors(engine: Any, adamw: torch.optim.Optimizer, stage: int) -> list[torch.Tensor]:
    """The tensors that the wrapped AdamW keeps state for on this rank."""
    if stage == 3:
        return list(engine.optimizer.fp32_partitioned_groups_flat)
    return [tensor for group in adamw.param_groups for tensor in group["params"]]
