"""A step's time by part."""

import time

import pytest
import torch

from medtrain.train.timing import Clock, peak_memory_gib

CPU = torch.device("cpu")


def test_parts_add_up_and_are_forgotten_when_read() -> None:
    clock = Clock(CPU)
    began = time.perf_counter()
    for _ in range(2):
        with clock.part("data"):
            time.sleep(0.01)
    with clock.part("forward"):
        pass
    took = time.perf_counter() - began
    found = clock.read()
    assert set(found) == {"seconds/data", "seconds/forward"}
    assert 0.02 <= found["seconds/data"] <= took and found["seconds/forward"] < 0.01
    assert clock.read() == {}


@pytest.mark.usefixtures("group_of_one")
def test_collectives_are_deepspeeds_own_count() -> None:
    from deepspeed import comm

    logger = comm.comm.comms_logger
    logger.reset_data()
    logger.append("all_reduce", "all_reduce", 30.0, 64)
    logger.append("all_reduce", "all_reduce", 10.0, 64)
    logger.append("broadcast", "broadcast", 2.0, 8)
    clock = Clock(CPU, communication=True)
    assert clock.read() == {"seconds/communication": pytest.approx(0.042)}
    assert clock.read() == {"seconds/communication": 0.0}


def test_memory_is_this_process_s() -> None:
    held = torch.zeros(2**26)
    assert held.nbytes / 2**30 < peak_memory_gib(CPU) < 64


class Event:
    """A CUDA event as PyTorch has it: its time is known once the device has reached it."""

    all_reached = False

    def __init__(self, enable_timing: bool):
        pass

    def record(self) -> None:
        pass

    def synchronize(self) -> None:
        Event.all_reached = True

    def elapsed_time(self, ended: "Event") -> float:
        if not Event.all_reached:
            raise RuntimeError("Both events must be completed before calculating elapsed time.")
        return 500.0


def test_a_gpu_s_clock_is_read_when_the_device_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    Event.all_reached = False
    monkeypatch.setattr(torch.cuda, "Event", Event)
    clock = Clock(torch.device("cuda"))
    for _ in range(2):
        with clock.part("forward"):
            pass
    assert clock.read() == {"seconds/forward": 1.0}
