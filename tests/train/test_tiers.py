"""Which state a run goes on from: memory where it is beyond the storage and whole, else storage."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from medtrain.storage import Store
from medtrain.train import attempts, checkpoint, tiers
from medtrain.train.checkpoint import Checkpoint, Progress
from medtrain.train.memory import launch
from medtrain.train.memory.holder import Holder, Offer
from medtrain.train.stage import StageConfig

pytestmark = pytest.mark.usefixtures("group_of_one", "ray_cluster")

NAME = "tiers-test"


def config(every: int = 4) -> StageConfig:
    checkpoints = {"memory_every_steps": every}
    return StageConfig.model_validate({"name": "x", "stage": 1, "tokens": "t", "checkpoint": checkpoints})


def keep(step: int, *, damaged: bool = False, best_step: int = 0, holder: Any = None) -> None:
    """A state in this node's holder, or in another."""
    own = launch.this_node()
    files = checkpoint.joined(Progress(step, best_step), {"weight/a": torch.full((2,), float(step))})
    sums = checkpoint.checksums(files)
    if damaged:
        files["state.safetensors"] = files["state.safetensors"][:-1]
    offer = Offer(step, 1, best_step)
    if holder is None:
        launch.sender(NAME, [own], own)(offer, (files, sums))
    else:
        assert ray.get(holder.put.remote(offer, (files, sums)))


def second_holder() -> Any:
    """Another holder of the run, as another node has it."""

    def add(keeper: Any, holder: Any) -> None:
        keeper._holders["another"] = holder

    made = ray.remote(num_cpus=0)(Holder).remote()
    ray.get(ray.get_actor(NAME).__ray_call__.remote(add, made))
    return made


def spoil(store: Store, step: int, name: str) -> None:
    """Cut a file of a checkpoint short."""
    (path,) = (path for path in store.files("checkpoints") if f"step-{step:08d}" in path and path.endswith(name))
    store.write(path, store.read(path)[:-1])


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


@pytest.mark.parametrize("refused", ["here", "there"])
def test_where_one_copy_of_a_state_is_refused_the_other_node_has_it(store: Store, refused: str) -> None:
    there = second_holder()
    keep(14, damaged=refused == "here")
    keep(14, damaged=refused == "there", holder=there)
    assert found(store) == (14, 14.0)


def test_where_every_copy_is_refused_the_state_before_it_is_taken(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    there = second_holder()
    for holder in (None, there):
        keep(14, holder=holder)
        keep(18, damaged=True, holder=holder)
    assert found(store) == (14, 14.0)
    assert capsys.readouterr().out.count("step 18 is passed over: it is damaged") == 2


def test_a_fault_of_another_rank_moves_all_to_the_next_copy(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(14)
    keep(18)
    told = [["its node is gone"], []]
    monkeypatch.setattr(tiers, "_from_all", lambda own: [own, *told.pop(0)])
    assert found(store) == (14, 14.0)


def test_without_the_keeper_storage_is_taken_and_the_tier_is_off(store: Store) -> None:
    keep(14)
    ray.kill(ray.get_actor(NAME))
    assert found(store) == (10, 10.0)
    assert tiers.memory_tier(NAME, attempts.claim(store), config().checkpoint) is None


@pytest.mark.parametrize("name", ["state.safetensors", checkpoint.MARKER])
def test_a_best_checkpoint_that_is_damaged_is_written_anew_from_memory(store: Store, name: str) -> None:
    best = {"weight/a": torch.full((2,), 12.0)}
    checkpoint.write(store, attempts.claim(store), Progress(12, best_step=12), best)
    spoil(store, 12, name)
    for step in (12, 16, 20):
        keep(step, best_step=12)
    assert found(store) == (20, 20.0)
    mended = tiers.saved(store, 12)
    assert mended is not None and torch.equal(mended.state["weight/a"], best["weight/a"])
    assert mended.path == "checkpoints/step-00000012-attempt-000003"
    assert isinstance(checkpoint.read(store, "checkpoints/step-00000012-attempt-000002"), str)


def test_it_is_written_anew_though_storage_is_beyond_memory(store: Store) -> None:
    attempt = attempts.claim(store)
    for step in (12, 20):
        checkpoint.write(store, attempt, Progress(step, best_step=12), {"weight/a": torch.full((2,), float(step))})
    spoil(store, 12, "state.safetensors")
    keep(12, best_step=12)
    assert found(store) == (20, 20.0)
    assert isinstance(tiers.saved(store, 12), Checkpoint)


def test_a_damaged_best_checkpoint_that_memory_cannot_mend_does_not_count(store: Store) -> None:
    checkpoint.write(store, attempts.claim(store), Progress(12, best_step=12), {"weight/a": torch.zeros(2)})
    spoil(store, 12, "state.safetensors")
    keep(20, best_step=12)
    assert found(store) == (10, 10.0)


def test_a_damaged_checkpoint_of_a_later_step_does_not_hide_what_is_in_memory(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint.write(store, attempts.claim(store), Progress(20), {"weight/a": torch.full((2,), 20.0)})
    keep(14)
    assert found(store) == (20, 20.0)
    spoil(store, 20, "state.safetensors")
    assert found(store) == (14, 14.0)
    assert capsys.readouterr().out.count("is skipped: it is damaged") == 1


def test_a_run_without_any_state_begins_anew(store: Store) -> None:
    assert tiers.last_state(store.sub("other"), NAME, config(), attempts.claim(store.sub("other"))) is None
