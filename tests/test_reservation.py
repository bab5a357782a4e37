"""Places in Ray's own coordinator: given back by the name that a run noted. Killed runs: `cluster/test_chaos.py`."""

import pytest
import ray
from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import get_or_create_autoscaling_coordinator

from medtrain import reservation
from medtrain.storage import Store


@pytest.mark.usefixtures("ray_cluster")
def test_a_noted_reservation_is_given_back(store: Store) -> None:
    coordinator = get_or_create_autoscaling_coordinator()
    asked = {"resources": [{"CPU": 1.0}], "label_selectors": [{}], "expire_after_s": 180}
    ray.get(coordinator.request_resources.remote(requester_id="train-x", **asked))
    assert ray.get(coordinator.get_reserved_resources.remote("train-x"))
    store.write(reservation.FILE, b"train-x")
    reservation.withdraw(store)
    assert ray.get(coordinator.get_reserved_resources.remote("train-x")) == {}
    assert not store.exists(reservation.FILE)
    reservation.withdraw(store)


@pytest.mark.usefixtures("ray_cluster")
def test_a_changed_set_of_nodes_makes_the_coordinator_look(monkeypatch: pytest.MonkeyPatch) -> None:
    get_or_create_autoscaling_coordinator()
    asked: list[str] = []
    seen = iter([{"a", "b"}, {"a"}, {"a"}])
    ask = reservation._ask
    monkeypatch.setattr(reservation, "LOOK_S", 0.01)
    monkeypatch.setattr(reservation, "_alive", lambda: next(seen, {"a"}))
    monkeypatch.setattr(reservation, "_ask", lambda method, **given: (asked.append(method), ask(method, **given)))
    with reservation.looked_at():
        for _ in range(500):
            if asked:
                break
            ray.wait([ray.put(0)], timeout=0.01)
    assert asked == ["get_reserved_resources"]


@pytest.mark.usefixtures("ray_cluster")
def test_a_call_that_ray_does_not_know_costs_nothing() -> None:
    reservation._ask("no_such_call", of="anything")
