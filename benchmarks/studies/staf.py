#!/usr/bin/env python
"""STAF-LLM's findings on twelve open corpora and the tiny base: what a router over experts is worth, and when.

Three libraries of other seeds, one of experts that were taught other rows' answers, and routers over them; all of them
artifacts, so that a killed study goes on where it was. Losses are those of held-out rows, in nats per trained token;
what their intervals are over is in `verdict.py`. `make study-staf` runs it.
"""

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "src"), str(HERE.parent)]

import ray
import yaml

from medtrain import artifacts, runtime
from medtrain.artifacts import Artifact, Policy
from medtrain.config import parse
from medtrain.data import pipeline as data
from medtrain.data.pipeline import DataConfig
from medtrain.experts import launch as experts
from medtrain.experts.plan import Plan
from medtrain.router import launch as router
from medtrain.router import plan as routing
from medtrain.router import report
from medtrain.router.plan import RoutingPlan
from medtrain.runtime import RuntimeConfig
from medtrain.storage import StorageConfig, Store
from medtrain.tokens import pipeline as tokens
from medtrain.tokens.config import TokensConfig
from studies import verdict

OPEN12 = HERE.parents[1] / "jobs/configs/train_experts/open12.yaml"
SEEDS, ORDERS, SIZES = (1, 2, 3), 10, (1, 3, 6, 12)
CORES = 2
SEEN = ("bc5cdr_ner", "chemprot", "hoc", "pubmedqa", "meqsum", "disease_attributes")
SWEPT = ("hoc", "meqsum")
UNSEEN: dict[str, dict[str, Any]] = {
    "ddi_entities": {"source": "ddi2013", "task": "ner", "path": "ddi2013/DDICorpus-2013.zip"},
    "cmedqa2": {"source": "alpaca", "path": "cmedqa2_text/test.json", "task": "qa", "local_split": {}},
}
TRAIN: dict[str, Any] = {
    "max_steps": 200,
    "epochs": 20,
    "batch": {"size": 1},
    "optimizer": {"learning_rate": 1e-3},
    "validation": {"every_steps": 50, "max_rows": 20},
}
CONTEXT_TOKENS, ROWS = 448, 1000
FIT: dict[str, Any] = {
    "model": {"compute_dtype": "float32"},
    "held_out": {"max_rows": 24},
    "shots": 24,
    "passes": {"micro_tokens": 1024, "candidates_per_pass": 2},
}
GRADIENT = {"kind": "gradient", "learning_rate": 0.3, "size": 8, "epochs": 3}
FITTED_TO_NOTHING = {"shots": 1}
VARIANTS: dict[str, dict[str, Any]] = {
    "single": {**FITTED_TO_NOTHING, "method": {"kind": "single"}},
    "average": {**FITTED_TO_NOTHING, "method": {"kind": "average"}},
    "normal": {"method": GRADIENT},
    "few-shot": {"split": "train", "shots": 32, "method": {"kind": "cmaes", "generations": 3, "population": 6}},
}
OF_CONTROL = ("average", "normal")


class Study:
    """Libraries and routers under one storage root.

    Args:
        root: the storage root.
        shared: the folder of corpora and base.
        quick: a few steps, rows and tasks, to see that it runs.
    """

    def __init__(self, root: Store, shared: Path, quick: bool):
        self._root, self._shared, self._quick = root, shared, quick
        self._cluster = RuntimeConfig(workers=1)
        self.seeds = SEEDS[:1] if quick else SEEDS

    def library(self, name: str, seed: int, *, shuffled: bool = False) -> Plan:
        """Train twelve experts, or those of the seen tasks on other rows' answers; the plan that says how."""
        given = yaml.safe_load(OPEN12.read_text())["plan"]
        given["train"] |= {**TRAIN, **({"max_steps": 6} if self._quick else {})}
        if shuffled:
            given["experts"] = {name: expert for name, expert in given["experts"].items() if name in SEEN}
        for expert in given["experts"].values():
            expert["sources"] = [self._source(item, shuffled) for item in expert["sources"]]
        base = {"path": str(self._shared / "models/tiny-base")}
        own = {"name": name, "seed": seed, "root": str(self._shared / "data"), "base": base}
        plan = parse(Plan, {**given, **own, "context_tokens": CONTEXT_TOKENS})
        inputs = experts.Inputs(lambda root, settings: str(self._shared / "models/tiny-base"), lanes=1)
        experts.train(self._root, plan, self._cluster, Policy(), inputs)
        return plan

    def _source(self, item: Mapping[str, Any], shuffled: bool) -> dict[str, Any]:
        item = {**item, "max_rows": ROWS}  # of which those that are too long fall out
        if not shuffled:
            return item
        outer = {key: item[key] for key in ("max_rows", "local_split") if key in item}
        # The control reads its corpus by absolute paths.
        paths = {key: str(self._shared / "data" / item[key]) for key in ("path", "split_ids") if key in item}
        inner = {key: value for key, value in (item | paths).items() if key not in (*outer, "path")}
        return outer | {"source": "shuffled", "name": item["source"], "path": paths["path"], "of": inner}

    def unseen(self) -> None:
        """Data and tokens of the tasks that no expert was trained for."""
        for name, source in UNSEEN.items():
            named = {"name": f"staf-{name}", "root": str(self._shared / "data"), "seed": 1}
            own = {"sources": [{**source, "max_rows": ROWS}], "holdout": {"rows": 40, "seed": 1}}
            data.build(self._root, parse(DataConfig, {**named, **own}), Policy())
            base = str(self._shared / "models/tiny-base")
            given = {"name": f"staf-{name}", "data": f"staf-{name}", "context_tokens": CONTEXT_TOKENS, "seed": 1}
            tokens.build(self._root, parse(TokensConfig, {**given, "base": {"path": base}}), base, Policy())

    def plan(
        self, name: str, library: str, tasks: Mapping[str, Any], variants: Mapping[str, Any], **fit: Any
    ) -> RoutingPlan:
        """Tasks fitted in some ways."""
        if self._quick:
            tasks = dict(list(tasks.items())[:2])
            few = {"shots": 4, "held_out": {"max_rows": 4}}
            variants = {way: {**settings, **few} for way, settings in variants.items()}
        given = {"name": f"staf-{name}", "library": library, "tasks": tasks, "variants": variants}
        return parse(RoutingPlan, {**given, "fit": {**FIT, **fit}})

    def fit(self, planned: RoutingPlan) -> list[Artifact]:
        """Fit what is missing of a plan, on one core."""
        return router.run(self._root, planned, self._cluster, Policy())

    def losses(self, planned: RoutingPlan) -> verdict.Losses:
        """Held-out losses by (task, variant) of a plan that is fitted, those of the base as `base`; and its report."""
        made = self.fit(planned)
        report.build(self._root, planned, made, Policy())
        found: verdict.Losses = {}
        for (task, variant), system in zip(routing.fits(planned), made, strict=True):
            judged = system.facts["losses"]["held out"]
            found |= {(task, variant): judged["fitted"], (task, "base"): judged["base"]}
        return found

    def leanings(self, planned: RoutingPlan, variant: str) -> dict[str, dict[str, float]]:
        """The experts' weights by task, under one variant of a plan that is fitted."""
        names = {task: f"{planned.name}-{task}-{variant}" for task in planned.tasks}
        return {task: artifacts.locate(self._root, "router", name).facts["weights"] for task, name in names.items()}

    def say(self, claims: list[dict[str, Any]], minutes: float) -> None:
        """Keep what was found, as findings.json and a table for people."""
        self._root.write("findings.json", json.dumps({"minutes": minutes, "claims": claims}, indent=1).encode())
        lines = ["| claim | mean | 95 % | |", "|---|---|---|---|"]
        lines += [
            f"| {c['claim']} | {c['mean']:+.4f} | {c['interval'][0]:+.4f} to {c['interval'][1]:+.4f} | {c['verdict']} |"
            for c in claims
        ]
        self._root.write("findings.md", "\n".join([*lines, ""]).encode())
        print(f"{minutes:.1f} minutes; findings: {self._root.root}/findings.md", flush=True)


