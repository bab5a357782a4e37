"""AdamW on the router's numbers over shuffled examples (STAF-LLM's normal setting)."""

import math
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from medtrain import config as base
from medtrain.config import knob
from medtrain.errors import TrainingError
from medtrain.router.methods import Fitted, Given, State, Work, spread
from medtrain.train.order import Plan

MERGE = "cat"


class Config(base.Config):
    """How the router's numbers descend; the paper gives none of this."""

    kind: Literal["gradient"] = "gradient"
    """This plug-in's name."""
    learning_rate: float = Field(default=0.05, gt=0, allow_inf_nan=False)
    """Rate of AdamW, about the change of a number in one step; logits, before they are divided by tau."""
    epochs: int = Field(default=3, ge=1)
    """How often each example is seen."""
    size: int = Field(default=16, ge=1)
    """Examples of a step."""
    save_every_steps: int = knob(10, ge=1)
    """How many steps a kill costs at most."""


def fit(config: Config, given: Given) -> Fitted:
    """Descend from equal weights; a step's examples are a function of the seed and the step alone.

    Raises:
        TrainingError: a loss is no number.
    """
    objective, problem = given.objective, given.objective.problem
    batch = problem.config.batch.model_copy(update={"size": config.size})
    rows = np.arange(len(problem.lengths))
    plan = Plan(rows, problem.lengths, batch, seed=given.seed, epochs=config.epochs)
    x = torch.zeros(objective.gate.size, dtype=torch.float64, requires_grad=True)
    adamw = torch.optim.AdamW([x], lr=config.learning_rate, weight_decay=0.0)
    done = _restore(x, adamw, given.state) if given.state else 0
    for step in range(done, plan.steps):
        chosen = [row for micro_batch in plan.at(step) for row in micro_batch.rows]
        value, gradient = objective.value_and_gradient(x.tolist(), chosen)
        if not (math.isfinite(value) and np.isfinite(gradient).all()):
            raise TrainingError(
                f"method gradient: step {step + 1} has the loss {value}, or a gradient that is no number; lower "
                "method.learning_rate, or see whether an expert alone gives numbers (method.kind: single)"
            )
        x.grad = torch.from_numpy(gradient)
        adamw.step()
        given.log({"value": value, **spread(objective.weights(x.tolist()))}, step + 1)
        if (step + 1) % config.save_every_steps == 0:
            given.save(_state(x, adamw, step + 1))
    return Fitted(objective.weights(x.tolist()), {"steps": plan.steps, "x": x.tolist()})


def work(config: Config, shape: tuple[int, ...], rows: int) -> Work:
    """Every example in each epoch."""
    return Work(steps=config.epochs * math.ceil(rows / config.size), descents=config.epochs)


def _state(x: torch.Tensor, adamw: torch.optim.Optimizer, step: int) -> State:
    moments = adamw.state[x]
    return {"step": step, "x": x.tolist(), **{name: moments[name].tolist() for name in ("exp_avg", "exp_avg_sq")}}


def _restore(x: torch.Tensor, adamw: torch.optim.Optimizer, state: State) -> int:
    """Put a saved state back; the steps that it has behind it."""
    x.data = torch.tensor(state["x"], dtype=torch.float64)
    moments = {name: torch.tensor(state[name], dtype=torch.float64) for name in ("exp_avg", "exp_avg_sq")}
    adamw.state[x] = {"step": torch.tensor(float(state["step"])), **moments}
    return int(state["step"])
