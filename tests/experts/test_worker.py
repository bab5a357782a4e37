"""The queue that devices take their runs from."""

import heapq
import random

import pytest

from medtrain.experts import worker
from medtrain.experts.worker import Queue


def queue_of(tokens: dict[str, int], devices: int, lanes: int) -> Queue:
    """A queue of runs, longest first."""
    return Queue([{"run": name} for name in tokens], list(tokens.values()), devices, lanes)


def test_a_lost_devices_runs_are_the_next_ones_and_none_is_given_twice() -> None:
    queue = queue_of({"a": 1, "b": 1, "c": 1, "d": 1}, 2, 3)
    assert [queue.take(0), queue.take(1), queue.take(0)] == [{"run": "a"}, {"run": "b"}, {"run": "c"}]
    queue.tell(0, "a", "")
    assert queue.give_back(0) == 1 and queue.give_back(7) == 0
    assert [queue.take(1), queue.take(1), queue.take(1)] == [{"run": "c"}, {"run": "d"}, None]
    queue.tell(1, "b", "no")
    assert queue.ended() == [("a", ""), ("b", "no")] and queue.ended() == []


def test_runs_that_no_device_takes_end_with_the_reason() -> None:
    queue = queue_of({"a": 1, "b": 1}, 1, 1)
    queue.take(0)
    queue.give_up("no device")
    assert queue.ended() == [("b", "no device")] and queue.take(0) is None


def test_the_next_run_goes_where_least_is() -> None:
    queue = queue_of({"a": 9, "b": 8, "c": 7, "d": 2, "e": 1}, 2, 3)
    assert queue.take(0) == {"run": "a"}
    assert queue.take(0) is None, "the other device has not begun"
    assert queue.take(1) == {"run": "b"}
    assert queue.take(0) is None and queue.take(1) == {"run": "c"}
    assert queue.take(1) is None and queue.take(0) == {"run": "d"}
    assert queue.take(0) == {"run": "e"}


def test_full_and_lost_devices_hold_up_no_other() -> None:
    queue = queue_of({"a": 9, "b": 2, "c": 2, "d": 2, "e": 2}, 2, 2)
    assert [queue.take(device) for device in (0, 1, 1)] == [{"run": name} for name in "abc"]
    assert queue.take(0) == {"run": "d"}, "the other one has less to do and no room"
    alone = queue_of({"a": 9, "b": 2}, 2, 2)
    assert alone.take(0) == {"run": "a"} and alone.take(0) is None
    alone.give_back(1)
    assert alone.take(0) == {"run": "b"}


def test_a_device_that_does_not_begin_is_waited_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = queue_of({"a": 9, "b": 8, "c": 7}, 2, 3)
    assert queue.take(0) == {"run": "a"} and queue.take(0) is None
    now = worker.time.monotonic()
    monkeypatch.setattr(worker.time, "monotonic", lambda: now + 2 * worker.PATIENCE_S)
    assert queue.take(0) == {"run": "b"}
    assert queue.take(1) == {"run": "c"} and queue.take(0) is None


@pytest.mark.parametrize("lanes", [1, 3])
def test_four_devices_are_busy(lanes: int) -> None:
    draw, shares = random.Random(0), []
    for _ in range(50):
        tokens = sorted((draw.randint(10, 100) for _ in range(24)), reverse=True)
        shares.append(_busy_share({str(n): count for n, count in enumerate(tokens)}, 4, lanes))
    assert sum(shares) / len(shares) > 0.93


def _busy_share(tokens: dict[str, int], devices: int, lanes: int) -> float:
    """Of the devices' time until the last has ended, where a device shares its time among its lanes."""
    queue, clock = queue_of(tokens, devices, lanes), [(0.0, device) for device in range(devices)]
    left: list[dict[str, float]] = [{} for _ in range(devices)]
    while clock:
        now, device = heapq.heappop(clock)
        for run in [run for run, rest in left[device].items() if rest <= 0]:
            del left[device][run]
            queue.tell(device, run, "")
        while len(left[device]) < lanes and (job := queue.take(device)) is not None:
            left[device][job["run"]] = tokens[job["run"]]
        if left[device]:
            left[device] = {run: rest - 1 for run, rest in left[device].items()}
            heapq.heappush(clock, (now + len(left[device]), device))
    return sum(tokens.values()) / (devices * now)
