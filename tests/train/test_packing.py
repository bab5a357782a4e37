"""Packing against brute force: every item once, no bin over its capacity, and close to the fewest bins there can be."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from medtrain.train.packing import best_fit

CAPACITY = 16
LENGTHS = st.lists(st.integers(1, CAPACITY), max_size=60)


def fewest_bins(lengths: list[int]) -> int:
    """The optimum by trying every assignment (few items only)."""
    for count in range(1, len(lengths) + 1):
        for assignment in itertools.product(range(count), repeat=len(lengths)):
            loads = [0] * count
            for item, place in enumerate(assignment):
                loads[place] += lengths[item]
            if max(loads) <= CAPACITY:
                return count
    return 0


@settings(max_examples=200, deadline=None)
@given(LENGTHS)
def test_every_item_is_in_one_bin_and_no_bin_is_too_full(lengths: list[int]) -> None:
    bins = best_fit(lengths, CAPACITY)
    assert sorted(item for items in bins for item in items) == list(range(len(lengths)))
    assert all(items and items == sorted(items) for items in bins)
    assert all(sum(lengths[item] for item in items) <= CAPACITY for items in bins)


@settings(max_examples=200, deadline=None)
@given(LENGTHS)
def test_no_two_bins_could_be_one(lengths: list[int]) -> None:
    loads = sorted(sum(lengths[item] for item in items) for items in best_fit(lengths, CAPACITY))
    assert len(loads) < 2 or loads[0] + loads[1] > CAPACITY


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, CAPACITY), min_size=1, max_size=6))
def test_at_most_the_proven_bound_above_the_optimum(lengths: list[int]) -> None:
    """Best-fit decreasing needs at most 11/9 of the optimum and one bin (Johnson 1974)."""
    assert len(best_fit(lengths, CAPACITY)) <= 11 / 9 * fewest_bins(lengths) + 1


def test_the_tightest_bin_is_taken() -> None:
    assert best_fit([10, 12, 4, 6], 16) == [[1, 2], [0, 3]]


def test_equal_lengths_keep_their_order() -> None:
    assert best_fit([8, 8, 8, 8], 16) == [[0, 1], [2, 3]]
