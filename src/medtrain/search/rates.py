"""The constants of CMA-ES (Hansen 2016, arXiv:1604.00772, table 1) for a number of ranked points."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Rates:
    """`weights` (n,), the best point's first, of which the positive ones add up to 1; `chi` is the expected length
    of a standard normal vector, (d,); the rest as in the paper."""

    weights: Array
    mu_eff: float
    c_sigma: float
    damping: float
    c_c: float
    c_1: float
    c_mu: float
    chi: float


def rates(dimension: int, count: int, faster: tuple[float, float] = (1.0, 1.0)) -> Rates:
    """Constants for `count` points, with the rates of the covariance, for the path and for the points, times `faster`.

    Raises:
        ValueError: fewer than two points have no order.
    """
    if count < 2:
        raise ValueError(f"count={count}: two points at least")
    raw = math.log((count + 1) / 2) - np.log(np.arange(1, count + 1))
    good, bad = raw[raw > 0], raw[raw <= 0]
    mu_eff = float(good.sum() ** 2 / (good**2).sum())
    mu_bad = float(bad.sum() ** 2 / (bad**2).sum()) if bad.any() else 0.0
    d = dimension
    c_sigma = (mu_eff + 2) / (d + mu_eff + 3)
    c_1 = 2 / ((d + 1.3) ** 2 + mu_eff)
    c_mu = min(1 - c_1, 2 * (0.25 + mu_eff + 1 / mu_eff - 2) / ((d + 2) ** 2 + mu_eff))
    # Faster, but never so that the old matrix counts for nothing.
    c_1, c_mu = c_1 * faster[0], c_mu * faster[1]
    c_1, c_mu = (rate * min(1.0, 0.9 / (c_1 + c_mu)) for rate in (c_1, c_mu))
    most_bad = min(1 + c_1 / c_mu, 1 + 2 * mu_bad / (mu_eff + 2), (1 - c_1 - c_mu) / (d * c_mu))
    weights = np.where(raw > 0, raw / good.sum(), most_bad * raw / max(-bad.sum(), 1e-300))
    return Rates(
        weights=weights,
        mu_eff=mu_eff,
        c_sigma=c_sigma,
        damping=1 + 2 * max(0.0, math.sqrt((mu_eff - 1) / (d + 1)) - 1) + c_sigma,
        c_c=(4 + mu_eff / d) / (d + 4 + 2 * mu_eff / d),
        c_1=c_1,
        c_mu=c_mu,
        chi=math.sqrt(2) * math.exp(math.lgamma((d + 1) / 2) - math.lgamma(d / 2)),
    )
