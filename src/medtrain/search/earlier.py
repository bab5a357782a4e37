"""Where a search begins that knows earlier trials: the distribution of the best of them (WS-CMA-ES, Nomura 2021)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ENOUGH, BEST_SHARE, SPREAD = 10, 0.1, 0.1
"""WS-CMA-ES: so many points at least; gamma, the share that counts as good; alpha, the deviation around each one."""


@dataclass(frozen=True)
class Earlier:
    """A point of [0, 1]^d and its value; None failed."""

    point: tuple[float, ...]
    value: float | None


@dataclass(frozen=True)
class Begin:
    """The first mean, the first deviation and a factor on it for each coordinate."""

    mean: tuple[float, ...]
    sigma: float
    scales: tuple[float, ...]


def begin_from(earlier: Sequence[Earlier], start: tuple[float, ...], sigma: float, mode: str) -> Begin:
    """The beginning that earlier trials suggest.

    From 10 values on: mean and deviations of the best tenth, each point of which stands for a normal distribution of
    deviation 0.1; never wider than `sigma`. From fewer: the best point, with `sigma`. From none: `start`.
    """
    sign = 1.0 if mode == "min" else -1.0
    ranked = sorted((sign * e.value, number) for number, e in enumerate(earlier) if e.value is not None)
    if not ranked:
        return Begin(start, sigma, (1.0,) * len(start))
    if len(ranked) < ENOUGH:
        return Begin(earlier[ranked[0][1]].point, sigma, (1.0,) * len(start))
    good = np.array([earlier[number].point for _, number in ranked[: math.ceil(BEST_SHARE * len(ranked))]])
    deviations = np.minimum(np.sqrt(good.var(axis=0) + SPREAD**2), sigma)
    whole = float(np.exp(np.log(deviations).mean()))
    return Begin(tuple(good.mean(axis=0).tolist()), whole, tuple((deviations / whole).tolist()))
