"""Checkpoints behind the training: written while it goes on, one at a time; a full disk is said and survived."""

import errno
import re
import threading
import time
from typing import Any

import pytest
import torch

from medtrain.errors import TrainingError
from medtrain.storage import Store
from medtrain.train import attempts, checkpoint, tiers
from medtrain.train.checkpoint import Progress
from medtrain.train.saver import Saver


def state(value: float) -> dict[str, torch.Tensor]:
    return {"weight/a": torch.full((3, 2), value)}


def fresh(store: Store, said: list[str] | None = None) -> Saver:
    """A saver of a new attempt."""

    def say(text: str, flush: bool = False) -> None:
        (said if said is not None else []).append(text)

    return Saver(store, attempts.claim(store), 2, say)


def test_an_owed_state_takes_no_room_that_a_later_one_needs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """On storage that holds four checkpoints, of which a stranger's file takes two for a while."""
    saver, room, original = fresh(store), [4], Store.write_through

    def write(self: Store, path: str, *content: Any) -> None:
        if "state" in path and len(self.folders(checkpoint.FOLDER)) >= room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(self, path, *content)

    monkeypatch.setattr(Store, "write_through", write)
    for step in (5, 10, 15):
        saver.save(Progress(step=step, best_step=5), state(step))
    room[0] = 2
    saver.save(Progress(step=20, best_step=20), state(20))
    while len(saver.reading) > 1 or saver._owed is None:
        time.sleep(0.001)
    room[0] = 4
    for step in (30, 40, 50):
        saver.save(Progress(step=step, best_step=20), state(step))
    assert saver.finish() == ""
    assert [int(name[5:13]) for name in store.folders(checkpoint.FOLDER)] == [20, 40, 50]


def refusing(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """Storage that is full while the checkpoints of these steps are written."""
    original = Store.write_through

    def write(self: Store, path: str, *content: Any) -> None:
        if any(path.startswith(f"checkpoints/step-{step:08d}") for step in steps) and "progress" in path:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(self, path, *content)

    monkeypatch.setattr(Store, "write_through", write)


def test_saving_does_not_hold_the_training_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, begun, original = threading.Event(), threading.Event(), Store.write_through

    def write(self: Store, path: str, *content: Any) -> None:
        if path.startswith("checkpoints"):
            begun.set()
            assert gate.wait(10)
        original(self, path, *content)

    saver = fresh(store)
    monkeypatch.setattr(Store, "write_through", write)
    assert saver.reading == []
    first = state(1)
    saver.save(Progress(step=1), first)  # returns although the write cannot end
    assert begun.wait(10) and checkpoint.last_whole_step(store) == 0 and saver.reading[0] is first
    second = threading.Thread(target=saver.save, args=(Progress(step=2), state(2)))
    second.start()
    second.join(0.2)
    assert second.is_alive(), "two checkpoints are written at once"
    gate.set()
    second.join(10)
    assert saver.finish() == "" and saver.reading == []
    found = checkpoint.latest(store)
    assert found is not None and found.progress.step == 2 and float(found.state["weight/a"][0, 0]) == 2


def test_old_ones_are_pruned(store: Store) -> None:
    saver = fresh(store)
    for step in (1, 2, 3, 4):
        saver.save(Progress(step=step, best_step=1), state(step))
    saver.finish()
    assert [int(name[5:13]) for name in store.folders(checkpoint.FOLDER)] == [1, 3, 4]


def test_a_full_disk_is_said_and_the_next_interval_tries_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    saver = fresh(store, said)
    refusing(monkeypatch, {20})
    for step in (10, 20):
        saver.save(Progress(step=step), state(step))
    saver.save(Progress(step=30), state(30))
    saver.finish()
    assert len(said) == 1 and "step 20" in said[0] and "No space left" in said[0] and "is step 10" in said[0]
    assert [int(name[5:13]) for name in store.folders(checkpoint.FOLDER)] == [10, 30]


@pytest.mark.parametrize("better", [False, True])
def test_a_best_state_that_was_refused_is_written_as_soon_as_storage_takes_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, better: bool
) -> None:
    """The run ends with its weights; until then its memory is not taken, and a better one makes it needless."""
    saver, full, best = fresh(store), {20, 30}, state(20)
    refusing(monkeypatch, full)
    saver.save(Progress(step=10), state(10))
    saver.save(Progress(step=20, best_step=20), best)
    saver.save(Progress(step=30, best_step=20), state(30))
    saver.save(Progress(step=35, best_step=20), state(35))
    while len(saver.reading) > 1:  # at no time is its memory free
        time.sleep(0.001)
    assert saver.reading[0] is best
    full.clear()
    saver.save(Progress(step=40, best_step=40 if better else 20), state(40))
    assert saver.finish() == "" and saver.reading == []
    assert [int(name[5:13]) for name in store.folders(checkpoint.FOLDER)] == ([35, 40] if better else [20, 35, 40])
    found = tiers.saved(store, 40 if better else 20)
    assert found is not None and float(found.state["weight/a"][0, 0]) == (40 if better else 20)


def test_storage_that_cannot_even_be_listed_ends_no_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is out from the first write on, until that was said."""
    checkpoint.write(store, attempts.claim(store), Progress(step=10), state(10))
    out, said = threading.Event(), list[str]()

    def say(text: str, flush: bool) -> None:
        said.append(text)
        out.clear()

    def failing(name: str) -> Any:
        original = getattr(Store, name)

        def call(self: Store, *given: Any) -> Any:
            if out.is_set():
                raise OSError(errno.EIO, "Input/output error")
            return original(self, *given)

        return call

    saver = Saver(store, attempts.claim(store), 2, say)
    for name in ("write", "files", "folders", "exists", "delete"):
        monkeypatch.setattr(Store, name, failing(name))
    out.set()
    saver.save(Progress(step=20), state(20))
    saver.save(Progress(step=30), state(30))
    saver.finish()
    assert len(said) == 1 and "Input/output error" in said[0] and "the last whole one is step 10" in said[0]
    assert [int(name[5:13]) for name in store.folders(checkpoint.FOLDER)] == [10, 30]


def test_a_last_state_that_cannot_be_saved_is_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    saver = fresh(store, [])
    refusing(monkeypatch, {20})
    saver.save(Progress(step=10), state(10))
    saver.save(Progress(step=20), state(20))
    assert re.search(r"step 20: .*No space left.*is step 10", saver.finish())
    found = checkpoint.latest(store)
    assert found is not None and found.progress.step == 10


@pytest.mark.parametrize("how", ["save", "finish"])
def test_an_attempt_that_was_given_up_hears_of_it(store: Store, how: str) -> None:
    saver = fresh(store)
    attempts.claim(store)
    saver.save(Progress(step=1), state(1))
    call: Any = saver.finish if how == "finish" else lambda: saver.save(Progress(step=2), state(2))
    with pytest.raises(TrainingError, match="given up"):
        call()


def test_old_ones_that_cannot_be_deleted_cost_no_new_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def delete(self: Store, path: str) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    saver = fresh(store, said)
    monkeypatch.setattr(Store, "delete", delete)
    for step in (10, 20, 30):
        saver.save(Progress(step=step), state(step))
    saver.finish()
    assert [int(name[5:13]) for name in store.folders(checkpoint.FOLDER)] == [10, 20, 30]
    assert checkpoint.whole_steps(store) == {10, 20, 30} and said and all("stay: Permission denied" in s for s in said)
