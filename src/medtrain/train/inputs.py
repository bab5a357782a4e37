"""What a run reads: the rows of its tokens, their order, and those that are held out."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medtrain.artifacts import Artifact
from medtrain.errors import TrainingError
from medtrain.tokens.shards import Samples
from medtrain.train import validation
from medtrain.train.order import MicroBatch, Plan
from medtrain.train.settings import TrainConfig


@dataclass(frozen=True)
class Inputs:
    """The rows of a run."""

    samples: Samples
    rows: npt.NDArray[np.int64]
    """(N,) row numbers that are trained on."""
    plan: Plan
    steps: int
    """Optimizer steps of the whole run."""
    held_out: list[tuple[str, MicroBatch]]
    """Source and micro-batch of what the run is validated on."""

    @property
    def tokens(self) -> int:
        """Tokens that the whole run passes through the model, as far as its steps go."""
        whole = int(self.samples.lengths[self.rows].sum()) * len(self.plan.steps_in_epoch)
        return whole * self.steps // self.plan.steps


def read(tokens: Artifact, config: TrainConfig) -> Inputs:
    """Open a run's rows.

    Raises:
        TrainingError: there is nothing to train on, a category has no row, or a row is longer than a packed
            micro-batch.
    """
    samples = Samples.open(tokens)
    known = sorted(set(samples.categories))
    if unknown := sorted(set(config.categories or ()) - set(known)):
        raise TrainingError(
            f"train.categories={unknown[0]!r}: tokens/{tokens.name} has no such row; there are: {', '.join(known)}"
        )
    rows = samples.select("train", config.categories)
    plan = Plan(rows, samples.lengths[rows], config.batch, seed=config.seed, epochs=config.epochs)
    held = samples.select("validation", config.categories)
    chosen = validation.choose_rows(samples, held, config.validation.max_rows)
    return Inputs(
        samples=samples,
        rows=rows,
        plan=plan,
        steps=min(plan.steps, config.max_steps or plan.steps),
        held_out=validation.micro_batches(samples, chosen, config.batch),
    )
