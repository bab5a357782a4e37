"""A trial is a fit of a router for each of some tasks; what they do not change stays in memory from trial to trial.

Trials are compared by the loss on rows that are held out from the fits (`held_out`), the mean over tasks. As that
choice is made on these rows, the winner is judged on others: what `held_out` leaves of its split.
"""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from statistics import fmean
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from medtrain import plugins, runtime
from medtrain.artifacts import Identity, code_hash
from medtrain.config import fingerprint, knob, override, parse
from medtrain.errors import ConfigError, MissingArtifact
from medtrain.router import fit, inputs, preview
from medtrain.router.gate import Array
from medtrain.router.held import Held
from medtrain.router.objective import Problem, entropy
from medtrain.router.plan import RoutingPlan, TaskConfig
from medtrain.router.plan import fits as cells
from medtrain.router.settings import FitConfig
from medtrain.router.states import States
from medtrain.search import final, verdict
from medtrain.search.trials import Report, TrialConfig
from medtrain.storage import Store
from medtrain.train.batches import trained_positions

METRIC = "selection_loss"
"""The number that trials are compared by, in nats per trained token."""
VARIANT = "tuned"
NOT_SEARCHED = ("held_out", "name", "library", "tokens", "own")
"""Trials that differ in these have losses that cannot be compared, or are other tasks."""
RESULT = "result.json"
ROOT = "storage.root="
"""What a trial's overrides may say beside its fit, for the command line."""
PARTIAL = SHARED = True
Result = dict[str, Any]
"""A task's fitted weights, places by experts, and its losses, as JSON values."""


