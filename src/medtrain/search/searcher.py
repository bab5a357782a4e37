"""What a searcher is: it suggests settings one at a time and is told how their trials ended, in any order.

A searcher draws from its own random numbers alone, so that the same calls in the same order give the same suggestions:
a journal of the calls rebuilds it. Rules that all searchers share live here: what is tried again, what counts, and
which setting is the best.
"""

import json
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import Field

from medtrain.config import Config
from medtrain.search.rates import Array
from medtrain.search.space import Space, Values

Outcome = Literal["done", "failed", "pruned", "lost"]
"""How a trial ended: with a value; with an error, or a value that is no finite number; stopped early for others' sake;
with its node, which says nothing about its setting."""


class SearcherConfig(Config):
    """What every searcher has."""

    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the searcher's own random numbers."""
    mode: Literal["min", "max"] = "min"
    """Whether low or high values are good."""
    retries: int = Field(0, ge=0)
    """How often a failed trial is tried again; one that was lost always is. A cluster that loses trials without
    saying so wants 1; else what failed once mostly fails again, as a learning rate does that is too high."""
    pruned: Literal["value", "failed"] = "value"
    """What a trial counts as that was stopped early: its last value, which for a loss that falls is above what it
    would have reached, or a failure. Values of unequal training are compared with each other either way."""
    reevaluate: int = Field(0, ge=0)
    """After so many new values the best setting is tried once more and counts by the mean of its values, so that no
    lucky one stays the best; 0 is never. For objectives with noise."""


@dataclass(frozen=True)
class Suggestion:
    """A setting to try; `repeat` tells its tries apart, for a trial that must draw other random numbers."""

    id: int
    values: Values
    repeat: int = 0
    afresh: bool = False
    """Its trial has failed, and is to be run once more all the same."""


@dataclass(frozen=True)
class Best:
    """A setting, its value (the mean where it was tried more than once), and how many values that is of."""

    values: Values
    value: float
    tries: int = 1


