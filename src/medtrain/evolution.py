"""CMA-ES over pycma: points are handed out one by one, values come back by id, a generation is told once.

Whoever evaluates (a router's workers, trials of a search) does so in any order and at any number at a time: values are
told in the points' order, so that the same seed gives the same points. The state is a replay log, plain JSON: the seed
and the values of each generation rebuild the optimiser bit for bit, and no pickle is read.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field, FiniteFloat, model_validator

from medtrain.config import fingerprint, identity, knob
from medtrain.errors import IdentityMismatch, TrainingError
from medtrain.restarts import Kind, Restarts, Run
from medtrain.strategy import Array, Strategy, StrategyConfig

Values = list[float | None]
"""The values of a generation in the order of its points; None is one that failed for good."""


class EvolutionConfig(StrategyConfig):
    """What is searched, from where, and when to stop."""

    mode: Literal["min", "max"] = "min"
    """Whether low or high values are good."""
    failed: Literal["penalty", "median"] = "penalty"
    """A failed point counts as worse than the worst by a tenth of the spread, so that a region that always fails is
    left; or as the median, which teaches nothing."""
    needed: int | None = Field(None, ge=1)
    """So many points of a generation must have a value; none is half of them."""
    retries: int = Field(1, ge=0)
    """How often a failed point is handed out again."""
    restarts: int = Field(0, ge=0)
    """How often a search that has converged begins again with twice the population."""
    restart_kind: Kind = "ipop"
    """Whether that is all (ipop), or small runs come between, which count as no restart (bipop)."""
    restart_from: Literal["start", "best"] = "start"
    """Where it begins again."""
    max_evaluations: int | None = knob(None, ge=1)
    """No generation begins that would pass this number of points."""
    max_generations: int | None = knob(None, ge=1)
    """Stop after so many generations."""
    target: FiniteFloat | None = knob(None)
    """Stop when a value is as good as this."""

    @model_validator(mode="after")
    def _affords(self) -> "EvolutionConfig":
        if self.max_evaluations is not None and self.max_evaluations < self.first_population:
            raise ValueError(f"max_evaluations is below one generation of {self.first_population} points; raise it")
        return self


@dataclass(frozen=True)
class Point:
    """A point to evaluate; its id is its number among all points of the run."""

    id: int
    x: tuple[float, ...]


@dataclass(frozen=True)
class Best:
    """The best value yet and where it was found."""

    value: float
    x: tuple[float, ...]


@dataclass
class _Slot:
    """A point of the open generation."""

    x: tuple[float, ...]
    value: float | None = None
    failures: int = 0
    is_out: bool = False


class Evolution:
    """One search. Not for two threads.

    Args:
        config: what is searched.
        space: what the coordinates stand for, any JSON value; a log of another space is refused.
    """

    def __init__(self, config: EvolutionConfig, space: Any = None):
        self.config, self._space = config, space
        self._random = np.random.RandomState(config.seed)
        self.told: list[Values] = []
        """Values of each closed generation, as they were recorded."""
        self.finished = ""
        """Why the search is over; empty while it goes on."""
        self.best: Best | None = None
        self.restarted = 0
        """How many runs began after the first."""
        self._means: list[tuple[float, ...]] = []
        """Where each run ended that another has followed."""
        self._best_run = 0
        self._first_id = 0
        self._slots: list[_Slot] = []
        self._rescued = False
        self._stopped = ""
        self._restarts = Restarts(config.restart_kind, config.restarts, config.first_population, self._random)
        self._run, self._run_began = Run(config.first_population), 0
        self._strategy = Strategy(config, self._random, config.start, config.first_population)
        if config.tried_first:
            self._strategy.try_first(config.tried_first)

    @property
    def mean(self) -> tuple[float, ...]:
        """The centre of the run that found `best`, now or at its end: what to recommend where values are noisy."""
        return [*self._means, self._strategy.mean][self._best_run]

    @property
    def shape(self) -> tuple[Array, Array]:
        """Mean, (d,), and covariance, (d, d), of the points that are drawn."""
        return self._strategy.shape

    @property
    def sigma(self) -> float:
        """The step size, times `scales`."""
        return self._strategy.sigma

    def next(self) -> Point | None:
        """A point to evaluate; None if all are out, or if the search is `finished`."""
        if self.finished:
            return None
        if not self._slots:
            self._ask()
        for number, slot in enumerate(self._slots):
            if not slot.is_out:
                slot.is_out = True
                return Point(self._first_id + number, slot.x)
        return None

    def record(self, id: int, value: float | None) -> bool:
        """A point's value; None, NaN and infinities are failures, which are tried again `retries` times.

        A second value of a point, or one of a closed generation, is left unread.

        Returns:
            Whether this closed the generation.

        Raises:
            TrainingError: too few points of the generation have a value, though the failed ones were tried all over
                again; its log can be gone on from.
        """
        slot = self._open(id)
        if slot is None or self._is_settled(slot):
            return False
        if value is not None and math.isfinite(value):
            slot.value, slot.is_out = float(value), True
        else:
            slot.failures += 1
            slot.is_out = self._is_settled(slot)
        return all(self._is_settled(slot) for slot in self._slots) and self._close()

    def lost(self, id: int) -> None:
        """A point's evaluation was lost with its node, which is no failure: it is handed out again."""
        slot = self._open(id)
        if slot is not None and not self._is_settled(slot):
            slot.is_out = False

    def state(self) -> dict[str, Any]:
        """The replay log, JSON; whoever stores it does so after each point handed out, and each value recorded."""
        opened = {
            "points": [list(slot.x) for slot in self._slots],
            "values": [slot.value for slot in self._slots],
            "failures": [slot.failures for slot in self._slots],
            "rescued": self._rescued,
        }
        return {"made_by": self._made_by(), "told": [list(values) for values in self.told], "open": opened}

    @classmethod
    def resume(cls, config: EvolutionConfig, state: dict[str, Any], space: Any = None) -> "Evolution":
        """Go on from a log: points that were handed out and have no value are handed out again.

        Budgets and target may differ from the log's run; a generation that had failed as a whole is tried afresh.

        Raises:
            IdentityMismatch: the log is of another search, or of another version of pycma.
        """
        made = cls(config, space)
        if state["made_by"] != made._made_by():
            raise IdentityMismatch(
                f"evolution: the log was made by {state['made_by']} and this is {made._made_by()}; go on with the "
                "config, space and version of the log, or begin anew without it"
            )
        for values in state["told"]:
            made._ask()
            for slot, value in zip(made._slots, values, strict=True):
                slot.value = value
            made._tell()
        made._stop()
        if state["open"]["points"]:
            made._reopen(state["open"])
        return made

    def _made_by(self) -> dict[str, str]:
        import cma

        return {
            "pycma": str(cma.__version__),
            "fingerprint": fingerprint({"config": identity(self.config), "space": self._space}),
        }

    def _open(self, id: int) -> _Slot | None:
        if not 0 <= id < self._first_id + len(self._slots):
            raise ValueError(f"point {id}: was never handed out")
        return self._slots[id - self._first_id] if id >= self._first_id else None

    def _is_settled(self, slot: _Slot) -> bool:
        return slot.value is not None or slot.failures >= (self.config.retries + 1) * (1 + self._rescued)

    def _ask(self) -> None:
        self._slots = [_Slot(x) for x in self._strategy.ask()]

    def _close(self) -> bool:
        """Tell a settled generation, or hand its failed points out once more where too few have a value."""
        failed = [slot for slot in self._slots if slot.value is None]
        if len(self._slots) - len(failed) >= (self.config.needed or self._strategy.parents):
            self._tell()
            self._stop()
            return True
        if self._rescued:
            ids = [self._first_id + number for number, slot in enumerate(self._slots) if slot.value is None]
            raise TrainingError(
                f"evolution: {len(failed)} of {len(self._slots)} points of generation {len(self.told)} failed "
                f"{failed[0].failures} times each (points {ids}); see why they fail, then go on from the log"
            )
        self._rescued = True
        for slot in failed:
            slot.is_out = False
        return False

    def _tell(self) -> None:
        sign = 1.0 if self.config.mode == "min" else -1.0
        good = [sign * slot.value for slot in self._slots if slot.value is not None]
        worst = max(good) + 0.1 * (max(good) - min(good) or 1.0)
        instead = worst if self.config.failed == "penalty" else float(np.median(good))
        values = [instead if slot.value is None else sign * slot.value for slot in self._slots]
        self._strategy.tell(values)
        for slot in self._slots:
            if slot.value is not None and (self.best is None or sign * slot.value < sign * self.best.value):
                self.best, self._best_run = Best(slot.value, slot.x), self.restarted
        self.told.append([slot.value for slot in self._slots])
        self._first_id += len(self._slots)
        self._slots, self._rescued = [], False
        self._stopped = self._strategy.stopped
        taken = self._first_id - self._run_began
        if self._stopped or (self._run.evaluations is not None and taken >= self._run.evaluations):
            self._restart(taken)

    def _restart(self, taken: int) -> None:
        """Begin the run that follows one that took so many points, if there is one."""
        run = self._restarts.next(taken)
        if run is None:
            self._stopped = self._stopped or "restarts"
            return
        self._run, self._run_began, self._stopped = run, self._first_id, ""
        self.restarted += 1
        self._means.append(self._strategy.mean)
        mean = self.best.x if self.config.restart_from == "best" and self.best else self.config.start
        config = self.config.model_copy(update={"sigma": self.config.sigma * run.sigma_factor})
        self._strategy = Strategy(config, self._random, mean, run.population)

    def _stop(self) -> None:
        given, sign = self.config, 1.0 if self.config.mode == "min" else -1.0
        if given.target is not None and self.best and sign * self.best.value <= sign * given.target:
            self.finished = "target"
        elif self._stopped:
            self.finished = self._stopped
        elif given.max_generations is not None and len(self.told) >= given.max_generations:
            self.finished = "max_generations"
        elif given.max_evaluations is not None and self._first_id + self._strategy.population > given.max_evaluations:
            self.finished = "max_evaluations"

    def _reopen(self, opened: dict[str, Any]) -> None:
        """The generation that was open, with the points that were handed out."""
        self.finished = ""
        own, points = self._strategy.ask(), np.array(opened["points"])
        if points.shape != np.shape(own) or not np.allclose(points, own, rtol=1e-6, atol=1e-6 * self.sigma):
            raise IdentityMismatch(
                "evolution: the log's open points are not those that its values lead to; the log is damaged, or this "
                "machine computes too differently: go on where it was written, or begin anew"
            )
        self._rescued = bool(opened["rescued"])
        # What was handed out counts, to the last bit, also where this machine rounds otherwise.
        self._slots = [
            _Slot(tuple(x), value, failures)
            for x, value, failures in zip(opened["points"], opened["values"], opened["failures"], strict=True)
        ]
        if all(self._is_settled(slot) for slot in self._slots):
            self._rescued = False
            for slot in self._slots:
                slot.failures = 0
        for slot in self._slots:
            slot.is_out = self._is_settled(slot)
