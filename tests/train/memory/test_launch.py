"""Holders under Ray: what a worker kept outlives the worker, and everything ends with the keeper."""

import time

import pytest
import ray

from medtrain.train.memory import launch
from medtrain.train.memory.holder import Offer

FILES = ({"state": b"x" * 300_000}, {"state": "digest"})


class Worker:
    """A process that keeps a state and is killed."""

    def keep(self, name: str, step: int) -> None:
        own = launch.this_node()
        launch.sender(name, [own, own], own)(Offer(step, 1, 0), FILES)


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
        assert launch.fetch(offer, holder) == FILES
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