class Searcher(ABC):
    """One search. Not for two threads.

    Args:
        config: the searcher's settings.
        space: what varies.
        base: the config that suggestions override; a search may begin at its values.
    """

    def __init__(self, config: SearcherConfig, space: Space, base: Mapping[str, Any]):
        self.config, self.space, self.base = config, space, base
        self.finished = ""
        """Why there are no more suggestions; empty while there may be."""
        self.told = 0
        """How many outcomes counted."""
        self._made = 0
        self._again: deque[Suggestion] = deque()
        self._out: dict[int, Suggestion] = {}
        self._failures: dict[int, int] = {}
        self._repeated: set[int] = set()
        self._repeats: dict[str, int] = {}
        self._tried: dict[str, tuple[Values, list[tuple[int | None, float]]]] = {}
        self._since_repeat = 0
        self._afresh: set[int] = set()
        """Suggestions of settings that failed, which a searcher makes to have them run once more."""

    def ask(self) -> Suggestion | None:
        """A setting to try; None if there is none now, or if the search is `finished`."""
        if self._again:
            suggestion = self._again.popleft()
        elif self.finished or (made := self._make()) is None:
            return None
        else:
            suggestion = made
        self._out[suggestion.id] = suggestion
        return suggestion

    def tell(self, id: int, outcome: Outcome, value: float | None = None) -> bool:
        """How a trial ended, and its value; a second outcome of a suggestion that is not out is left unread.

        Returns:
            Whether that was its end; else it is suggested again.

        Raises:
            ValueError: there was no such suggestion.
            TrainingError: so many trials failed that the search cannot go on.
        """
        if not 0 <= id < self._made:
            raise ValueError(f"suggestion {id}: was never made")
        suggestion = self._out.pop(id, None)
        if suggestion is None:
            return True
        counted = self._counted(outcome, value)
        if counted is None and (outcome == "lost" or self._failures.get(id, 0) < self.config.retries):
            self._failures[id] = self._failures.get(id, 0) + (outcome != "lost")
            self._again.append(suggestion)
            return False
        self.told += 1
        if counted is not None:
            self._keep(suggestion.values, counted, suggestion.repeat)
        if id in self._repeated:
            self._since_repeat = 0
        else:
            self._since_repeat += counted is not None
            self._learn(id, counted)
        if not self.finished and not self._out and not self._again:
            self.finished = self._over()
        return True

    def handed(self, id: int, values: Values, repeat: int) -> None:
        """Let a suggestion that is out be the one that was handed out, where this machine rounds otherwise."""
        self._out[id] = replace(self._out[id], values=values, repeat=repeat)

    def add(self, values: Values, outcome: Outcome, value: float | None = None, counts: bool = True) -> None:
        """A trial of another search in the same space.

        Args:
            values: its setting.
            outcome: how it ended.
            value: its value.
            counts: whether it may be the best; else it only teaches, as its value is of something else.

        Raises:
            ConfigError: the setting is not one of this space.
        """
        point, counted = self.space.point(values), self._counted(outcome, value)
        if outcome == "lost":
            return
        if counted is not None and counts:
            self._keep(self.space.values(point), counted)
        self._learn_other(point, counted)

    @property
    def best(self) -> Best | None:
        """The best setting yet."""
        return next(iter(self.ranked), None)

    @property
    def ranked(self) -> list[Best]:
        """Every setting that has a value, the best first."""
        sign = 1.0 if self.config.mode == "min" else -1.0
        tried = [(values, [value for _, value in seen]) for values, seen in self._tried.values()]
        found = [Best(values, sum(seen) / len(seen), len(seen)) for values, seen in tried]
        return sorted(found, key=lambda best: sign * best.value)

    @property
    def recommended(self) -> Values | None:
        """The setting to go on with."""
        return self.best.values if self.best else None

    @property
    def shape(self) -> tuple[Array, Array] | None:
        """Mean, (d,), and covariance, (d, d), of what is suggested, in the space's coordinates; None without one."""
        return None

    @property
    def out(self) -> tuple[Suggestion, ...]:
        """Suggestions that have no outcome yet."""
        return tuple(self._out.values())

    @abstractmethod
    def _suggest(self, id: int) -> Values | None:
        """The setting of a new suggestion; None if there is none now, and `finished` if there is none any more."""

    def _over(self) -> str:
        """Why there are no more suggestions, asked when every suggestion has an outcome; empty while there are."""
        return ""

    @abstractmethod
    def _learn(self, id: int, value: float | None) -> None:
        """A suggestion's value, None for one that failed for good."""

    @abstractmethod
    def _learn_other(self, point: tuple[float, ...], value: float | None) -> None:
        """The value of another search's trial, None for one that failed."""

    def _make(self) -> Suggestion | None:
        repeats = self.config.reevaluate
        if repeats and self._since_repeat >= repeats and (best := self.best) is not None:
            self._since_repeat = 0
            self._repeated.add(self._made)
            key = setting(best.values)  # counted as they are made: another may be out, and one that fails has no value
            self._repeats[key] = max(self._repeats.get(key, 0) + 1, best.tries)
            suggestion = Suggestion(self._made, best.values, self._repeats[key])
        else:
            values = self._suggest(self._made)
            if values is None:
                return None
            suggestion = Suggestion(self._made, values, afresh=self._made in self._afresh)
        self._made += 1
        return suggestion

    def _counted(self, outcome: Outcome, value: float | None) -> float | None:
        """The value that an outcome counts with, None if it is a failure."""
        if outcome in ("failed", "lost") or (outcome == "pruned" and self.config.pruned == "failed"):
            return None
        return float(value) if value is not None and math.isfinite(value) else None

    def _keep(self, values: Values, value: float, repeat: int | None = None) -> None:
        """Remember a value; the same one of the same repeat is the same run, told twice."""
        seen = self._tried.setdefault(setting(values), (values, []))[1]
        if (repeat, value) not in seen:
            seen.append((repeat, value))


def setting(values: Values) -> str:
    """A setting's name: equal settings have one."""
    return json.dumps(values, sort_keys=True)
