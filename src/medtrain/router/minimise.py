"""A search of `Evolution` to its end: a generation is one batch of candidates; the state is kept when it is told."""

from collections.abc import Callable, Sequence
from typing import Any

from medtrain.evolution import Evolution, EvolutionConfig
from medtrain.router.gate import Array
from medtrain.router.methods import Given, spread

Points = Sequence[Sequence[float]]


def minimise(
    config: EvolutionConfig,
    space: Any,
    values: Callable[[Points], list[float]],
    weights: Callable[[Sequence[float]], Array],
    given: Given,
) -> Evolution:
    """Search, or go on from the state that was given.

    Args:
        config: the search.
        space: what its coordinates stand for; a state of another space is refused.
        values: the values of a generation, low ones are good.
        weights: the weights that a point stands for.
        given: where state and numbers go.

    Raises:
        IdentityMismatch: the state is of another search.
        TrainingError: too few candidates of a generation have a value.
    """
    search = Evolution.resume(config, given.state, space) if given.state else Evolution(config, space)
    while not search.finished:
        points = list(iter(search.next, None))
        closed = [
            search.record(point.id, value)
            for point, value in zip(points, values([point.x for point in points]), strict=True)
        ]
        if closed[-1]:
            told = [value for value in search.told[-1] if value is not None]
            metrics = {"value": min(told), "sigma": search.sigma, **spread(weights(search.mean))}
            given.log(metrics, len(search.told))
        given.save(search.state())
    return search