def orders(names: Sequence[str], count: int) -> dict[str, dict[str, Any]]:
    """Variants that weigh the first few experts of random orders, or all of them, on rows of each order's own."""
    fit = {"split": "train", "shots": 8, "held_out": {"max_rows": 16}, "method": GRADIENT}
    found: dict[str, dict[str, Any]] = {}
    for number in range(count):
        order = random.Random(number).sample(list(names), len(names))
        found |= {f"k{size}-{number}": {**fit, "seed": number, "experts": order[:size]} for size in SIZES}
    return found


def main() -> None:
    """Run what is missing and print the claims, as JSON in the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/ and models/tiny-base")
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it runs")
    options = parser.parse_args()
    began = time.monotonic()
    os.environ["MEDTRAIN_PLUGINS"] = str(HERE / "plugins")
    runtime.connect()
    root = Store(StorageConfig().root).sub("staf-quick" if options.quick else "staf")
    study = Study(root, options.shared.resolve(), options.quick)
    libraries = {seed: study.library(f"staf-{seed}", seed) for seed in study.seeds}
    first = libraries[study.seeds[0]]
    control = study.library("staf-control", first.seed, shuffled=True)
    study.unseen()
    seen = {
        seed: study.plan(f"seen-{seed}", library.name, {task: {} for task in SEEN}, VARIANTS, seed=seed)
        for seed, library in libraries.items()
    }
    unseen: dict[str, Any] = {task: {"tokens": f"staf-{task}"} for task in UNSEEN}
    variants = orders(list(first.experts), 1 if options.quick else ORDERS)
    sizes = {
        group: study.plan(f"sizes-{group}", first.name, tasks, variants)
        for group, tasks in (("seen", {task: {} for task in SWEPT}), ("unseen", unseen))
    }
    few = {name: VARIANTS[name] for name in OF_CONTROL}
    theirs: dict[str, Any] = {task: {"tokens": f"{first.name}-{task}", "own": task} for task in SEEN}
    taught, dealt = (
        study.plan(name, library, theirs, few, experts=list(SEEN), seed=first.seed)
        for name, library in (("taught", first.name), ("control", control.name))
    )
    parts = [part for planned in sizes.values() for part in by_task(planned)]
    with ThreadPoolExecutor(CORES) as cores:
        list(cores.map(study.fit, [*seen.values(), *parts, taught, dealt]))
    kinds = {name: expert.category for name, expert in first.experts.items()}
    leanings = [study.leanings(planned, "normal") for planned in seen.values()]
    claims = [
        *verdict.of_variants({seed: study.losses(planned) for seed, planned in seen.items()}),
        verdict.of_weights(leanings, kinds),
        *(claim for group, planned in sizes.items() for claim in verdict.of_sizes(study.losses(planned), group)),
        *verdict.of_control(study.losses(taught), study.losses(dealt)),
        verdict.of_weights([study.leanings(dealt, "normal")], kinds, control=True),
    ]
    study.say(claims, (time.monotonic() - began) / 60)
    ray.shutdown()  # it prints what it has kept back
    print(json.dumps(claims), flush=True)


def by_task(planned: RoutingPlan) -> list[RoutingPlan]:
    """A plan's tasks one by one, to be fitted side by side."""
    return [planned.model_copy(update={"tasks": {task: given}}) for task, given in planned.tasks.items()]


if __name__ == "__main__":
    main()
