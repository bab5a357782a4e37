"""The search space: what may vary, by dotted config name, and its coordinates in [0, 1].

    optimizer.learning_rate: {low: 1e-5, high: 1e-3, log: true}
    adapter.rank: {low: 4, high: 64, step: 4, int: true}
    adapter.kind: {choices: [lora, adalora]}
    batch.size: {fixed: 64}

A range has one coordinate, linear or logarithmic. Its grid (`int` without `log`, or `step`) makes equal cells of that
coordinate; with `int` and `log` together the value is rounded. Choices have a coordinate each, and the highest wins.
"""

import builtins
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Discriminator, Field, FiniteFloat, Tag, model_validator

from medtrain.config import Config, fingerprint, parse
from medtrain.errors import ConfigError

Values = dict[str, Any]
"""A setting of every parameter of a space, by dotted config name."""
NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*")


class Range(Config):
    """Numbers between two ends, both of which can be reached."""

    low: FiniteFloat
    """The lowest value."""
    high: FiniteFloat
    """The highest value."""
    log: bool = False
    """Whether equal ratios, not equal differences, are equally far apart."""
    int: bool = False
    """Whether only whole numbers are meant."""
    step: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Only low, low + step, low + 2 step ... are meant."""

    @model_validator(mode="after")
    def _is_a_range(self) -> "Range":
        if not self.low < self.high:
            raise ValueError(f"low={self.low} is not below high={self.high}; for one value write {{fixed: value}}")
        if self.log and self.low <= 0:
            raise ValueError(f"low={self.low} has no logarithm; give a low above 0 or leave log out")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other; leave one out, or list the values as choices")
        if self.int and any(number != round(number) for number in (self.low, self.high, self.step or 1.0)):
            raise ValueError("int wants whole numbers for low, high and step")
        if self.step is not None and not math.isclose(self._steps, round(self._steps), rel_tol=0, abs_tol=1e-6):
            raise ValueError(f"high is not a whole number of steps of {self.step} above low; move one of them")
        return self

    @property
    def _steps(self) -> float:
        return (self.high - self.low) / (self.step or 1.0)

    @property
    def cells(self) -> builtins.int | None:
        """How many values there are on an even grid; none where there is no such grid."""
        return round(self._steps) + 1 if self.step is not None or (self.int and not self.log) else None

    def value(self, at: float) -> float | builtins.int:
        """The value at a coordinate in [0, 1]."""
        if self.cells is not None:
            found = self.low + (self.step or 1.0) * min(builtins.int(at * self.cells), self.cells - 1)
        elif self.log:
            found = math.exp(math.log(self.low) + at * (math.log(self.high) - math.log(self.low)))
        else:
            found = self.low + at * (self.high - self.low)
        found = min(max(round(found) if self.int else found, self.low), self.high)
        return builtins.int(found) if self.int else float(found)

    def coordinate(self, value: Any) -> float:
        """Where a value lies in [0, 1], in the middle of its cell.

        Raises:
            ValueError: it is no number, not within the range, or not on its grid.
        """
        if isinstance(value, bool) or not isinstance(value, builtins.int | float) or not self.low <= value <= self.high:
            raise ValueError(f"is no number from {self.low} to {self.high}")
        if self.int and value != round(value):
            raise ValueError("is no whole number")
        if self.cells is not None:
            cell = (value - self.low) / (self.step or 1.0)
            if not math.isclose(cell, round(cell), rel_tol=0, abs_tol=1e-6):
                raise ValueError(f"is no whole number of steps of {self.step} above {self.low}")
            return (round(cell) + 0.5) / self.cells
        if self.log:
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (value - self.low) / (self.high - self.low)


class Choices(Config):
    """One of several values without an order."""

    choices: tuple[Any, ...] = Field(min_length=2)
    """The values, any YAML."""

    @model_validator(mode="after")
    def _differ(self) -> "Choices":
        if len({_key(choice) for choice in self.choices}) < len(self.choices):
            raise ValueError(f"choices={list(self.choices)}: one stands twice; name each once")
        return self

    def number(self, value: Any) -> builtins.int:
        """Which of the choices a value is, counted from 0.

        Raises:
            ValueError: it is none of them.
        """
        keys = [_key(choice) for choice in self.choices]
        if _key(value) not in keys:
            raise ValueError(f"is none of the choices {list(self.choices)}")
        return keys.index(_key(value))


class Fixed(Config):
    """A value that every trial has."""

    fixed: Any
    """The value, any YAML."""


def _kind(given: Any) -> str:
    if isinstance(given, Mapping):
        return "choices" if "choices" in given else "fixed" if "fixed" in given else "range"
    return "choices" if isinstance(given, Choices) else "fixed" if isinstance(given, Fixed) else "range"


Parameter = Annotated[
    Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")] | Annotated[Fixed, Tag("fixed")],
    Discriminator(_kind),
]


class _Parameters(Config):
    space: dict[str, Parameter] = Field(min_length=1)

    @model_validator(mode="after")
    def _can_be_overridden(self) -> "_Parameters":
        for name in self.space:
            if not NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no dotted config name; write section.field")
            inside = [other for other in self.space if other.startswith(f"{name}.")]
            if inside:
                raise ValueError(f"{name!r} and {inside[0]!r} set the same place; leave one out")
        if all(isinstance(parameter, Fixed) for parameter in self.space.values()):
            raise ValueError("nothing varies; give at least one range or choices")
        return self


@dataclass(frozen=True)
class Coordinate:
    """One coordinate; `cells` equal cells where its values lie on a grid, `choice` the value it stands for."""

    name: str
    cells: int | None = None
    choice: int | None = None


class Space:
    """The parameters of a search.

    Args:
        content: dotted config name -> `{low, high[, log][, int][, step]}`, `{choices}` or `{fixed}`.

    Raises:
        ConfigError: lists every parameter that is none.
    """

    def __init__(self, content: Mapping[str, Any]):
        self.parameters = parse(_Parameters, {"space": dict(content)}).space
        self.coordinates: list[Coordinate] = []
        for name, parameter in self.parameters.items():
            if isinstance(parameter, Range):
                self.coordinates.append(Coordinate(name, parameter.cells))
            elif isinstance(parameter, Choices):
                self.coordinates += [Coordinate(name, choice=number) for number in range(len(parameter.choices))]

    @property
    def fingerprint(self) -> str:
        """Of the parameters and their order, which decides the coordinates'."""
        return fingerprint([[name, parameter.model_dump(mode="json")] for name, parameter in self.parameters.items()])

    def values(self, point: Sequence[float]) -> Values:
        """The setting at a point in [0, 1]^d, fixed parameters included."""
        by_name: dict[str, list[float]] = {}
        for coordinate, at in zip(self.coordinates, point, strict=True):
            by_name.setdefault(coordinate.name, []).append(at)
        found: Values = {}
        for name, parameter in self.parameters.items():
            if isinstance(parameter, Range):
                found[name] = parameter.value(by_name[name][0])
            elif isinstance(parameter, Choices):
                found[name] = parameter.choices[int(np.argmax(by_name[name]))]
            else:
                found[name] = parameter.fixed
        return found

    def point(self, values: Mapping[str, Any]) -> tuple[float, ...]:
        """A point whose setting this is; of a choice's coordinates the chosen one is 0.75 and the others 0.25.

        Raises:
            ConfigError: a parameter is absent, or its value is not one that the space has.
        """
        found: list[float] = []
        for name, parameter in self.parameters.items():
            if isinstance(parameter, Fixed):
                continue
            if name not in values:
                raise ConfigError(f"search space: {name} has no value among {sorted(values)}; give one")
            try:
                found += _coordinates(parameter, values[name])
            except ValueError as error:
                raise ConfigError(
                    f"search space: {name}={values[name]!r} {error}; change the value or the space"
                ) from None
        return tuple(found)

    def start(self, base: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[float, ...]:
        """Where a search begins: at `given` values, else at a base config's own, else at the centre.

        Raises:
            ConfigError: a given value is not one that the space has; a base config's may be.
        """
        unknown = sorted(given.keys() - self.parameters.keys())
        if unknown:
            raise ConfigError(f"search start: {unknown[0]!r} is no parameter of the space; take it out")
        found: list[float] = []
        for name, parameter in self.parameters.items():
            if isinstance(parameter, Fixed):
                continue
            try:
                found += _coordinates(parameter, given.get(name, look_up(base, name)))
            except ValueError as error:
                if name in given:
                    raise ConfigError(f"search start: {name}={given[name]!r} {error}; change it") from None
                found += [0.5] * (1 if isinstance(parameter, Range) else len(parameter.choices))
        return tuple(found)


def assignments(values: Mapping[str, Any]) -> list[str]:
    """A setting as overrides, `section.field=value`, that `medtrain.config.override` reads back to the last bit."""
    return [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _coordinates(parameter: Range | Choices, value: Any) -> list[float]:
    if isinstance(parameter, Range):
        return [parameter.coordinate(value)]
    chosen = parameter.number(value)
    return [0.75 if number == chosen else 0.25 for number in range(len(parameter.choices))]


def look_up(content: Any, name: str) -> Any:
    """What stands at a dotted name, list items by number; None if nothing does."""
    for key in name.split("."):
        if isinstance(content, Mapping) and key in content:
            content = content[key]
        elif isinstance(content, list) and key.isdigit() and int(key) < len(content):
            content = content[int(key)]
        else:
            return None
    return content
