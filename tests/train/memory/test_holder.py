"""What a node keeps, and which state of those offered a run goes on from."""

import numpy as np
import pytest

from medtrain.train.memory.holder import Holder, Offer, usable

FILES = ({"a": np.frombuffer(b"x", np.uint8)}, {"a": "sum"})


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
        ([], {5}, True, []),
        ([Offer(4, 1, 0), Offer(8, 1, 0)], set(), True, [8, 4]),
        ([Offer(4, 1, 0)], {4}, True, []),  # storage is as far: it is the safer one
        ([Offer(8, 1, 6)], {4}, True, []),  # the best step's weights were never saved
        ([Offer(8, 1, 6)], {4, 6}, True, [8]),
        ([Offer(8, 1, 6)], {4}, False, [8]),
        ([Offer(7, 1, 0), Offer(8, 1, 8)], {4}, True, [7]),
    ],
)
def test_the_usable_states_beyond_storage_come_newest_first(
    offers: list[Offer], durable: set[int], needs_best: bool, wanted: list[int]
) -> None:
    copies = [(offer, "node") for offer in offers]
    found = usable(copies, max(durable, default=0), lambda step: not needs_best or step == 0 or step in durable)
    assert [offer.step for offer, _ in found] == wanted


def test_each_holder_of_a_state_is_named() -> None:
    copies = [(Offer(step, 1, 0), node) for node in ("a", "b") for step in (4, 8)]
    found = usable(copies, 0, lambda step: True)
    assert [(offer.step, node) for offer, node in found] == [(8, "a"), (8, "b"), (4, "a"), (4, "b")]
