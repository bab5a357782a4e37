#!/usr/bin/env python
"""A library of experts becomes systems for tasks: weights by a routing method, fused to one adapter each."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from collections.abc import Sequence

from medtrain import job, runtime
from medtrain.config import Config
from medtrain.router import launch, preview, report
from medtrain.router.plan import RoutingPlan
from medtrain.runtime import RuntimeConfig
from medtrain.storage import StorageConfig, Store
from medtrain.train.command import EstimateConfig


class Job(Config):
    """Fits on a cluster."""

    storage: StorageConfig = StorageConfig()
    """Where artifacts lie."""
    runtime: RuntimeConfig = RuntimeConfig()
    """How the job meets its cluster; each of its workers holds base, experts and examples."""
    estimate: EstimateConfig = EstimateConfig()
    """For which device `--dry-run` estimates."""
    plan: RoutingPlan
    """The tasks, and the ways to fit them."""


def main(argv: Sequence[str] | None = None) -> None:
    """Fit what is not there yet, and print losses and weights."""
    call = job.parse(Job, Path(__file__), __doc__ or "", argv)
    config, root = call.config, Store(call.config.storage.root)
    if call.dry_run:
        print(job.show(config), preview.table(root, config.plan, config.estimate, config.runtime.workers), sep="\n")
        return
    runtime.connect()
    runtime.check_cluster(root)
    made = launch.run(root, config.plan, config.runtime, call.policy)
    told = report.build(root, config.plan, made, call.policy)
    print(preview.results(made), f"report: {told.store.root}/{report.REPORT}", sep="\n", flush=True)


if __name__ == "__main__":
    job.run(main)
