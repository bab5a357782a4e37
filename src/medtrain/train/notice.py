"""Word that this process will end soon: SIGTERM, or a spot machine's notice; the loop then saves and leaves."""

import signal
import threading
from collections.abc import Callable

POLL_STEPS = 4
"""Short steps between two questions to the cluster; an answer takes all ranks some milliseconds."""
LONG_S = 1.0
"""Where a step takes longer, the question comes at each: saving takes its part of a spot machine's half a minute."""
_TERMINATED = threading.Event()


class Leaving(RuntimeError):
    """The state is saved, as far as storage takes it, and the group ends; the driver starts it where there is room."""


def listen() -> None:
    """From now on SIGTERM is word to leave and no longer the end; call it in the process's main thread."""
    signal.signal(signal.SIGTERM, lambda *_: _TERMINATED.set())


class Notice:
    """Whether this process has been told to leave.

    Args:
        announced: asks the cluster whether a node of this group is about to go; None where it cannot tell. It is a
            barrier: every rank must ask equally often, whatever else it has heard and whatever its own clock says.
    """

    def __init__(self, announced: Callable[[], object | None] | None = None):
        self._announced = announced

    def given(self, step: int, step_s: float) -> str:
        """What the word was before this step, empty as long as there is none; collective.

        Args:
            step: the step that is about to begin.
            step_s: seconds that a step takes, the same number on all ranks; infinite where it is not known yet.
        """
        due = step % POLL_STEPS == 0 or step_s > LONG_S
        told = self._announced() if self._announced is not None and due else None
        if _TERMINATED.is_set():
            return "SIGTERM"
        return "" if told is None else "a node is about to go"
