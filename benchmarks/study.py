#!/usr/bin/env python
"""Claim: a study on Ray Tune keeps 0.95 of its slots' time busy with trials, of which some take ten times as long.

Real Ray Tune, real processes, 8 slots; trials sleep for 1 to 10 s (--quick: 0.3 to 3 s), by their setting. Ours is the
searcher `cmaes` as it is; the peer is the same by generations of 8, whose last trials everybody waits for. Busy is a
slot from a trial's beginning to its end as the trial's process has written them down, so what Ray Tune takes between
two trials is idle. The window is from when every slot has had a trial to when the last trial was begun.
"""

import argparse
import json
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "src"), str(Path(__file__).resolve().parent)]

from medtrain import plugins
from medtrain.artifacts import Policy
from medtrain.config import parse
from medtrain.search.settings import StudyConfig
from medtrain.search.study import Study
from medtrain.search.tuning import launch
from medtrain.storage import Store

SLOTS, BAR = 8, 0.95
SPACE = {"x": {"low": 0, "high": 1}, "y": {"low": 0, "high": 1}}


def busy(study: Study, slots: int) -> float:
    """The share of the slots' time in which trials ran."""
    spans = sorted((one.began, one.until) for known in study.past.attempts.values() for one in known)
    first, last = spans[slots - 1][0], spans[-1][0]
    used = sum(max(0.0, min(until, last) - max(began, first)) for began, until in spans)
    return used / (slots * (last - first))


def measured(root: Store, timing: str, trials: int, scale: float) -> float:
    """A study's busy share."""
    study = {
        "name": timing,
        "trial": {"kind": "asleep", "shortest_s": scale, "longest_s": 10 * scale},
        "space": SPACE,
        "searcher": {"kind": "cmaes", "timing": timing, "population": SLOTS if timing == "generational" else None},
        "metric": "loss",
        "slots": SLOTS,
        "budget": {"trials": trials},
    }
    config = {"storage": {"root": root.root}, "runtime": {"cpus_per_worker": 0.1, "use_gpu": False}, "study": study}
    made = Study(root, parse(StudyConfig, config), Policy())
    launch.run(made)
    assert len(made.told) == trials and {told.outcome for told in made.told} == {"done"}
    return busy(made, SLOTS)


def claim(ours: float, peer: float) -> dict[str, Any]:
    """The line that says whether it holds."""
    return {
        "claim": "share of 8 slots' time with a trial, trials of 1 to 10; peer: generations of 8",
        "ours": round(ours, 4),
        "peer": round(peer, 4),
        "ratio": round(ours / peer, 3),
        "bar": BAR,
        "holds": ours >= BAR,
        "device": f"{os.cpu_count()} CPU cores",
        "versions": {name: version(name) for name in ("ray", "cma", "numpy")},
    }


def main() -> None:
    """Measure both and print the claim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter trials and fewer of them")
    quick = parser.parse_args().quick
    import ray

    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    os.environ[plugins.VARIABLE] = str(Path(__file__).resolve().parent / "plugins")
    variables = {plugins.VARIABLE: os.environ[plugins.VARIABLE], "RAY_TRAIN_V2_ENABLED": "1"}
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=int(100e6),
        include_dashboard=False,
        runtime_env={"py_modules": [str(plugins.PACKAGE)], "env_vars": variables},
    )
    trials, scale = (48, 0.3) if quick else (88, 1.0)
    with tempfile.TemporaryDirectory() as folder:
        root = Store(folder)
        peer = measured(root, "generational", trials, scale)
        ours = measured(root, "asynchronous", trials, scale)
    ray.shutdown()  # it prints what it has kept back
    print(json.dumps([claim(ours, peer)]), flush=True)


if __name__ == "__main__":
    main()
