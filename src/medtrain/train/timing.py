"""Where a step's time goes, and how much of a device's peak it uses."""

import contextlib
import math
import resource
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch

GIB = 2**30


class Clock:
    """Seconds by part of a step; on a GPU between events on its stream, so that nobody waits for it.

    Args:
        device: where the work is done.
        communication: also count DeepSpeed's collectives, which its logger times (each then waits for the device).
    """

    def __init__(self, device: torch.device, *, communication: bool = False):
        self._cuda, self._communication = device.type == "cuda", communication
        self._spans: dict[str, list[tuple[Any, Any]]] = defaultdict(list)
        self._lap: float | None = None

    def lap(self) -> float:
        """The host's seconds since this was last asked, infinite at first. Nobody waits: it is asked once a step, and a
        host that runs ahead of its device waits for it somewhere between."""
        before, self._lap = self._lap, time.perf_counter()
        return math.inf if before is None else self._lap - before

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what is done inside for a part."""
        began = self._now()
        yield
        self._spans[name].append((began, self._now()))

    def read(self) -> dict[str, float]:
        """`seconds/<part>` since the last reading; waits until the device has done what was counted."""
        if self._cuda:
            for spans in self._spans.values():
                spans[-1][1].synchronize()
        found = {f"seconds/{name}": sum(self._between(*span) for span in spans) for name, spans in self._spans.items()}
        self._spans.clear()
        return found | ({"seconds/communication": _collectives_s()} if self._communication else {})

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _between(self, began: Any, ended: Any) -> float:
        return float(began.elapsed_time(ended)) / 1000 if self._cuda else float(ended - began)


def _collectives_s() -> float:
    """Seconds in DeepSpeed's collectives since the last call."""
    from deepspeed import comm

    sizes = [by_size for operation in comm.comm.comms_logger.comms_dict.values() for by_size in operation.values()]
    total_ms = sum(sum(latencies) for _, latencies, *_ in sizes)
    comm.comm.comms_logger.reset_data()
    return float(total_ms) / 1000


def peak_memory_gib(device: torch.device) -> float:
    """The most that a GPU's allocator, or on a CPU this process, has held so far."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / GIB
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 2**20
