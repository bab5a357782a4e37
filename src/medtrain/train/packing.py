"""Best-fit packing: many samples into few rows of a fixed capacity. Pure; lengths in, layout out."""

import bisect
from collections.abc import Sequence


def best_fit(lengths: Sequence[int], capacity_tokens: int) -> list[list[int]]:
    """Pack items into bins by best-fit decreasing; equal lengths keep their order, so the layout is deterministic.

    Args:
        lengths: tokens of each item, each at most `capacity_tokens`.
        capacity_tokens: tokens that one bin holds.

    Returns:
        Bins of positions in `lengths`, each bin in ascending order of position.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    bins: list[list[int]] = []
    free: list[tuple[int, int]] = []  # (room left, bin), sorted
    for item in order:
        length = lengths[item]
        place = bisect.bisect_left(free, (length, -1))
        if place == len(free):
            bins.append([])
            room, target = capacity_tokens, len(bins) - 1
        else:
            room, target = free.pop(place)
        bins[target].append(item)
        bisect.insort(free, (room - length, target))
    return [sorted(items) for items in bins]
