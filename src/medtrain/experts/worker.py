"""One device on which experts share a base, as a Ray actor, and the queue that devices take their runs from."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from medtrain import runtime
from medtrain.train.notice import listen
from medtrain.train.payload import Payload

PATIENCE_S = 60.0
"""How long a device that has not begun holds back the others' further runs: there may be no room for it."""


class Queue:
    """Runs in the order in which they are to be trained, longest first; an actor that belongs to the driver.

    A device that has a run already gets another one only while no other device with room has less to do: the next
    longest run goes where least is, so that devices end at about the same time.

    Args:
        jobs: payloads as JSON values.
        tokens: what each of them takes.
        devices: how many there are, numbered from 0.
        lanes: how many runs a device trains together.
    """

    def __init__(self, jobs: Sequence[dict[str, Any]], tokens: Sequence[int], devices: int, lanes: int):
        self._waiting = list(jobs)
        self._tokens = {job["run"]: count for job, count in zip(jobs, tokens, strict=True)}
        self._lanes = lanes
        self._taken: dict[int, dict[str, dict[str, Any]]] = {}
        self._coming, self._until = set(range(devices)), math.inf
        """Devices that have not begun, and until when they are waited for."""
        self._ended: list[tuple[str, str]] = []

    def take(self, device: int) -> dict[str, Any] | None:
        """The next run, for a device with room for it; None where there is none for it now."""
        self._coming.discard(device)
        self._until = min(self._until, time.monotonic() + PATIENCE_S)
        held = self._taken.setdefault(device, {})
        if not self._waiting or (held and self._load(held) > min(map(self._load, self._with_room()))):
            return None
        job = self._waiting.pop(0)
        held[job["run"]] = job
        return job

    def _with_room(self) -> list[dict[str, dict[str, Any]]]:
        coming = self._coming if time.monotonic() < self._until else ()
        return [*(held for held in self._taken.values() if len(held) < self._lanes), *({} for _ in coming)]

    def _load(self, held: Mapping[str, Any]) -> int:
        return sum(self._tokens[run] for run in held)

    def tell(self, device: int, run: str, error: str) -> None:
        """A device's run has ended, with an error or none."""
        del self._taken[device][run]
        self._ended.append((run, error))

    def give_back(self, device: int) -> int:
        """A device is gone: its runs are the next ones to be taken; how many they are."""
        self._coming.discard(device)
        lost = list(self._taken.pop(device, {}).values())
        self._waiting[:0] = lost
        return len(lost)

    def ended(self) -> list[tuple[str, str]]:
        """The runs that have ended since this was last asked, each with its error."""
        ended, self._ended = self._ended, []
        return ended

    def give_up(self, why: str) -> None:
        """No device will take the runs that wait."""
        self._ended += [(job["run"], why) for job in self._waiting]
        self._waiting.clear()


class Device:
    """A process with one device.

    Args:
        number: by which the queue knows it.
        cpus: cores that it has reserved.
        gpu: whether it has a GPU.
    """

    def __init__(self, number: int, cpus: float, gpu: bool):
        listen()
        runtime.set_threads(cpus)
        self._number = number
        self._device = torch.device("cuda", 0) if gpu else torch.device("cpu")

    def train(self, queue: Any, at_once: int) -> None:
        """Take runs and train them, so many at once, until there are none."""
        import ray

        with runtime.importing():
            from medtrain.experts.group import Group

        def take() -> Payload | None:
            content = ray.get(queue.take.remote(self._number))
            return None if content is None else Payload.model_validate(content)

        def tell(job: Payload, error: str) -> None:
            ray.get(queue.tell.remote(self._number, job.run, error))

        Group(self._device, take, tell, at_once).train()
