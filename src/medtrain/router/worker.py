"""One device with a base, its experts and a task's examples in memory, to be asked for losses under weights."""

from collections.abc import Sequence
from typing import Any

import torch

from medtrain import runtime
from medtrain.config import Config
from medtrain.router import inputs
from medtrain.router.examples import Examples
from medtrain.router.gate import Array
from medtrain.router.inputs import Inputs, Part
from medtrain.router.mixture import Mixture
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
    """Answers for one task at a time; base and experts stay from task to task where these have the same ones.

    Args:
        cpus: cores that it has reserved.
        gpu: whether it has a GPU.
    """

    def __init__(self, cpus: float, gpu: bool):
        runtime.set_threads(cpus)
        self._device = torch.device("cuda", 0) if gpu else torch.device("cpu")
        self._task: Task | None = None
        self._examples: Examples | None = None
        self._mixture: tuple[list[Any], Mixture] | None = None

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
            self._examples = None
            given = inputs.read(Store(task.root), task.fit)
            samples, passes = given.rows[task.part], task.fit.passes
            self._examples, self._task = Examples(self._held(given), samples, passes), task
        return self._examples

    def _held(self, given: Inputs) -> Mixture:
        key = inputs.mixture_key(given)
        if self._mixture is None or self._mixture[0] != key:
            self._mixture = None  # the old base leaves memory before the new one enters it
            self._mixture = key, inputs.mixture(given, self._device)
        return self._mixture[1]


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
