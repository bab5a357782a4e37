"""What a run leaves when it has ended: its adapter, and its result beside it."""

import json
import math
from dataclasses import asdict
from typing import Any

import torch

from medtrain.errors import TrainingError
from medtrain.storage import Store
from medtrain.train import adapter_files, attempts, tiers
from medtrain.train.loop import E, Run
from medtrain.train.payload import RESULT


def write(run: Run[E], model: Any, weights: dict[str, torch.Tensor], tokenizer: Any) -> None:
    """Write the adapter that the run ends with, and its result.

    Args:
        run: the run, at its end.
        model: its PEFT model.
        weights: the trained tensors at full shape, by the loss module's names.
        tokenizer: saved beside the adapter.

    Raises:
        GivenUp: a later attempt of the same submission has taken over.
        TrainingError: another submission has, the best step's checkpoint is gone, or the adapter reads back otherwise.
    """
    if run.saver is not None:
        attempts.check(run.store, run.saver.attempt)
    progress, best = run.progress, run.config.validation.keep == "best"
    if best and progress.best_step not in (0, progress.step):
        weights = _best_weights(run.store, progress.best_step)
    rule = run.engine.rule
    if rule is not None:
        rule.finish()
    adapter_files.write(run.store, "adapter", model, weights)
    tokenizer.save_pretrained(run.store.local("adapter"))
    kept = progress.best_step if best and progress.best_step else progress.step
    numbers = {name: value for name, value in asdict(progress).items() if not isinstance(value, tuple)}
    finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
    troubled = {name: value for name in ("skipped_ids", "lowered") if (value := getattr(progress, name))}
    result = {**finite, **troubled, "kept_step": kept, "planned_steps": run.steps}
    run.store.write(RESULT, json.dumps(result).encode())
    if run.tracker is not None:
        run.tracker.close()


def _best_weights(store: Store, step: int) -> dict[str, torch.Tensor]:
    """The weights of the checkpoint of a step, which was whole when it was written."""
    found = tiers.saved(store, step)
    if found is None:
        raise TrainingError(f"the best step's checkpoint ({step}) is gone from {store.root}; train again with --again")
    return {k.removeprefix("weight/"): t for k, t in found.state.items() if k.startswith("weight/")}
