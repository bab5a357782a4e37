"""Who may write a run: the last claim, and only while it is there."""

import pytest

from medtrain.errors import TrainingError
from medtrain.storage import Store
from medtrain.train import attempts
from medtrain.train.attempts import GivenUp


def test_attempts_are_numbered_upwards(store: Store) -> None:
    assert [attempts.claim(store).number for _ in range(11)] == list(range(1, 12))


def test_the_last_claim_stands(store: Store) -> None:
    for submission in ("", "a", "b"):
        attempts.check(store, attempts.claim(store, submission))


def test_another_submission_s_claim_ends_a_job_and_one_of_the_same_only_its_group(store: Store) -> None:
    mine = attempts.claim(store, "a")
    attempts.claim(store, "a")
    with pytest.raises(GivenUp, match="attempt 1 at this run was given up: attempt 2 has taken over"):
        attempts.check(store, mine)
    attempts.claim(store, "b")
    with pytest.raises(TrainingError, match="attempt 3 has taken over; end this job"):
        attempts.check(store, mine)


def test_a_run_that_was_deleted_and_begun_anew_is_another_s(store: Store) -> None:
    mine = attempts.claim(store, "a")
    store.delete("attempts")
    with pytest.raises(TrainingError, match="another submission has begun it anew"):
        attempts.check(store, mine)
    attempts.claim(store, "b")
    with pytest.raises(TrainingError, match="another submission has begun it anew"):
        attempts.check(store, mine)


def test_a_claim_that_was_cut_short_is_nobody_s(store: Store) -> None:
    mine = attempts.claim(store, "a")
    store.write("attempts/000002", b"")
    with pytest.raises(TrainingError, match="attempt 2 has taken over"):
        attempts.check(store, mine)
    assert attempts.claim(store, "a").number == 3
