"""What a study tries: one file for each kind of trial, named by `trial.kind`.

A plug-in has `Config`, a `TrialConfig`, and

* `base(config, root)`: the config that a trial's overrides override, as JSON values;
* `identity(config, root, overrides)`: what such a trial is made from; two trials of one identity are one trial;
* `command(config, overrides)`: such a trial as a command line;
* `Trials(config, root, cpus, gpu)`: a process that runs trials one after another and may keep things in memory
  between them. `run(folder, overrides, report)` runs one, or goes on with it from what lies in `folder`, which is its
  own, and returns its numbers by name, the study's metric among them; `device` (text), `checkpoint_s` and `step_s`
  (seconds that a checkpoint and a step take) and `groups` (how often its workers were started) may stand beside them.
  It calls `report(step, numbers)` as often as it likes, without
  numbers to ask only whether to go on, and lets `Stopped` through once it has cleaned up. What it writes to
  `folder/printed.txt` outlives all else that lies there.

A plug-in may have, too,

* `named(config, root, study, number)`: overrides that are no part of the identity, such as an artifact's name;
* `paced(config, steps, overrides)`: more overrides, which write a checkpoint each so many steps, no part of the
  identity either; none where `overrides`, the trial's own, say that;
* `takes(config, root, gpu)`: what a trial reserves of the cluster by itself, outside of its process, by Ray's names;
* `estimate(config, root)`: what one trial takes, as text for `--dry-run`;
* `prune(config, root, overrides)`: delete what lies outside of `folder` of a trial that is not among the best;
* `PARTIAL = True`: what is reported on the way is of a part of the work, no value for a trial that was stopped early;
* `SHARED = True`: the root must be a folder that every node can open, no object store.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from medtrain import plugins
from medtrain.artifacts import Identity
from medtrain.config import Config, parse
from medtrain.errors import ConfigError
from medtrain.storage import Store

TREE = "MEDTRAIN_TREE"
"""Names the folder of the project, for processes that run a copy of the package alone."""
PRINTED = "printed.txt"
"""In a trial's own folder: what it has printed, for people."""
Report = Callable[[int, dict[str, float]], None]
"""Numbers of a step, counted from 1, on the way; it raises `Stopped`."""


class Stopped(Exception):
    """The trial is to end here.

    Args:
        how: `pruned` for others' sake, `failed` because it took too long, `lost` because the study leaves this process.
        why: more of it, for people.
    """

    def __init__(self, how: Literal["pruned", "failed", "lost"], why: str = ""):
        super().__init__(f"{how}: {why}")
        self.how, self.why = how, why


class TrialConfig(Config):
    """What every kind of trial has."""

    kind: str
    """The plug-in's name."""
    seed: str | None = None
    """The dotted name of the base config's seed, to which a setting that is tried again adds the number of its earlier
    tries; null where trials have no noise."""


class Trials(Protocol):
    """A process that runs trials one after another."""

    def run(self, folder: Store, overrides: list[str], report: Report) -> dict[str, Any]:
        """One trial's numbers.

        Raises:
            Stopped: as `report` did.
            Exception: the trial has failed.
        """


def validate(trial: Mapping[str, Any]) -> TrialConfig:
    """The trial's own config, by its `kind`.

    Raises:
        ConfigError: there is no such kind, or a setting is wrong.
    """
    kind: type[TrialConfig] = _module(str(trial.get("kind", ""))).Config
    return parse(kind, dict(trial))


def make(config: TrialConfig, root: Store, cpus: float, gpu: bool) -> Trials:
    """A process's trials.

    Args:
        config: by its `kind`.
        root: where artifacts lie.
        cpus: cores of this process; its libraries' threads are for the trials to set.
        gpu: whether it has one.
    """
    made: Trials = _module(config.kind).Trials(config, root, cpus, gpu)
    return made


def base(config: TrialConfig, root: Store) -> dict[str, Any]:
    """The config that overrides override, as JSON values.

    Raises:
        ConfigError: the root is an object store, and this kind needs a folder.
    """
    found: dict[str, Any] = _over(config, root).base(config, root)
    return found


def identity(config: TrialConfig, root: Store, overrides: Sequence[str]) -> Identity:
    """What a trial is made from.

    Raises:
        ConfigError: the overrides make no config, or the root is an object store and this kind needs a folder.
        MissingArtifact: an input does not exist.
    """
    found: Identity = _over(config, root).identity(config, root, list(overrides))
    return found


def command(config: TrialConfig, overrides: Sequence[str]) -> str:
    """A trial as a command line, to be run where the project lies."""
    return str(_module(config.kind).command(config, list(overrides)))


def named(config: TrialConfig, root: Store, study: str, number: str) -> list[str]:
    """Overrides that are no part of a trial's identity; `number` is its fingerprint's beginning."""
    own = getattr(_module(config.kind), "named", None)
    return list(own(config, root, study, number)) if own else []


def paced(config: TrialConfig, steps: int, overrides: Sequence[str]) -> list[str]:
    """Overrides that write a checkpoint each so many steps; none where the kind has no such setting.

    Args:
        config: by its `kind`.
        steps: how many.
        overrides: the trial's own, which win.
    """
    own = getattr(_module(config.kind), "paced", None)
    return list(own(config, steps, list(overrides))) if own else []


def is_partial(config: TrialConfig) -> bool:
    """Whether what a trial reports on the way is of a part of its work."""
    return bool(getattr(_module(config.kind), "PARTIAL", False))


def takes(config: TrialConfig, root: Store, gpu: bool) -> dict[str, float]:
    """What a trial reserves of the cluster outside of its own process; empty where it works in it.

    Args:
        config: by its `kind`.
        root: where artifacts lie.
        gpu: whether the cluster has any that trials are to use.
    """
    own = getattr(_module(config.kind), "takes", None)
    return dict(own(config, root, gpu)) if own else {}


def estimate(config: TrialConfig, root: Store) -> str:
    """What one trial takes; empty where its kind cannot say."""
    own = getattr(_module(config.kind), "estimate", None)
    return str(own(config, root)) if own else ""


def prune(config: TrialConfig, root: Store, overrides: Sequence[str]) -> None:
    """Delete what a trial that is not among the best has left outside of its folder."""
    own = getattr(_module(config.kind), "prune", None)
    if own:
        own(config, root, list(overrides))


def tree() -> Path:
    """Where the project with its jobs lies: `$MEDTRAIN_TREE`, else around this package, else the current directory."""
    given, around = os.environ.get(TREE), plugins.PACKAGE.parents[1]
    return Path(given) if given else around if (around / "jobs").is_dir() else Path.cwd()


def _over(config: TrialConfig, root: Store) -> Any:
    """The kind, of which it is certain that it can work with what lies there."""
    module = _module(config.kind)
    if getattr(module, "SHARED", False) and not root.is_local:
        raise ConfigError(
            f"storage.root={root.root}: {config.kind} trials open their files by name, and an object store has none; "
            "give an absolute path of a folder that every node shares"
        )
    return module


def _module(kind: str) -> Any:
    return plugins.load("search", "trials", kind)
