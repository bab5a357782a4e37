#!/usr/bin/env python
"""A study: a trial tried at many settings, each chosen by what the earlier ones gave; killed, it goes on."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from collections.abc import Sequence

from medtrain import job, runtime
from medtrain.search import live, preview
from medtrain.search.settings import StudyConfig
from medtrain.search.study import Study
from medtrain.search.tuning import launch
from medtrain.storage import Store

Job = StudyConfig


def main(argv: Sequence[str] | None = None) -> None:
    """Try settings until the budget is spent; print the best as a command line, and where the report is."""
    call = job.parse(Job, Path(__file__), __doc__ or "", argv, configs=".")
    config, root = call.config, Store(call.config.storage.root)
    if call.dry_run:
        print(job.show(config), preview.plan(root, config), sep="\n")
        return
    runtime.connect()
    runtime.check_cluster(root)
    study, verdict = Study(root, config, call.policy), ""
    try:
        launch.run(study)
        verdict = launch.judge(study)
    finally:  # what was found until an error, too
        page = live.page(study, verdict)
        print(preview.winner(study), *([verdict] if verdict else []), f"report: {page}", sep="\n", flush=True)


if __name__ == "__main__":
    job.run(main)
