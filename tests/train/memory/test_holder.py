"""What a node keeps, and which state of those offered a run goes on from."""

import pytest

from medtrain.train.memory.holder import Holder, Offer, usable

FILES = ({"a": b"x"}, {"a": "digest"})


def test_the_newest_two_are_kept() -> None:
    holder = Holder()
    for step in (4, 8, 12):
        assert holder.put(Offer(step, 1, 0), FILES)
    assert [offer.step for offer in holder.offers()] == [8, 12]
    assert holder.get(Offer(12, 1, 0)) == FILES and holder.get(Offer(4, 1, 0)) is None


def test_the_newest_best_is_kept_beside_them() -> None:
    """Storage may not have its weights yet, and later states are of no use without them."""
    holder = Holder()
    for step, best in ((4, 4), (8, 8), (12, 8), (16, 8), (20, 8)):
        holder.put(Offer(step, 1, best), FILES)
    assert [offer.step for offer in holder.offers()] == [8, 16, 20]


def test_a_later_attempt_goes_back_in_steps_and_an_earlier_one_is_refused() -> None:
    holder = Holder()
    holder.put(Offer(12, 1, 0), FILES)
    assert holder.put(Offer(8, 2, 0), FILES) and holder.put(Offer(10, 2, 0), FILES)
    assert not holder.put(Offer(16, 1, 0), FILES)
    assert holder.offers() == [Offer(8, 2, 0), Offer(10, 2, 0)]


@pytest.mark.parametrize(
    ("offers", "durable", "needs_best", "wanted"),
    [
        ([], {5}, True, None),
        ([Offer(4, 1, 0), Offer(8, 1, 0)], set(), True, 8),
        ([Offer(4, 1, 0)], {4}, True, None),  # storage is as far: it is the safer one
        ([Offer(8, 1, 6)], {4}, True, None),  # the best step's weights were never saved
        ([Offer(8, 1, 6)], {4, 6}, True, 8),
        ([Offer(8, 1, 6)], {4}, False, 8),
        ([Offer(7, 1, 0), Offer(8, 1, 8)], {4}, True, 7),
    ],
)
def test_the_newest_usable_state_beyond_storage_is_taken(
    offers: list[Offer], durable: set[int], needs_best: bool, wanted: int | None
) -> None:
    found = usable(offers, durable, needs_best)
    assert (None if found is None else found.step) == wanted
