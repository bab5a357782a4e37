#!/usr/bin/env python
"""A study: a trial tried at many settings, each chosen by what the earlier ones gave; killed, it goes on."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from collections.abc import Sequence

from medtrain import job, runtime
from medtrain.search import judging, preview
from medtrain.search.settings import StudyConfig
from medtrain.search.study import Study
from medtrain.search.tuning import launch
from medtrain.storage import Store

Job = StudyConfig


def main(argv: Sequence[str] | None = None) -> None:
    """Try settings until the budget is spent, and print the best as a command line."""
    call = job.parse(Job, Path(__file__), __doc__ or "", argv, configs=".")
    config, root = call.config, Store(call.config.storage.root)
    if call.dry_run:
        print(job.show(config), preview.plan(root, config), sep="\n")
        return
    runtime.connect()
    runtime.check_cluster(root)
    study = Study(root, config, call.policy)
    launch.run(study)
    print(preview.winner(study), flush=True)
    launch.judge(study)
    print(judging.line(study.store), flush=True)


if __name__ == "__main__":
    job.run(main)
