#!/usr/bin/env python
"""The whole chain, job after job; killed and called again it goes on from the last whole artifact."""

import importlib
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from collections.abc import Sequence

from medtrain.config import Config
from medtrain.errors import ConfigError
from medtrain.job import parse, run
from medtrain.storage import StorageConfig

JOBS = ("prepare_data", "build_tokens", "stage1", "stage2", "evaluate_model", "predict")


class Step(Config):
    """One job of the chain."""

    job: str
    """A job's file name without .py."""
    config: str
    """A YAML file, or the name of one in jobs/configs/<job>."""
    settings: tuple[str, ...] = ()
    """Overrides for this job, each section.field=value."""
    renewed: bool = True
    """Whether the pipeline's --again makes this job's artifact again."""


class Job(Config):
    """A chain of jobs over one storage root."""

    storage: StorageConfig = StorageConfig()
    steps: tuple[Step, ...]
    """The jobs in their order."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run every step in this process and its cluster; whole artifacts are read back."""
    call = parse(Job, Path(__file__), "Run the whole chain: data, tokens, stage 1, stage 2, evaluation.", argv)
    wrong = [step.job for step in call.config.steps if step.job not in JOBS]
    if wrong:
        raise ConfigError(f"steps: there is no job {wrong[0]!r}; there are: {', '.join(JOBS)}")
    for number, step in enumerate(call.config.steps, 1):
        print(f"\n=== {number}/{len(call.config.steps)} {step.job} ({step.config})", flush=True)
        arguments = ["--config", step.config, f"storage.root={call.config.storage.root}", *step.settings]
        arguments += ["--dry-run"] if call.dry_run else []
        arguments += ["--again"] if call.policy.again and step.renewed else []
        arguments += ["--keep-stale"] if call.policy.keep_stale else []
        began = time.monotonic()
        importlib.import_module(step.job).main(arguments)
        print(f"=== {step.job}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    run(main)
