"""What a killed fit goes on from, in two files in turn, so that one of them is always whole; and how far it is."""

import json
from pathlib import Path
from typing import Any

from medtrain.storage import Store
from medtrain.tracking import Progress, Tracker

FOLDER, LOG = "state", "log"


class States:
    """State and log of a fit in its artifact's folder.

    Args:
        store: the artifact's.
        name: what trackers and progress lines call the fit.
        steps: how many steps it has at most.
        quiet: whether no progress is printed.
    """

    def __init__(self, store: Store, name: str, steps: int, quiet: bool = False):
        self._store = store
        found = [content for number in (0, 1) if (content := self._read(number)) is not None]
        first: dict[str, Any] = {"number": 0, "step": 0, "state": None}
        last = max(found, key=lambda content: int(content["number"]), default=first)
        self._number, self.step = int(last["number"]), int(last["step"])
        self.state: dict[str, Any] | None = last["state"]
        """What was saved last; None at a fit's beginning."""
        self._tracker = Tracker(Path(store.local(LOG)), self.step, name=name)
        self._bar = None if quiet else Progress(name, steps, done=self.step, unit="step")

    def save(self, state: dict[str, Any]) -> None:
        """Keep a state, and the last logged step with it."""
        self._number += 1
        content = {"number": self._number, "step": self.step, "state": state}
        self._store.write(self._path(self._number), json.dumps(content, allow_nan=False).encode())

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Log a step's numbers; a line is printed when it is time."""
        self.step = step
        self._tracker.log(metrics, step)
        if self._bar is not None:
            self._bar.advance(note=", ".join(f"{name} {value:.4g}" for name, value in metrics.items()))

    def forget(self) -> None:
        """The states are not needed any more."""
        self._store.delete(FOLDER)

    def close(self) -> None:
        """End the log."""
        self._tracker.close()

    def _path(self, number: int) -> str:
        return f"{FOLDER}/{number % 2}.json"

    def _read(self, number: int) -> dict[str, Any] | None:
        """A state file; None where it is absent or was cut while it was written."""
        if not self._store.exists(self._path(number)):
            return None
        try:
            content: dict[str, Any] = json.loads(self._store.read(self._path(number)))
        except ValueError:
            return None
        return content
