#!/usr/bin/env python
"""Claim: CMA-ES that keeps every slot busy is at its target in 0.65 of the time that generations take.

A simulated clock: 8 slots, trials of 1 to 10 hours, the time drawn for each trial by its number, the optimum at random
in the middle 0.8 of each range. Ours is the searcher `cmaes` as it is; its peer is the same searcher by generations, of
max(default, slots) points so that no slot is without one; both begin again with twice the population where they have
converged (IPOP). The time of a cell is the median over seeds of the time to the first point whose value, noise apart,
is at the target. A second, early target, a thousandth of a random point's value, is for Optuna's CMA-ES and random
search too, which are stopped after 400 trials and count as if they had reached it then.
"""

import argparse
import heapq
import itertools
import json
import math
import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "src"), str(Path(__file__).resolve().parent)]

import numpy as np

from medtrain.errors import ConfigError
from medtrain.search import searchers
from medtrain.search.space import Space

SLOTS, SIDE, NOISE, EARLY, PATIENCE, MOST = 8, 10.0, 0.1, 1e-3, 400, 100_000
TIME_BAR, WORST_BAR, EVALUATIONS_BAR = 0.65, 0.95, 1.7
Vector = Any


def sphere(x: Vector) -> float:
    """Least at 0."""
    return float(x @ x)


def ellipsoid(x: Vector) -> float:
    """Least at 0; its axes differ by a thousand."""
    return float(np.logspace(0, 6, len(x)) @ x**2)


def rosenbrock(x: Vector) -> float:
    """Least at 0, in a narrow bent valley."""
    z = x + 1
    return float((100 * (z[:-1] ** 2 - z[1:]) ** 2 + (z[:-1] - 1) ** 2).sum())


def rastrigin(x: Vector) -> float:
    """Least at 0 among ten local ones in each coordinate."""
    return float((x**2 + 10 - 10 * np.cos(2 * np.pi * x)).sum())


@dataclass(frozen=True)
class Problem:
    """A function of [0, 1]^d, ten wide; `target` is for each coordinate where `each`."""

    name: str
    function: Callable[[Vector], float]
    target: float
    each: bool = False
    noise: float = 0.0


PROBLEMS = (
    Problem("sphere", sphere, 1e-8),
    Problem("ellipsoid", ellipsoid, 1e-8),
    Problem("rosenbrock", rosenbrock, 1e-8),
    Problem("rastrigin", rastrigin, 1.0, each=True),  # one valley off in each coordinate
    Problem("noisy sphere", sphere, 0.01, each=True, noise=NOISE),
)
TIMES: dict[str, Callable[[float], float]] = {"uniform": lambda u: 1 + 9 * u, "log-uniform": lambda u: 10**u}


@dataclass(frozen=True)
class Cell:
    """One problem, dimension, seed, and what trial times are drawn from."""

    problem: Problem
    dimension: int
    seed: int
    times: str

    def drawn(self, what: int) -> np.random.Generator:
        """Random numbers of one kind: 0 the optimum, 1 times, 2 noise, 3 points; the same for every contestant."""
        return np.random.default_rng([what, self.dimension, self.seed, *self.problem.name.encode()])

    @property
    def optimum(self) -> Vector:
        """Where the least value is, (d,)."""
        return 0.1 + 0.8 * self.drawn(0).random(self.dimension)

    @property
    def target(self) -> float:
        """The value to reach."""
        return self.problem.target * (self.dimension if self.problem.each else 1)

    @property
    def early(self) -> float:
        """A thousandth of a random point's value."""
        points = SIDE * (self.drawn(3).random((1000, self.dimension)) - self.optimum)
        return max(self.target, EARLY * statistics.median(self.problem.function(point) for point in points))


@dataclass(frozen=True)
class Reached:
    """Hours and trials to the early target and to the target; None where it was given up."""

    early: tuple[float, int] | None
    target: tuple[float, int] | None


def race(searcher: dict[str, Any], cell: Cell, patience: int, wanted: float) -> Reached:
    """Trials of a searcher on 8 slots until a value is at `wanted`."""
    d = cell.dimension
    space = Space({f"x{i}": {"low": 0.0, "high": 1.0} for i in range(d)})
    search = searchers.make({**searcher, "seed": cell.seed + 1}, space, {})
    times, noise, optimum, early_target = cell.drawn(1), cell.drawn(2), cell.optimum, cell.early
    running: list[tuple[float, int, Vector]] = []
    now, trials, early = 0.0, 0, None
    while True:
        while len(running) < SLOTS and (made := search.ask()) is not None:
            took = TIMES[cell.times](float(times.random()))
            heapq.heappush(running, (now + took, made.id, SIDE * (np.array(list(made.values.values())) - optimum)))
        if not running or trials == patience:
            return Reached(early, None)
        now, id, x = heapq.heappop(running)
        trials += 1
        value = cell.problem.function(x)
        if early is None and value <= early_target:
            early = (now, trials)
        if value <= wanted:
            return Reached(early, (now, trials))
        search.tell(id, "done", value + cell.problem.noise * float(noise.standard_normal()))


def ours() -> dict[str, Any]:
    """The searcher as it is."""
    return {"kind": "cmaes", "restarts": 9}