class Config(TrialConfig):
    """Tasks and their fit, as a routing plan has them; a trial overrides `fit`, as `router.tau` or `method.size`."""

    kind: Literal["fit"] = "fit"
    """This plug-in's name."""
    name: str = knob("tuned", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """How the routers begin that the winner's command line makes."""
    library: str
    """The library artifact whose experts are weighed."""
    tasks: dict[str, TaskConfig] = Field(min_length=1)
    """The tasks by name, as in a routing plan; what one says for itself no trial overrides."""
    fit: dict[str, Any] = Field(default_factory=dict)
    """Settings of every fit; those of `router/settings.py`. Its `held_out` rows are what trials are compared on."""
    final_rows: int = Field(200, ge=1)
    """At most so many rows of a task decide whether the winner is better than the default."""

    @model_validator(mode="after")
    def _fits_are_whole(self) -> "Config":
        try:
            fits(self, [])
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self


def base(config: Config, root: Store) -> dict[str, Any]:
    """What all fits have in common, with every default.

    Raises:
        ConfigError: no row is left to judge the winner on.
    """
    with suppress(MissingArtifact):  # whoever needs it says so
        final.rows(root, fits(config, []), config.final_rows)
    return _common(config)


def fits(config: Config, overrides: Sequence[str]) -> dict[str, FitConfig]:
    """The fit of each task.

    Raises:
        ConfigError: a setting is wrong, or is none that trials may differ in.
    """
    changed = [assignment for assignment in overrides if not assignment.startswith(ROOT)]
    for assignment in changed:
        path = assignment.partition("=")[0].split(".")
        if path[0] in NOT_SEARCHED:
            raise ConfigError(
                f"override {assignment!r}: trials that differ in {path[0]} cannot be compared; take it out"
            )
        if own := [name for name, task in config.tasks.items() if _has(task.fit, path)]:
            raise ConfigError(
                f"override {assignment!r}: tasks.{own[0]}.fit has a {'.'.join(path)} of its own, which wins; drop one"
            )
    content = {
        "name": config.name,
        "library": config.library,
        "tasks": config.model_dump(mode="json")["tasks"],
        "variants": {VARIANT: {}},
        "fit": override(_common(config), changed),
    }
    return {task: found for (task, _), found in cells(parse(RoutingPlan, content)).items()}


def identity(config: Config, root: Store, overrides: Sequence[str]) -> Identity:
    """What a trial's fits are made from.

    Raises:
        ConfigError: a setting is wrong.
        MissingArtifact: library or tokens do not exist.
    """
    found = {task: fit.identity_of(root, each) for task, each in fits(config, overrides).items()}
    settings = {
        task: {name: value for name, value in known.config.items() if name != "name"} for task, known in found.items()
    }
    made_from = {name: mark for known in found.values() for name, mark in known.inputs.items()}
    own = code_hash([plugins.source_of("search", "trials", "fit")])
    return Identity(
        {"tasks": settings}, made_from, fingerprint([own, *sorted({known.code for known in found.values()})])
    )


def named(config: Config, root: Store, study: str, number: str) -> list[str]:
    """Where library and tokens lie."""
    return [f"{ROOT}{root.root}"]


def command(config: Config, overrides: Sequence[str]) -> str:
    """The command line that makes these routers."""
    tasks = {name: task.model_dump(mode="json", exclude_defaults=True) for name, task in config.tasks.items()}
    parts = {"name": config.name, "library": config.library, "tasks": tasks, "variants": {VARIANT: {}}}
    settings = [f"plan.{name}={_text(value)}" for name, value in {**parts, "fit": config.fit}.items()]
    settings += [each if each.startswith(ROOT) else f"plan.fit.{each}" for each in overrides]
    return shlex.join(["ray", "job", "submit", "jobs/fit_router.py", *settings])


def estimate(config: Config, root: Store) -> str:
    """Rows and time of one trial on one core, of the base config.

    Raises:
        MissingArtifact: an input does not exist.
    """
    given = {task: inputs.read(root, each) for task, each in fits(config, []).items()}
    seconds = sum(preview.seconds(each, "cpu-core") for each in given.values())
    rows = ", ".join(f"{task} {len(each.rows['fit'])}+{len(each.rows['held out'])}" for task, each in given.items())
    return f"one trial: {len(given)} fits, rows to fit to + to compare on: {rows}; about {seconds:,.0f} s on a CPU core"


class Trials:
    """Trials in this process, which keeps base, experts and rows.

    Args:
        config: tasks and their fit.
        root: where artifacts lie.
        cpus: cores of this process.
        gpu: whether it has one.
    """

    def __init__(self, config: Config, root: Store, cpus: float, gpu: bool):
        self._config, self._root, self._cpus = config, root, cpus
        self._held = Held(torch.device("cuda", 0) if gpu else torch.device("cpu"))

    def run(self, folder: Store, overrides: Sequence[str], report: Report) -> dict[str, Any]:
        """Fit every task, or those that are left; a step of a trial is a task.

        Args:
            folder: the trial's own, on a local disk or a shared one.
            overrides: what the trial changes.
            report: takes the mean over the tasks that are done, and is asked without numbers in between.

        Returns:
            `selection_loss`, the mean of the tasks' losses on held-out rows, in nats per trained token, and of each
            task; the same of the base and of equal weights; the weights' mean entropy, in nats.

        Raises:
            Stopped: as `report` did.
            ConfigError, TrainingError: as `router.fit.run`.
        """
        runtime.set_threads(self._cpus)
        planned = fits(self._config, overrides)
        found: dict[str, Result] = {}
        for number, (task, config) in enumerate(planned.items(), 1):
            found[task] = self._result(folder.sub(task), config, partial(report, number, {}))
            if number < len(planned):
                report(number, numbers(found))
        return {**numbers(found), "device": self._device()}

    def judge(self, folder: Store, overrides: Sequence[str], winner: Store) -> dict[str, Any]:
        """Whether a winner is better than the base config, on rows that no trial has seen.

        Args:
            folder: where the base config's own fits lie; gone on with from there.
            overrides: the winner's.
            winner: the winner's folder.

        Returns:
            A `search.verdict.Verdict` as JSON values.
        """
        runtime.set_threads(self._cpus)
        rows = final.rows(self._root, fits(self._config, []), self._config.final_rows)
        losses: dict[str, dict[str, Array]] = {}
        for name, changed, store in (("default", [], folder), ("winner", overrides, winner)):
            losses[name] = {}
            for task, config in fits(self._config, changed).items():
                weights = np.array(self._result(store.sub(task), config, lambda: None)["weights"])
                given = self._held.inputs(self._root, config)
                losses[name][task] = self._held.others(given, rows[task].samples).by_example(weights)
        measured = [
            verdict.Measured(task, document, trained, float(default), float(tuned))
            for task, at in rows.items()
            for document, trained, default, tuned in zip(
                at.documents,
                (len(trained_positions(sample)) for sample in at.samples),
                losses["default"][task],
                losses["winner"][task],
                strict=True,
            )
        ]
        return verdict.of(measured).facts

    def _result(self, store: Store, config: FitConfig, heed: Callable[[], None]) -> Result:
        """What a task's folder has, else what its fit finds."""
        if (known := _read(store)) is not None:
            return known
        given = self._held.inputs(self._root, config)
        objective = self._held.objective(given)
        with closing(States(store, config.name, fit.steps(objective, config), quiet=True)) as states:
            fitted = fit.find(given, objective, states, heed)
            problem = Problem(self._held.examples(given, "held out"), given.rows["held out"], config.passes)
            losses = fit.judged(given, problem, fitted.weights)
            result = {"experts": list(given.facts), "weights": fitted.weights.tolist(), "losses": losses}
            store.write(RESULT, json.dumps(result, indent=1, allow_nan=False).encode())
            states.forget()
        return result

    def _device(self) -> str:
        if self._held.device.type == "cuda":
            return str(torch.cuda.get_device_name(self._held.device))
        return f"CPU, {torch.get_num_threads()} thread(s)"


def numbers(found: Mapping[str, Result]) -> dict[str, float]:
    """A trial's numbers, of the tasks that are done."""
    losses = {task: result["losses"] for task, result in found.items()}
    told = {METRIC: fmean(each["fitted"] for each in losses.values())}
    told |= {f"{METRIC}/{task}": each["fitted"] for task, each in losses.items()}
    told |= {
        f"{name}_loss": fmean(each[name] for each in losses.values())
        for name in ("base", "average")
        if all(name in each for each in losses.values())
    }
    weights = [np.array(result["weights"]) for result in found.values()]
    if all((each >= 0).all() for each in weights):
        told["entropy"] = fmean(entropy(each) for each in weights)
    return told


def _common(config: Config) -> dict[str, Any]:
    named = {"name": "x", "library": "x", "tokens": "x"}
    if clash := sorted({*named, "own"} & config.fit.keys()):
        raise ConfigError(
            f"fit.{clash[0]}={config.fit[clash[0]]!r}: the trial and its tasks say that; leave it out here"
        )
    whole = parse(FitConfig, {**config.fit, **named}).model_dump(mode="json")
    return {name: value for name, value in whole.items() if name not in (*named, "own")}


def _has(content: Any, path: Sequence[str]) -> bool:
    """Whether nested settings have one at a path, or one that stands for all below or above it."""
    for key in path:
        if not isinstance(content, Mapping):
            return True
        if key not in content:
            return False
        content = content[key]
    return True


def _read(store: Store) -> Result | None:
    """A whole result; None where it is absent or was cut while it was written."""
    if not store.exists(RESULT):
        return None
    try:
        result: Result = json.loads(store.read(RESULT))
    except ValueError:
        return None
    return result


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
