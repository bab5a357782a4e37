#!/usr/bin/env python
"""Raw corpora become clean records, with a ledger of every dropped row."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from collections.abc import Sequence

from medtrain import job, runtime
from medtrain.config import Config
from medtrain.data import pipeline
from medtrain.data.pipeline import DataConfig
from medtrain.data.source import size_bytes
from medtrain.runtime import RuntimeConfig
from medtrain.storage import StorageConfig, Store


class Job(Config):
    """What to make, and where."""

    storage: StorageConfig = StorageConfig()
    """Where artifacts lie."""
    runtime: RuntimeConfig = RuntimeConfig()
    """How the job meets its cluster."""
    data: DataConfig
    """The records to make."""


def resolved(root: Store, config: DataConfig) -> DataConfig:
    """The config with the demo's corpus, written now if need be, where `demo` stands for it."""
    if config.root != "demo":
        return config
    from medtrain.demo import corpus

    return config.model_copy(update={"root": str(corpus.ensure(root))})


def plan(config: DataConfig) -> str:
    """A line for each source: its units and how much there is to read."""
    lines = [f"data/{config.name} <- {config.root}"]
    for source, units in pipeline.plan(config):
        most = "all rows" if source.max_rows is None else f"at most {source.max_rows} rows"
        size = sum(size_bytes(unit) for unit in units) / 2**20
        lines.append(f"  {source.label:16} {len(units):5} unit(s) {size:10.2f} MiB  {most}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Make the artifact unless it is there, and print what is in it."""
    call = job.parse(Job, Path(__file__), __doc__ or "", argv)
    root = Store(call.config.storage.root)
    config = resolved(root, call.config.data)
    if call.dry_run:
        print(job.show(call.config), plan(config), sep="\n")
        return
    runtime.connect()
    runtime.check_cluster(root)
    made = pipeline.build(root, config, call.policy)
    for source, splits in made.facts["by_source"].items():
        print(f"  {source:16} " + ", ".join(f"{split} {rows}" for split, rows in splits.items()))
    lines = sum(made.facts["dropped"].values())
    print(f"data/{made.name}: {made.facts['rows']} rows, {lines} ledger lines; fingerprint {made.fingerprint}")


if __name__ == "__main__":
    job.run(main)
