"""What workers tell their driver."""

from medtrain.storage import Store
from medtrain.train.payload import FAILURE, answer, answered


def test_an_answer_is_read_by_the_submission_it_is_for(store: Store) -> None:
    assert answered(store, FAILURE, "a") is None
    answer(store, FAILURE, "a", "no token")
    assert answered(store, FAILURE, "a") == "no token" and answered(store, FAILURE, "b") is None


def test_an_answer_that_was_cut_short_is_none(store: Store) -> None:
    """Its writer was killed, or the disk was full: the next submission goes on."""
    answer(store, FAILURE, "a", "no token")
    for content in (b"", store.read(FAILURE)[:-3]):
        store.write(FAILURE, content)
        assert answered(store, FAILURE, "a") is None
