"""A trial that sleeps, for a time that its setting alone decides, and is a sphere."""

import math
import time
from typing import Any, Literal

from medtrain.artifacts import Identity
from medtrain.config import override
from medtrain.search.trials import Report, TrialConfig
from medtrain.storage import Store


class Config(TrialConfig):
    """Settings of these trials."""

    kind: Literal["asleep"] = "asleep"
    """This kind's name."""
    shortest_s: float = 1.0
    """The least time."""
    longest_s: float = 10.0
    """The most; times between are equally likely."""


BASE = {"x": 0.5, "y": 0.5}


def base(config: Config, root: Store) -> dict[str, Any]:
    """Where overrides apply."""
    return dict(BASE)


def identity(config: Config, root: Store, overrides: list[str]) -> Identity:
    """The setting alone."""
    return Identity(override(BASE, overrides), {}, "")


def command(config: Config, overrides: list[str]) -> str:
    """No program has it."""
    return " ".join(["asleep", *overrides])


class Trials:
    """Sleeping trials."""

    def __init__(self, config: Config, root: Store, cpus: float, gpu: bool):
        self._config = config

    def run(self, folder: Store, overrides: list[str], report: Report) -> dict[str, Any]:
        """Sleep, then the sphere."""
        at, given = override(BASE, overrides), self._config
        share = math.modf(1e4 * (at["x"] + math.pi * at["y"]))[0]
        time.sleep(given.shortest_s + share * (given.longest_s - given.shortest_s))
        return {"loss": (at["x"] - 0.3) ** 2 + (at["y"] - 0.7) ** 2}
