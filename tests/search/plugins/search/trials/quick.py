"""A trial of no time: a sphere with its least value at (0.3, 0.7), which writes down when it begins and ends."""

import math
import os
import time
from pathlib import Path
from typing import Any, Literal

from medtrain.artifacts import Identity
from medtrain.config import override
from medtrain.search.trials import Report, TrialConfig
from medtrain.storage import Store

TROUBLES = ("nan", "inf", "error", "timeout", "lost")


class Config(TrialConfig):
    """Settings of these trials."""

    kind: Literal["quick"] = "quick"
    """This kind's name."""
    log: str = ""
    """A file for lines `begin x y`, `end x y`."""
    seconds: float = 0.0
    """How long a trial takes."""
    spread: float = 0.0
    """How much longer some take, by their setting."""
    steps: int = 1
    """How often it reports on the way."""
    trouble: float = 0.0
    """Share of settings with which something goes wrong."""
    checkpoint_s: float = 0.0
    """What it says that a checkpoint takes; its workers were started three times then."""
    troubles: tuple[str, ...] = TROUBLES
    """What does, each as likely."""


BASE = {"x": 0.5, "y": 0.5, "seed": 0, "every": 1}


def base(config: Config, root: Store) -> dict[str, Any]:
    """Where overrides apply."""
    return dict(BASE)


def identity(config: Config, root: Store, overrides: list[str]) -> Identity:
    """The setting alone."""
    return Identity(override(BASE, overrides), {}, "")


def command(config: Config, overrides: list[str]) -> str:
    """No program has it."""
    return " ".join(["quick", *overrides])


def paced(config: Config, steps: int, overrides: list[str]) -> list[str]:
    """It writes none; a test looks whether it is told."""
    return [f"every={steps}"]


class Trials:
    """Trials of no time."""

    def __init__(self, config: Config, root: Store, cpus: float, gpu: bool):
        self._config = config

    def run(self, folder: Store, overrides: list[str], report: Report) -> dict[str, Any]:
        """The sphere, or a trouble that the setting alone decides; lost is only who comes for the first time."""
        at, given = override(BASE, overrides), self._config
        x, y = at["x"], at["y"]
        self._say(f"begin {x!r} {y!r}")
        loss, draw = (x - 0.3) ** 2 + (y - 0.7) ** 2, math.modf(1e4 * (x + math.pi * y))[0]
        for step in range(1, given.steps + 1):
            time.sleep((given.seconds + given.spread * math.modf(1e3 * x)[0]) / given.steps)
            report(step, {"loss": loss + 1 / step})
        if draw < given.trouble:
            trouble = given.troubles[int(draw / given.trouble * len(given.troubles))]
            if trouble in ("nan", "inf"):
                return {"loss": float(trouble)}
            if trouble == "error":
                raise RuntimeError("no room")
            while trouble == "timeout":
                time.sleep(0.05)
                report(given.steps, {})
            if trouble == "lost" and not folder.exists("seen"):
                folder.write("seen", b"")
                os._exit(1)
        self._say(f"end {x!r} {y!r}")
        said = {"checkpoint_s": given.checkpoint_s, "step_s": 0.5, "groups": 3} if given.checkpoint_s else {}
        return {"loss": loss, "device": "none", **said}

    def _say(self, line: str) -> None:
        if self._config.log:
            with Path(self._config.log).open("a", encoding="utf-8") as stream:
                stream.write(f"{line}\n")
