"""A process of a study under Ray Tune; it stays for many trials, and what they share stays in its memory."""

import os
from typing import Any

import ray
import ray.util
from ray import tune

from medtrain.config import parse
from medtrain.search.runner import HOW, Runner, RunnerConfig
from medtrain.search.trial import Order

ORDER, COMMON = "order", "common"
"""Keys of a trial's config: its order as JSON, and what all trials of the study have in common."""


class TrialActor(tune.Trainable):
    """Trials, one after another; a result with `how` is a trial's last one.

    A trial begins with its first step: Ray Tune makes processes for trials that it then gives to another process.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Called once in the process's life."""
        os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address  # for jobs that a trial starts
        self._runner = Runner(parse(RunnerConfig, config[COMMON]), ray.util.get_node_ip_address())
        self._next: str | None = config[ORDER]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Go over to another trial."""
        self._runner.stop()
        self._next = new_config[ORDER]
        return True

    def step(self) -> dict[str, Any]:
        """Numbers on the way, or the end."""
        if self._next is not None:
            self._runner.begin(Order.model_validate_json(self._next))
            self._next = None
        found = self._runner.step()
        return {**found, "done": True} if HOW in found else found

    def cleanup(self) -> None:
        """Called when the process is not needed any more."""
        self._runner.stop()