def generational(dimension: int) -> dict[str, Any]:
    """Its peer."""
    population = max(4 + int(3 * math.log(dimension)), SLOTS)
    return {"kind": "cmaes", "timing": "generational", "restarts": 9, "population": population}


def median(found: list[tuple[float, int] | None], what: int) -> float:
    """Median hours (0) or trials (1); given up is infinity."""
    return statistics.median(math.inf if pair is None else pair[what] for pair in found)


def geometric(numbers: list[float]) -> float:
    """Their geometric mean."""
    return math.exp(statistics.fmean(math.log(number) for number in numbers))


def to_target(times: str, dimensions: list[int], seeds: int) -> list[dict[str, Any]]:
    """Claims of time, worst cell and evaluations against generations."""
    ratios: dict[str, tuple[float, float]] = {}
    hours: list[tuple[float, float]] = []
    for problem, d in itertools.product(PROBLEMS, dimensions):
        cells = [Cell(problem, d, seed, times) for seed in range(seeds)]
        mine = [race(ours(), cell, MOST, cell.target).target for cell in cells]
        theirs = [race(generational(d), cell, MOST, cell.target).target for cell in cells]
        hours.append((median(mine, 0), median(theirs, 0)))
        ratios[f"{problem.name} d{d}"] = (hours[-1][0] / hours[-1][1], median(mine, 1) / median(theirs, 1))
        time, evaluations = ratios[f"{problem.name} d{d}"]
        print(f"{times:12}{problem.name:13} d={d:<3} time {time:.2f}, evaluations {evaluations:.2f}", flush=True)
    time, evaluations = (geometric([pair[at] for pair in ratios.values()]) for at in (0, 1))
    worst = max(ratios, key=lambda name: ratios[name][0])
    most = max(ratios, key=lambda name: ratios[name][1])
    mine_h, theirs_h = (geometric([pair[at] for pair in hours]) for at in (0, 1))
    what = f"{times} trial times, {len(ratios)} cells, {seeds} seeds"
    return [
        claim(f"hours to target against generations, {what}", (mine_h, theirs_h), time, TIME_BAR)
        | {"cells": {name: round(pair[0], 3) for name, pair in ratios.items()}},
        claim(f"the worst cell of these, {worst}", (ratios[worst][0], 1.0), ratios[worst][0], WORST_BAR),
        claim(f"evaluations to target, {what}", (evaluations, 1.0), evaluations, EVALUATIONS_BAR)
        | {"most": f"{most}: {ratios[most][1]:.2f}"},
    ]


def early(kind: dict[str, Any], name: str, dimensions: list[int], seeds: int) -> dict[str, Any]:
    """The report of another searcher at the early target."""
    found, gave_up, runs = [], 0, 0
    for problem, d in itertools.product(PROBLEMS, dimensions):
        cells = [Cell(problem, d, seed, "uniform") for seed in range(seeds)]
        mine = [race(ours(), cell, MOST, cell.early).early for cell in cells]
        try:
            theirs = [race(kind, cell, PATIENCE, cell.early).early for cell in cells]
        except ConfigError as error:
            return claim(f"{name}: {error}", (0.0, 0.0), 1.0, None)
        lost = [pair is None for pair in theirs]
        gave_up, runs = gave_up + sum(lost), runs + len(lost)
        limit = PATIENCE * 5.5 / SLOTS
        found.append((median(mine, 0), statistics.median(limit if pair is None else pair[0] for pair in theirs)))
    mine_h, theirs_h = (geometric([pair[at] for pair in found]) for at in (0, 1))
    what = f"hours to the early target against {name}, {seeds} seeds"
    return claim(what, (mine_h, theirs_h), mine_h / theirs_h, None) | {"gave_up": f"{gave_up} of {runs}"}


def claim(what: str, pair: tuple[float, float], share: float, bar: float | None) -> dict[str, Any]:
    """One line of the result; `share` is ours / peer, as the bar is, and the ratios printed are peer / ours."""
    return {
        "claim": what,
        "ours": round(pair[0], 3),
        "peer": round(pair[1], 3),
        "ratio": round(1 / share, 4),
        "bar": None if bar is None else round(1 / bar, 4),
        "holds": bar is None or share <= bar,
        "device": f"simulated; CPU, {os.cpu_count()} cores",
        "versions": {name: found for name in ("cma", "numpy", "optuna", "cmaes") if (found := installed(name))},
    }


def installed(name: str) -> str | None:
    """A package's version."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def main() -> None:
    """Run every contest and print the results as JSON in the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two dimensions, three seeds")
    parser.add_argument("--seeds", type=int, default=15)
    options = parser.parse_args()
    dimensions, seeds = ([2], 3) if options.quick else ([2, 5, 10], options.seeds)
    results = [result for times in TIMES for result in to_target(times, dimensions, seeds)]
    few = min(seeds, 5)
    results.append(early({"kind": "optuna", "sampler": "cmaes"}, "Optuna's CmaEsSampler", dimensions, few))
    results.append(early({"kind": "random"}, "random search", dimensions, few))
    results.append(
        early({"kind": "cmaes", "timing": "generational"}, "generations of the default size", dimensions, few)
    )
    print(json.dumps(results), flush=True)


if __name__ == "__main__":
    main()
