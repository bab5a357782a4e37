"""How a search's distribution moved and narrowed: its ellipses, found by doing again what its journal says."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from medtrain.search.journal import Event, Recorded
from medtrain.search.rates import Array

SAME = 1e-9
"""What differs by less, in deviations, is the same."""


@dataclass(frozen=True, eq=False)
class Ellipse:
    """A normal distribution in the space's coordinates, [0, 1]^d."""

    update: int
    """The number of changes before it; 0 is where the search began."""
    mean: Array
    """(d,), within [0, 1]."""
    covariance: Array
    """(d, d), the step size in it."""


def ellipses(recorded: Recorded) -> list[Ellipse]:
    """The distribution of a search at its beginning and after each change; none of a search that has none.

    The search is made anew and follows its own events, so that what is learned costs no evaluation.

    Args:
        recorded: the search; it stays as it is.
    """
    again, found = recorded.anew(), list[Ellipse]()

    def watched() -> Iterator[Event]:
        for event in recorded.events:
            yield event
            _keep(found, again.search.shape)  # `replay` comes back for more once it has done the event

    again.replay(watched())
    return found


def _keep(found: list[Ellipse], shape: tuple[Array, Array] | None) -> None:
    """Append a distribution that is not the last one; pycma rounds its own anew when it is asked."""
    if shape is None:
        return
    mean, covariance = shape
    if found:
        widest = float(np.diag(covariance).max())
        moved = float(np.abs(found[-1].mean - mean).max()) / widest**0.5
        turned = float(np.abs(found[-1].covariance - covariance).max()) / widest
        if max(moved, turned) < SAME:
            return
    found.append(Ellipse(len(found), mean.copy(), covariance.copy()))
