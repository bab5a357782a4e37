"""What an expert's run takes, and how many runs a cluster has room for; no Ray here."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from medtrain.artifacts import Artifact
from medtrain.runtime import RuntimeConfig
from medtrain.tokens.shards import Samples
from medtrain.train.order import Plan
from medtrain.train.settings import TrainConfig


@dataclass(frozen=True)
class Work:
    """One expert's run and what it takes."""

    expert: str
    config: TrainConfig
    rows: int
    steps: int
    tokens: int
    """Tokens that the whole run passes through the model, by which the longest run is known."""


def work_of(tokens: Artifact, config: TrainConfig, expert: str) -> Work:
    """What a run takes, by its tokens.

    Raises:
        TrainingError: there is nothing to train on.
    """
    samples = Samples.open(tokens)
    rows = samples.select("train", config.categories)
    order = Plan(rows, samples.lengths[rows], config.batch, seed=config.seed, epochs=config.epochs)
    steps = min(order.steps, config.max_steps or order.steps)
    whole = int(samples.lengths[rows].sum()) * config.epochs
    return Work(expert, config, len(rows), steps, whole * steps // order.steps)


def slots(resources: Mapping[str, float], cluster: RuntimeConfig, *, gpu: bool) -> int:
    """How many runs fit on a cluster at once, at least one."""
    by_cpu = resources.get("CPU", 0) / (cluster.workers * cluster.cpus_per_worker)
    by_gpu = resources.get("GPU", 0) / (cluster.workers * cluster.gpus_per_worker) if gpu else math.inf
    return max(1, int(min(by_cpu, by_gpu) + 1e-9))
