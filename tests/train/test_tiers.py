"""Which state a run goes on from: memory where it is beyond the storage and whole, else storage."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from medtrain.storage import Store
from medtrain.train import attempts, checkpoint, tiers
from medtrain.train.checkpoint import Progress
from medtrain.train.memory import launch
from medtrain.train.memory.holder import Offer
from medtrain.train.stage import StageConfig

pytestmark = pytest.mark.usefixtures("group_of_one", "ray_cluster")

NAME = "tiers-test"


def config(every: int = 4) -> StageConfig:
    checkpoints = {"memory_every_steps": every}
    return StageConfig.model_validate({"name": "x", "stage": 1, "tokens": "t", "checkpoint": checkpoints})


def keep(step: int, *, damaged: bool = False, best_step: int = 0) -> None:
    """A state in this node's holder."""
    own = launch.this_node()
    files = checkpoint.joined(Progress(step, best_step), {"weight/a": torch.full((2,), float(step))})
    digests = checkpoint.digests(files)
    if damaged:
        files["state.safetensors"] = files["state.safetensors"][:-1]
    launch.sender(NAME, [own], own)(Offer(step, 1, best_step), (files, digests))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A run's folder with a checkpoint of step 10, and a keeper."""
    made = Store(str(tmp_path))
    checkpoint.write(made, attempts.claim(made), Progress(10), {"weight/a": torch.full((2,), 10.0)})
    with launch.kept(NAME):
        yield made


def found(store: Store, every: int = 4) -> tuple[int, float]:
    last: Any = tiers.last_state(store, NAME, config(every), attempts.claim(store))
    return last.progress.step, float(last.state["weight/a"][0])


def test_storage_alone(store: Store) -> None:
    assert found(store) == (10, 10.0) == found(store, every=0)


def test_memory_that_is_beyond_the_storage_is_taken(store: Store) -> None:
    keep(14)
    assert found(store) == (14, 14.0)
    assert found(store, every=0) == (10, 10.0)


def test_memory_behind_the_storage_or_without_its_best_step_is_not(store: Store) -> None:
    keep(8)
    assert found(store) == (10, 10.0)
    keep(14, best_step=12)
    assert found(store) == (10, 10.0)


def test_a_best_step_that_memory_alone_has_is_saved_first(store: Store) -> None:
    keep(14, best_step=14)
    keep(18, best_step=14)
    assert found(store) == (18, 18.0)
    assert checkpoint.whole_steps(store) == {10, 14}


def test_a_damaged_state_is_passed_over_with_a_word(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    keep(14, damaged=True)
    assert found(store) == (10, 10.0)
    assert "step 14 is passed over: it is damaged" in capsys.readouterr().out


def test_a_damaged_checkpoint_of_a_later_step_does_not_hide_what_is_in_memory(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint.write(store, attempts.claim(store), Progress(20), {"weight/a": torch.full((2,), 20.0)})
    keep(14)
    assert found(store) == (20, 20.0)
    (late,) = (name for name in store.files("checkpoints") if "step-00000020" in name and "state" in name)
    store.write(late, store.read(late)[:-1])
    assert found(store) == (14, 14.0)
    assert capsys.readouterr().out.count("is skipped: it is damaged") == 1


def test_a_run_without_any_state_begins_anew(store: Store) -> None:
    assert tiers.last_state(store.sub("other"), NAME, config(), attempts.claim(store.sub("other"))) is None
