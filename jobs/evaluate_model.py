#!/usr/bin/env python
"""Some systems answer the same held-out rows; scores with intervals, paired differences, and an HTML report."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from collections.abc import Sequence

from medtrain import job, runtime
from medtrain.config import Config
from medtrain.errors import MissingArtifact
from medtrain.evaluate import harness
from medtrain.evaluate.harness import EvaluationConfig
from medtrain.runtime import RuntimeConfig
from medtrain.storage import StorageConfig, Store


class Job(Config):
    """One evaluation."""

    storage: StorageConfig = StorageConfig()
    """Where artifacts lie."""
    runtime: RuntimeConfig = RuntimeConfig()
    """How the job meets its cluster."""
    evaluation: EvaluationConfig
    """What is evaluated, and how."""


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate as the command line says and print the table.

    Raises:
        MedtrainError: a setting is wrong, or an input is missing.
    """
    called = job.parse(Job, Path(__file__), __doc__ or "", argv)
    store, settings = Store(called.config.storage.root), called.config.evaluation
    if called.dry_run:
        print(job.show(called.config))
    try:
        planned = harness.plan(store, settings)
    except MissingArtifact as error:
        if not called.dry_run:
            raise
        print(f"evaluations/{settings.name}: cannot be planned yet: {error}")
        return
    if called.dry_run:
        print(planned.describe())
        return
    runtime.connect()
    runtime.check_cluster(store)
    made = harness.evaluate(store, planned, called.policy, called.config.runtime)
    print("\n".join(harness.result_lines(made)), flush=True)


if __name__ == "__main__":
    job.run(main)
