"""Checkpoints: whole or absent, fenced by attempt, the best one kept."""

import gzip
import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from medtrain.errors import TrainingError
from medtrain.storage import Store
from medtrain.train import attempts, checkpoint
from medtrain.train.attempts import Attempt
from medtrain.train.checkpoint import Checkpoint, Progress


def state(value: float) -> dict[str, torch.Tensor]:
    """A state that tells one checkpoint from another."""
    return {"weight/a": torch.full((3, 2), value), "exp_avg/a": torch.zeros(3, 2)}


def written(store: Store, *steps: int, attempt: Attempt | None = None) -> Attempt:
    """Checkpoints of these steps, each state full of its step's number."""
    attempt = attempt or attempts.claim(store)
    for step in steps:
        checkpoint.write(store, attempt, Progress(step=step), state(step))
    return attempt


def latest_step(store: Store, warnings: list[str] | None = None) -> int | None:
    """The step of the checkpoint that a run would go on from."""
    kept: list[str] = [] if warnings is None else warnings
    found = checkpoint.latest(store, kept.append)
    return None if found is None else found.progress.step


def test_what_is_written_is_read_back(store: Store) -> None:
    progress = Progress(7, best_step=5, best_loss=1.25, stale=2, below_one_step=3, first_loss=4.0, trained_tokens=9)
    progress = replace(progress, recent=(2.0, 1.5), rollbacks=3, skipped=(2,), skipped_ids=("a",), lowered=(4, 4))
    folder = checkpoint.write(store, attempts.claim(store), progress, state(7))
    found = checkpoint.latest(store)
    assert found is not None and found.path == folder
    assert replace(found.progress, last_loss=0.0) == replace(progress, last_loss=0.0)
    assert found.state.keys() == state(7).keys()
    assert all(torch.equal(found.state[name], tensor) for name, tensor in state(7).items())


def test_a_progress_before_the_first_validation_survives(store: Store) -> None:
    written(store, 1)
    found = checkpoint.latest(store)
    assert found is not None and found.progress.best_loss == float("inf")
    assert found.progress.last_loss != found.progress.last_loss


def test_no_checkpoint_is_none(store: Store) -> None:
    assert checkpoint.latest(store) is None


def test_steps_are_ordered_as_numbers(store: Store) -> None:
    written(store, 9, 100, 20)
    assert latest_step(store) == 100


def test_a_partial_checkpoint_is_skipped_with_a_warning(store: Store) -> None:
    attempt = written(store, 10, 20)
    store.delete(f"checkpoints/step-00000020-attempt-{attempt.number:06d}/{checkpoint.MARKER}")
    warnings: list[str] = []
    assert latest_step(store, warnings) == 10
    assert len(warnings) == 1 and "step-00000020" in warnings[0] and "partial" in warnings[0]


