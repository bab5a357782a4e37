"""AdaLoRA (Zhang et al., ICLR 2023): E, the singular values, are pruned to a budget while the adapter trains.

PEFT gives the layers; the allocation is `train/allocator.py`, because PEFT's does not survive DeepSpeed or a restart.
"""

from typing import Any, Literal

import torch
from pydantic import Field, model_validator

from medtrain import config as base
from medtrain.train.allocator import Allocator, Budget


class Config(base.Config):
    """An AdaLoRA adapter; STAF-LLM's experts by default."""

    kind: Literal["adalora"] = "adalora"
    """This plug-in's name."""
    init_rank: int = Field(12, ge=2)
    """Rank that every matrix begins with: A (r, in), E (r, 1), B (out, r)."""
    target_rank: int = Field(4, ge=1)
    """Mean rank over all matrices at the end of the budget phase."""
    alpha: float = Field(32, gt=0)
    """Scale: the update is alpha / (init_rank + 1e-5) * B (E * A). The paper gives none; PEFT's example has 32."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout on the adapter's input."""
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj")
    """Six matrices of a layer. The paper's W_f1 and W_f2 are taken as up_proj and down_proj."""
    orthogonality: float = Field(0.5, ge=0)
    """Weight of the regulariser that keeps the rows of A and the columns of B orthogonal."""
    orth_form: Literal["mean_frobenius", "squared_sum"] = "mean_frobenius"
    """The mean of ||P P^T - I||_F as in the released code, or the sum of its squares as in STAF-LLM's (A.2)."""
    importance: Literal["ema", "raw"] = "ema"
    """|w * gradient| smoothed and times its uncertainty (AdaLoRA), or as it is (STAF-LLM's appendix)."""
    beta1: float = Field(0.85, gt=0, lt=1)
    """Smoothing of the importance."""
    beta2: float = Field(0.85, gt=0, lt=1)
    """Smoothing of its uncertainty."""
    gradients: Literal["after_clipping", "before_clipping"] = "after_clipping"
    """Which gradients importance is computed from."""
    schedule: Literal["literal", "scaled"] = "literal"
    """tinit, tfinal and delta_t as they stand here, or by the length of the run: a tenth, a half, a hundredth."""
    schedule_reading: Literal["tail", "step"] = "tail"
    """Literal: tfinal is the number of last steps with a frozen pattern (PEFT), or the step that the budget phase ends
    at (STAF-LLM's Algorithm 1)."""
    tinit: int = Field(200, ge=0)
    """Literal: steps before the budget phase."""
    tfinal: int = Field(1000, ge=0)
    """Literal: see `schedule_reading`."""
    delta_t: int = Field(10, ge=1)
    """Literal: steps between two allocations."""

    @model_validator(mode="after")
    def _something_to_prune(self) -> "Config":
        if self.target_rank >= self.init_rank:
            raise ValueError(
                f"target_rank={self.target_rank} is not below init_rank={self.init_rank}: nothing would be pruned; "
                "lower it, or take kind: lora"
            )
        return self


def attach(model: torch.nn.Module, config: Config, seed: int) -> Any:
    """The model with a fresh adapter in float32; only the adapter is trainable.

    A and B are drawn from the seed, E is 0, so that the first output is the base's.
    """
    import peft

    adalora = peft.AdaLoraConfig(
        init_r=config.init_rank,
        target_r=config.target_rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=list(config.target_modules),
        beta1=config.beta1,
        beta2=config.beta2,
        orth_reg_weight=config.orthogonality,
        total_step=1,  # demanded; the run's own schedule is written when the adapter is saved
        bias="none",
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(seed)
    attached: Any = peft.get_peft_model(model, adalora, autocast_adapter_dtype=True)
    for name, parameter in attached.named_parameters():
        if ".ranknum." in name:  # the divisor, to which PEFT gives a gradient where it casts: on bf16 and 4-bit bases
            parameter.requires_grad_(False)
    return attached


def refusal(config: Config, zero_stage: int, keep: str, patience: int) -> str:
    """Why an engine or a choice of weights does not go with this adapter; empty where it does."""
    if zero_stage == 3:
        return (
            "adapter.kind=adalora with engine.zero_stage=3: whole matrices must be weighed and no rank has one; "
            "set engine.zero_stage to 0, 1 or 2"
        )
    if keep == "best":
        return (
            "adapter.kind=adalora with validation.keep=best: weights from before the end of the budget phase have "
            "too high a rank; set validation.keep: last"
        )
    if patience:
        return (
            f"adapter.kind=adalora with validation.patience={patience}: a run that stops before the end of the budget "
            "phase has too high a rank; set validation.patience: 0"
        )
    return ""


def rule(config: Config, model: Any, steps: int) -> Allocator:
    """What allocates the rank of an attached model in a run of `steps` optimizer steps.

    Raises:
        ConfigError: the run is too short for the schedule; the message has the arithmetic.
    """
    matrices = sum(".lora_E." in name for name, _ in model.named_parameters())
    return Allocator(config, model, budget(config, matrices, steps))


def budget(config: Config, matrices: int, steps: int) -> Budget:
    """The schedule of a run of `steps` optimizer steps over so many matrices.

    Raises:
        ConfigError: as in `rule`.
    """
    if config.schedule == "scaled":
        tinit, tail, every = steps // 10, steps // 2, max(1, steps // 100)
    else:
        tinit, every = config.tinit, config.delta_t
        tail = config.tfinal if config.schedule_reading == "tail" else steps - config.tfinal
    return Budget.checked(
        steps=steps,
        tinit=tinit,
        tail=tail,
        every=every,
        initial=config.init_rank * matrices,
        target=config.target_rank * matrices,
    )


def check_length(config: Config, steps: int) -> None:
    """See before anything is loaded that a run is long enough.

    Raises:
        ConfigError: as in `rule`.
    """
    budget(config, 1, steps)
