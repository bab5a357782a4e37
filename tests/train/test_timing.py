"""A step's time by part."""

import math
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from medtrain.artifacts import locate
from medtrain.storage import Store
from medtrain.tokens.shards import Samples
from medtrain.train import adapters
from medtrain.train.deepspeed_config import EngineConfig
from medtrain.train.engine import Engine
from medtrain.train.model import ModelConfig, load_base
from medtrain.train.optimizer import OptimizerConfig
from medtrain.train.order import BatchConfig, Plan
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


def test_a_lap_is_what_passed_since_the_last_one() -> None:
    clock = Clock(CPU)
    assert clock.lap() == math.inf, "a first step's length is not known"
    began = time.perf_counter()
    time.sleep(0.02)
    assert 0.02 <= clock.lap() <= time.perf_counter() - began + 0.02


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


@pytest.mark.usefixtures("group_of_one")
def test_a_step_s_collectives_are_among_its_metrics_only_where_that_is_asked_for(made: Store) -> None:
    from deepspeed import comm

    samples = Samples.open(locate(made, "tokens", "tiny"))
    batch = BatchConfig(size=2, layout="padded")
    given: dict[str, Any] = {"batch": batch, "optimizer": OptimizerConfig(), "pad_id": 3}
    plan = Plan(np.arange(2), samples.lengths[:2], batch, seed=0, epochs=1)
    try:
        for asked in (True, False):
            comm.configure(enabled=False)  # of the whole process: only an engine that asks switches it on
            base = load_base(str(made.local("bases/tiny")), ModelConfig(precision="fp32"), CPU, batch.layout)
            model: Any = adapters.attach(base, {"kind": "lora", "rank": 2}, seed=0)
            engine = Engine(model, samples, engine=EngineConfig(zero_stage=2, time_communication=asked), **given)
            found = engine.step(plan.at(0), 1e-4)
            assert comm.comm.comms_logger.enabled is asked
            assert ("seconds/communication" in found) is asked
            assert found.get("seconds/communication", 1.0) > 0
            engine.release()
    finally:
        comm.configure(enabled=False)
        comm.comm.comms_logger.reset_data()


def test_memory_is_the_most_that_this_process_has_held() -> None:
    held = np.ones(2**25)  # a quarter of a GiB, that is written to: it stays in the peak when it is gone
    there = psutil.Process().memory_info().rss / 2**30
    assert there > held.nbytes / 2**30
    del held
    assert there <= peak_memory_gib(CPU) * 1.01
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak_memory_gib(CPU) == pytest.approx(int(peak) / 2**20, rel=0.05)


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
