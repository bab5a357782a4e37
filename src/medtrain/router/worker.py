"""One device with a base, its experts and a task's examples in memory, to be asked for losses under weights."""

from collections.abc import Sequence
from typing import Any

import torch

from medtrain import runtime
from medtrain.config import Config
from medtrain.router.examples import Examples
from medtrain.router.gate import Array
from medtrain.router.held import Held
from medtrain.router.inputs import Part
from medtrain.router.objective import Rows
from medtrain.router.settings import FitConfig
from medtrain.storage import Store


class Task(Config):
    """Which rows of which fit, so that a device that has just been started knows all it needs."""

    root: str
    """The storage root."""
    fit: FitConfig
    part: Part


class Device:
    """Answers for one task at a time; base, experts and rows stay from task to task where these have the same ones.

    Args:
        cpus: cores that it has reserved.
        gpu: whether it has a GPU.
    """

    def __init__(self, cpus: float, gpu: bool):
        runtime.set_threads(cpus)
        self._held = Held(torch.device("cuda", 0) if gpu else torch.device("cpu"))
        self._task: Task | None = None
        self._examples: Examples | None = None

    def ready(self) -> None:
        """Return as soon as the process is there."""

    def losses(self, task: dict[str, Any], weights: Array) -> list[float]:
        """The summed loss of each candidate of a group (C, places, experts)."""
        return self._of(task).losses([weights])[0]

    def gradient(self, task: dict[str, Any], weights: Array, rows: Rows) -> tuple[float, Array]:
        """The summed loss of a micro-batch, and its gradient in the weights (places, experts)."""
        return self._of(task).gradients(weights, [rows])[0]

    def _of(self, content: dict[str, Any]) -> Examples:
        task = Task.model_validate(content)
        if self._examples is None or task != self._task:
            self._examples = None  # what it refers to may have to leave memory
            given = self._held.inputs(Store(task.root), task.fit)
            self._examples, self._task = self._held.examples(given, task.part), task
        return self._examples


class Here:
    """The same in this process, without Ray."""

    def __init__(self, device: Device, task: Task):
        self._device, self._task = device, task.model_dump(mode="json")

    def losses(self, groups: Sequence[Array]) -> list[list[float]]:
        """As `Evaluator` says."""
        return [self._device.losses(self._task, group) for group in groups]

    def gradients(self, weights: Array, batches: Sequence[Rows]) -> list[tuple[float, Array]]:
        """As `Evaluator` says."""
        return [self._device.gradient(self._task, weights, rows) for rows in batches]
