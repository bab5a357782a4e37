"""Word that this process will end soon: SIGTERM, or a spot machine's notice; the loop then saves and leaves."""

import signal
import threading
from collections.abc import Callable

POLL_STEPS = 4
"""Steps between two questions to the cluster; an answer takes all ranks some milliseconds."""
_TERMINATED = threading.Event()


class Leaving(RuntimeError):
    """The state is saved and the group ends; the driver starts it again where there is room."""


def listen() -> None:
    """From now on SIGTERM is word to leave and no longer the end; call it in the process's main thread."""
    signal.signal(signal.SIGTERM, lambda *_: _TERMINATED.set())


class Notice:
    """Whether this process has been told to leave.

    Args:
        announced: asks the cluster whether a node of this group is about to go; None where it cannot tell. It is a
            barrier: every rank must ask equally often, whatever else it has heard.
    """

    def __init__(self, announced: Callable[[], object | None] | None = None):
        self._announced = announced

    def given(self, step: int) -> str:
        """What the word was before this step, empty as long as there is none; collective."""
        told = self._announced() if self._announced is not None and step % POLL_STEPS == 0 else None
        if _TERMINATED.is_set():
            return "SIGTERM"
        return "" if told is None else "a node is about to go"