@pytest.mark.parametrize("name", ["state.safetensors", "progress.json", checkpoint.MARKER])
@pytest.mark.parametrize("damage", ["truncated", "emptied", "flipped", "deleted"])
def test_a_damaged_checkpoint_is_skipped_with_a_warning(store: Store, name: str, damage: str) -> None:
    attempt = written(store, 10, 20)
    path = f"checkpoints/step-00000020-attempt-{attempt.number:06d}/{name}"
    content = store.read(path)
    middle = len(content) // 2
    if damage == "deleted":
        store.delete(path)
    elif damage == "flipped":
        store.write(path, content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    else:
        store.write(path, b"" if damage == "emptied" else content[:middle])
    warnings: list[str] = []
    assert latest_step(store, warnings) == 10
    assert len(warnings) == 1 and "is skipped" in warnings[0]


def test_a_checksum_in_parts_is_the_one_that_gzip_writes() -> None:
    parts = [b"", b"a" * 9, memoryview(b"\x00\xff" * 50), b"b"]
    written = gzip.compress(b"".join(parts))[-8:-4]
    assert checkpoint.checksum(parts) == f"{int.from_bytes(written, 'little'):08x}"
    assert checkpoint.checksums({"x": b"".join(parts)}) == {"x": checkpoint.checksum(parts)}


def test_a_checkpoint_put_together_is_what_is_written(store: Store) -> None:
    attempt = attempts.claim(store)
    tensors = {"weight/a": torch.arange(70.0), "frozen": torch.tensor(True), "empty": torch.zeros(0, 3)}
    progress = Progress(step=4, best_loss=1.5, first_loss=3.0, last_loss=2.0)
    folder = checkpoint.write(store, attempt, progress, tensors)
    files = checkpoint.joined(progress, tensors)
    assert {name: content.tobytes() for name, content in files.items()} == {
        name: store.read(f"{folder}/{name}") for name in ("state.safetensors", "progress.json")
    }
    found = checkpoint.decode("x", files)
    assert found.progress == progress and found.state.keys() == tensors.keys()
    assert all(torch.equal(found.state[name], tensor) for name, tensor in tensors.items())


def test_a_marker_over_other_files_is_no_checkpoint(store: Store) -> None:
    attempt = written(store, 10)
    store.write(f"checkpoints/step-00000010-attempt-{attempt.number:06d}/{checkpoint.MARKER}", b"{}")
    assert latest_step(store) is None


def test_an_earlier_attempt_cannot_write_once_a_later_one_has_begun(store: Store) -> None:
    old = written(store, 10)
    new = attempts.claim(store)
    with pytest.raises(TrainingError, match="attempt 1 at this run was given up: attempt 2 has taken over"):
        checkpoint.write(store, old, Progress(step=20), state(20))
    assert latest_step(store) == 10
    written(store, 15, attempt=new)
    assert latest_step(store) == 15


def test_an_attempt_that_is_given_up_while_it_writes_leaves_no_whole_checkpoint(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = written(store, 10)
    original = Store.holds

    def holds(self: Store, path: str, *content: Any) -> bool:
        """Another attempt begins between this one's files and its marker."""
        if path.endswith("progress.json") and not store.exists("attempts/000002"):
            attempts.claim(store)
        return original(self, path, *content)

    monkeypatch.setattr(Store, "holds", holds)
    with pytest.raises(TrainingError, match="given up"):
        checkpoint.write(store, old, Progress(step=20), state(20))
    assert latest_step(store) == 10


def test_the_same_step_of_a_later_attempt_wins(store: Store) -> None:
    written(store, 10)
    attempt = attempts.claim(store)
    checkpoint.write(store, attempt, Progress(step=10), state(-1))
    found = checkpoint.latest(store)
    assert found is not None and float(found.state["weight/a"][0, 0]) == -1


def test_a_disk_that_lies_is_found_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = written(store, 10)
    original = Store.write_through

    def write(self: Store, path: str, *content: Any) -> None:
        """Lose the last byte of every state."""
        original(self, path, *content[:-1], content[-1][:-1] if path.endswith("state.safetensors") else content[-1])

    monkeypatch.setattr(Store, "write_through", write)
    with pytest.raises(TrainingError, match="reads back otherwise than written"):
        checkpoint.write(store, attempt, Progress(step=20), state(20))
    assert latest_step(store) == 10


def pruned(store: Store, attempt: Attempt, keep: int, best_step: int, step: int) -> list[int]:
    """The steps that are left when a checkpoint of `step` was written last."""
    checkpoint.prune(store, keep, best_step, checkpoint.write(store, attempt, Progress(step=step), state(step)))
    return [int(name[5:13]) for name in store.folders("checkpoints")]


def test_pruning_keeps_the_newest_and_the_best(store: Store) -> None:
    assert pruned(store, written(store, 10, 20, 30, 40), 2, 20, 50) == [20, 40, 50]


def test_everything_is_on_the_medium_before_an_older_one_goes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power failure in between must leave one whole checkpoint, marker and all."""
    attempt, done = written(store, 10), list[tuple[str, str]]()
    write, delete = Store.write_through, Store.delete

    def written_through(self: Store, path: str, *content: Any) -> None:
        write(self, path, *content)
        done.append(("write", path.rpartition("/")[2]))

    def deleted(self: Store, path: str) -> None:
        done.append(("delete", path.rpartition("/")[2][:13]))
        delete(self, path)

    monkeypatch.setattr(Store, "write_through", written_through)
    monkeypatch.setattr(Store, "delete", deleted)
    assert pruned(store, attempt, 1, 0, 20) == [20]
    files = ("state.safetensors", "progress.json", checkpoint.MARKER)
    assert done == [*(("write", name) for name in files), ("delete", "step-00000010")]


def test_pruning_deletes_old_partial_ones_and_none_of_a_later_attempt(store: Store) -> None:
    attempt = written(store, 10, 20, 30)
    store.delete(f"checkpoints/step-00000010-attempt-{attempt.number:06d}/{checkpoint.MARKER}")
    store.write("checkpoints/step-00000050-attempt-000002/state.safetensors", b"half")
    assert pruned(store, attempt, 1, 0, 40) == [40, 50]


def test_damaged_ones_of_later_steps_do_not_cost_the_one_just_written(store: Store) -> None:
    """A run that began again from step 5 has passed them over; they would be the newest for ever."""
    for name in ("00000100", "00000150"):
        old = written(store, int(name))
        path = f"checkpoints/step-{name}-attempt-{old.number:06d}/state.safetensors"
        store.write(path, store.read(path)[:-1])
    assert pruned(store, attempts.claim(store), 2, 0, 10) == [10]
    assert latest_step(store) == 10


def test_a_checkpoint_holds_json_and_tensors_only(store: Store) -> None:
    folder = checkpoint.write(store, attempts.claim(store), Progress(step=1), state(1))
    names = [path.rsplit("/", 1)[1] for path in store.files(folder)]
    assert names == [checkpoint.MARKER, "progress.json", "state.safetensors"]
    assert json.loads(store.read(f"{folder}/{checkpoint.MARKER}")).keys() == {"progress.json", "state.safetensors"}
    assert isinstance(checkpoint.read(store, folder), Checkpoint)
