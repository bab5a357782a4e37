"""The queue that devices take their runs from."""

from medtrain.experts.worker import Queue


def test_a_lost_devices_runs_are_the_next_ones_and_none_is_given_twice() -> None:
    queue = Queue([{"run": name} for name in "abcd"])
    assert [queue.take(0), queue.take(1), queue.take(0)] == [{"run": "a"}, {"run": "b"}, {"run": "c"}]
    queue.tell(0, "a", "")
    assert queue.give_back(0) == 1 and queue.give_back(7) == 0
    assert [queue.take(1), queue.take(1), queue.take(1)] == [{"run": "c"}, {"run": "d"}, None]
    queue.tell(1, "b", "no")
    assert queue.ended() == [("a", ""), ("b", "no")] and queue.ended() == []


def test_runs_that_no_device_takes_end_with_the_reason() -> None:
    queue = Queue([{"run": "a"}, {"run": "b"}])
    queue.take(0)
    queue.give_up("no device")
    assert queue.ended() == [("b", "no device")] and queue.take(0) is None
