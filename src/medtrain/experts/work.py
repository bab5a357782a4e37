"""What an expert's run takes, and how many runs a cluster has room for; no Ray here."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from medtrain.artifacts import Artifact
from medtrain.errors import TrainingError
from medtrain.runtime import RuntimeConfig
from medtrain.train import inputs
from medtrain.train.payload import Payload
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
    given = inputs.read(tokens, config)
    return Work(expert, config, len(given.rows), given.steps, given.tokens)


def longest_first(works: list[Work]) -> list[Work]:
    """The order in which a list scheduler ends level; by name where two are as long."""
    return sorted(works, key=lambda item: (-item.tokens, item.expert))


def slots(resources: Mapping[str, float], cluster: RuntimeConfig, *, gpu: bool) -> int:
    """How many runs fit on a cluster at once, at least one."""
    by_cpu = resources.get("CPU", 0) / (cluster.workers * cluster.cpus_per_worker)
    by_gpu = resources.get("GPU", 0) / (cluster.workers * cluster.gpus_per_worker) if gpu else math.inf
    return max(1, int(min(by_cpu, by_gpu) + 1e-9))


def reserved(cluster: RuntimeConfig, *, gpu: bool) -> dict[str, float]:
    """What a device whose runs share a base reserves, as the options of its actor; `slots` counts the same."""
    return {"num_cpus": cluster.cpus_per_worker, **({"num_gpus": cluster.gpus_per_worker} if gpu else {})}


def check_shared(jobs: list[Payload]) -> None:
    """See that runs can share a base.

    Raises:
        TrainingError: they have other bases, or hold them otherwise.
    """
    for job in jobs[1:]:
        first = jobs[0]
        for what, one, other in (
            ("base", first.base_path, job.base_path),
            ("model", first.train.model, job.train.model),
            ("engine.gradient_checkpointing", *(j.train.engine.gradient_checkpointing for j in (first, job))),
        ):
            if one != other:
                raise TrainingError(
                    f"{job.run}: {what} is not that of {first.run}; experts on one device share a base; "
                    "set lanes: null to train each alone"
                )
