"""One process's trials, each in a thread, seen from outside as steps: a scheduler may stop a trial between two of them.

A trial waits in its report until the next step is asked for, so that no work goes past a stop.
"""

import math
import os
import queue
import threading
import time
from typing import Any, Literal

from medtrain.config import Config
from medtrain.search import trial, trials
from medtrain.search.trial import Ending, Order
from medtrain.search.trials import Report, Stopped, Trials
from medtrain.storage import Store

STEP, HOW = "step", "how"
"""Of what a step gives: how far the trial is; how it ended, and then it is the last one."""
LOOK_S, GRACE_S = 1.0, 30.0


class RunnerConfig(Config):
    """What every trial of a process has in common."""

    root: str
    """Where artifacts lie."""
    study: str
    """The study's folder, as a path or URI."""
    trial: dict[str, Any]
    """The kind of trial and its settings."""
    metric: str
    """The number that a scheduler compares."""
    stepwise: bool
    """Whether anybody wants numbers on the way."""
    cpus: float
    """Cores of this process."""
    gpu: bool
    """Whether it has one."""
    timeout_s: float | None
    """A trial that takes longer has failed."""
    tree: str
    """Where the project lies."""


class Resident:
    """A process's trials, made when the first one runs: an error in that is the trial's."""

    def __init__(self, config: RunnerConfig):
        self._config = config
        self._trials: Trials | None = None

    def run(self, folder: Store, overrides: list[str], report: Report) -> dict[str, Any]:
        """As `Trials`."""
        if self._trials is None:
            given = self._config
            self._trials = trials.make(trials.validate(given.trial), Store(given.root), given.cpus, given.gpu)
        return self._trials.run(folder, overrides, report)


class Runner:
    """Runs one trial after another.

    Args:
        config: what they have in common.
        node: where this is.
    """

    def __init__(self, config: RunnerConfig, node: str):
        self._config, self._node = config, node
        self._resident, self._study = Resident(config), Store(config.study)
        self._thread: threading.Thread | None = None
        self._order: Order | None = None
        self._stop: Stopped | None = None
        os.environ.setdefault(trials.TREE, config.tree)

    @property
    def working(self) -> bool:
        """Whether a trial runs."""
        return self._thread is not None and self._thread.is_alive()

    def begin(self, order: Order) -> None:
        """Begin a trial; one that still runs is stopped first."""
        self.stop()
        self._order, self._stop = order, None
        self._steps: queue.Queue[dict[str, Any]] = queue.Queue()
        self._go = threading.Event()
        self._until = math.inf if self._config.timeout_s is None else time.monotonic() + self._config.timeout_s
        self._thread = threading.Thread(target=self._work, args=(order,), name=f"trial {order.number}", daemon=True)
        self._thread.start()

    def step(self) -> dict[str, Any]:
        """The next numbers that the trial reports, or how it ended."""
        assert self._order is not None
        self._go.set()
        while True:
            try:
                return self._steps.get(timeout=min(LOOK_S, max(0.01, self._until - time.monotonic())))
            except queue.Empty:
                if time.monotonic() > self._until:
                    return self._give_up()

    def stop(self, how: Literal["pruned", "failed", "lost"] = "lost", why: str = "") -> None:
        """Stop the trial, and wait until it has cleaned up; one that does not takes the process with it."""
        if self._thread is None:
            return
        self._stop = Stopped(how, why)
        self._go.set()
        self._thread.join(GRACE_S)
        if self._thread.is_alive() and self._order is not None:
            trial.end(self._study, self._order.number, how, f"{why}; it did not stop within {GRACE_S:g} s")
            os._exit(1)
        self._thread = None

    def _give_up(self) -> dict[str, Any]:
        self.stop("failed", f"it took longer than study.timeout_s={self._config.timeout_s:g}")
        return self._steps.get_nowait()

    def _work(self, order: Order) -> None:
        try:
            ending = trial.run(self._resident, self._study, order, self._node, self._report)
        except Exception as error:  # storage, not the trial: whoever waits for it must hear of that too
            ending = Ending("lost", error=f"{type(error).__name__}: {error}")
        self._steps.put({HOW: ending.how, "why": ending.error})

    def _report(self, step: int, numbers: dict[str, float]) -> None:
        if self._stop is not None:
            raise self._stop
        value = numbers.get(self._config.metric)
        if not self._config.stepwise or value is None or not math.isfinite(value):
            return
        assert self._order is not None
        self._go.clear()
        self._steps.put({STEP: step, self._config.metric: float(value)})
        while not self._go.wait(LOOK_S):
            if not trial.runs(self._study, self._order.number):
                raise Stopped("pruned", "others are better")
        if self._stop is not None:
            raise self._stop
