"""Holders under Ray: what a worker kept outlives the worker, and everything ends with the keeper."""

import os
import signal
import threading
import time

import numpy as np
import pytest
import ray
import torch

from medtrain.train.checkpoint import Progress
from medtrain.train.memory import launch
from medtrain.train.memory.holder import Offer
from medtrain.train.memory.tier import MemoryTier

FILES = ({"state": np.full(300_000, 7, np.uint8)}, {"state": "sum"})


class Worker:
    """A process that keeps a state and is killed."""

    def keep(self, name: str, step: int) -> None:
        own = launch.this_node()
        launch.sender(name, [own, own], own)(Offer(step, 1, 0), FILES)


@pytest.mark.parametrize(
    ("nodes", "kept_on"),
    [
        ("a", {"a": "a"}),
        ("aaa", {"a": "a"}),
        ("ba", {"a": "ab", "b": "ba"}),
        ("abab", {"a": "ab", "b": "ba"}),
        ("cab", {"a": "ab", "b": "bc", "c": "ca"}),
        ("ccabba", {"a": "ab", "b": "bc", "c": "ca"}),
    ],
)
def test_a_state_is_kept_on_its_own_node_and_on_the_next_one(nodes: str, kept_on: dict[str, str]) -> None:
    """However many workers a node has, and in whatever order they are: its loss must leave the state elsewhere."""
    assert {own: "".join(launch.keeping(nodes, own)) for own in sorted(set(nodes))} == kept_on


def test_a_sender_asks_for_the_holders_of_both_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, list[str]]] = []
    monkeypatch.setattr(launch, "_asked", lambda *question: asked.append(question))
    assert launch.sender("run", ["b", "a", "b"], "a") is None
    assert asked == [("run", "on", ["a", "b"])]


@pytest.mark.usefixtures("ray_cluster")
def test_a_state_outlives_its_worker_and_ends_with_the_keeper() -> None:
    with launch.kept("memory-test"):
        worker = ray.remote(num_cpus=0)(Worker).remote()
        for step in (4, 8, 12):
            ray.get(worker.keep.remote("memory-test", step))
        ray.kill(worker)
        found = launch.offers("memory-test")
        assert [offer.step for offer, _ in found] == [8, 12]
        offer, holder = found[-1]
        fetched = launch.fetch(offer, holder)
        assert fetched is not None and fetched[1] == FILES[1]
        assert np.array_equal(fetched[0]["state"], FILES[0]["state"])
        assert launch.fetch(Offer(4, 1, 0), holder) is None
        ray.kill(holder)
        assert launch.fetch(offer, holder) is None
        assert launch.offers("memory-test") == []
        ray.get(ray.remote(num_cpus=0)(Worker).remote().keep.remote("memory-test", 16))
        (left,) = launch.offers("memory-test")
    deadline = time.monotonic() + 120
    while launch.fetch(*left) is not None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert launch.fetch(*left) is None, "a holder outlives its keeper"


@pytest.mark.usefixtures("ray_cluster")
def test_without_its_keeper_a_run_has_no_memory(capsys: pytest.CaptureFixture[str]) -> None:
    with launch.kept("lost-keeper"):
        own = launch.this_node()
        launch.sender("lost-keeper", [own], own)(Offer(4, 1, 0), FILES)
        ray.kill(ray.get_actor("lost-keeper"))
        assert launch.offers("lost-keeper") == [] and launch.sender("lost-keeper", [own], own) is None
    assert capsys.readouterr().out.count("memory tier: its keeper is gone") == 2


@pytest.mark.usefixtures("ray_cluster")
def test_a_holder_that_stands_still_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with launch.kept("still-holder"):
        own = launch.this_node()
        send = launch.sender("still-holder", [own], own)
        send(Offer(4, 1, 0), FILES)
        ((_, holder),) = launch.offers("still-holder")
        process = ray.get(holder.__ray_call__.remote(lambda _: os.getpid()))
        monkeypatch.setattr(launch, "MOVE_S", 1.0)
        tier = MemoryTier(1, send, lambda text, flush: said.append(text))
        closing = threading.Thread(target=tier.finish, daemon=True)
        os.kill(process, signal.SIGSTOP)
        try:
            tier.save(Progress(step=8), {"weight/a": torch.zeros(2)})
            closing.start()
            closing.join(30)
            assert not closing.is_alive()
            send(Offer(12, 1, 0), FILES)  # nobody is left to send it to
        finally:
            os.kill(process, signal.SIGCONT)
    assert len(said) == 1 and "step 8 is not on every node (TimeoutError)" in said[0]
