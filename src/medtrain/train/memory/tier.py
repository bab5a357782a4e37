"""Rank 0's side of the memory tier: states out to holders behind the training, and back in."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from medtrain.train import checkpoint
from medtrain.train.checkpoint import Checkpoint, Progress
from medtrain.train.memory.holder import Files, Offer
from medtrain.train.state import State


class MemoryTier:
    """Sends states to holders, one at a time.

    Args:
        attempt: this attempt's number.
        send: keeps a state in every holder that is to have it; may raise, which costs this state only, and must end in
            any case: the run's end waits for it.
        say: where a failure is said, once.
    """

    def __init__(self, attempt: int, send: Callable[[Offer, Files], Any], say: Any = print):
        self._attempt, self._send, self._say = attempt, send, say
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="memory-tier")
        self._running: Future[None] | None = None
        self._state: State | None = None
        self._failed = False

    def save(self, progress: Progress, state: State) -> None:
        """Begin to send a state, which must not change; it is passed over where the last is still on its way."""
        if not self.reading:
            self._running, self._state = self._thread.submit(self._work, progress, state), state

    @property
    def reading(self) -> list[State]:
        """The state that is on its way, if one is."""
        return [self._state] if self._running is not None and not self._running.done() and self._state else []

    def finish(self) -> None:
        """Wait for what is on its way."""
        self._thread.shutdown()

    def _work(self, progress: Progress, state: State) -> None:
        files = checkpoint.joined(progress, state)
        try:
            self._send(Offer(progress.step, self._attempt, progress.best_step), (files, checkpoint.checksums(files)))
        except Exception as error:  # whatever it is, a lost holder or a full object store: the durable tier remains
            if not self._failed:
                self._say(
                    f"memory tier: step {progress.step} is not on every node ({type(error).__name__})", flush=True
                )
            self._failed = True


def opened(offer: Offer, files: Files | None) -> Checkpoint | str:
    """A state read back, else what is wrong with it."""
    if files is None:
        return "it was forgotten or its holder is gone"
    contents, wanted = files
    damaged = [name for name, found in checkpoint.checksums(contents).items() if found != wanted.get(name)]
    if damaged:
        return f"it is damaged ({', '.join(damaged)})"
    return checkpoint.decode(f"memory (step {offer.step} of attempt {offer.attempt})", contents)
