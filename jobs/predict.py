#!/usr/bin/env python
"""A trained system answers a file of messages (JSON lines, JSON, Parquet), or one question: --prompt "…"."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from collections.abc import Sequence

from medtrain import job, runtime
from medtrain.config import Config
from medtrain.evaluate import predict
from medtrain.evaluate.predict import PredictConfig
from medtrain.runtime import RuntimeConfig
from medtrain.storage import StorageConfig, Store


class Job(Config):
    """One file answered by one system."""

    storage: StorageConfig = StorageConfig()
    """Where artifacts lie."""
    runtime: RuntimeConfig = RuntimeConfig()
    """How the job meets its cluster."""
    predict: PredictConfig
    """What is answered, and by which system."""


def main(argv: Sequence[str] | None = None) -> None:
    """Answer as the command line says and print where the answers lie.

    Raises:
        MedtrainError: a setting is wrong, or an input is missing.
    """
    called = job.parse(Job, Path(__file__), __doc__ or "", argv, {"prompt": "answer this one question and stop"})
    store, settings, prompt = Store(called.config.storage.root), called.config.predict, called.extra["prompt"]
    if called.dry_run:
        print(job.show(called.config))
        print("one question" if prompt is not None else predict.describe(settings))
        return
    predict.check(store, settings, prompt)
    runtime.connect()
    if prompt is not None:
        print(predict.ask(store, settings, prompt, called.config.runtime), flush=True)
        return
    runtime.check_cluster(store)
    made = predict.predict(store, settings, called.policy, called.config.runtime)
    print(f"answers: {made.store.root}/{predict.ANSWERS} ({made.facts['rows']} rows)")
    for what, rows in made.facts["dropped"].items():
        print(f"  not answered: {what}: {rows} rows; see {made.store.root}/{predict.LEDGER}")


if __name__ == "__main__":
    job.run(main)
