"""Checkpoints written behind the training: the state is on the host already, a thread writes it, one at a time."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from medtrain.storage import Store
from medtrain.train import checkpoint
from medtrain.train.attempts import Attempt
from medtrain.train.checkpoint import Progress
from medtrain.train.state import State


class Saver:
    """The one writer of a run's checkpoints, on rank 0.

    Storage that refuses (a full disk) does not end the run: it is said, the partial files are taken away, the last
    whole checkpoint stays, and the next interval tries again, with the best state too if that was refused.

    Args:
        store: the run's folder.
        attempt: this attempt, which fences out a writer from before.
        keep: how many of the newest checkpoints are kept, beside the best.
        say: where warnings go.
    """

    def __init__(self, store: Store, attempt: Attempt, keep: int, say: Any = print):
        self._store, self.attempt, self._keep, self._say = store, attempt, keep, say
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._running: Future[str] | None = None
        self._state: State | None = None
        self._owed: tuple[Progress, State] | None = None
        self._refused = ""
        self._last_step = checkpoint.last_whole_step(store)

    def save(self, progress: Progress, state: State) -> None:
        """Begin to write a checkpoint; waits where the one before is still being written. `state` must not change.

        Raises:
            GivenUp, TrainingError: the one before could not be made: see `checkpoint.write`.
        """
        self._wait()
        self._running, self._state = self._thread.submit(self._write, progress, state), state

    @property
    def reading(self) -> list[State]:
        """The state that is being written, and the best one where storage refused it: their memory is not free."""
        written = [self._state] if self._running is not None and not self._running.done() and self._state else []
        return [*written, self._owed[1]] if self._owed is not None else written

    def finish(self) -> str:
        """Wait for the last checkpoint.

        Returns:
            Why storage refused it, or nothing.

        Raises:
            GivenUp, TrainingError: as in `save`.
        """
        self._wait()
        self._thread.shutdown()
        return self._refused

    def _wait(self) -> None:
        if self._running is not None:
            running, self._running = self._running, None
            self._refused = running.result()

    def _write(self, progress: Progress, state: State) -> str:
        """Write the best state where it is owed, and this one; why storage refused this one, or nothing."""
        if self._owed is not None and (self._owed[0].step != progress.best_step or not self._put(*self._owed)):
            self._owed = None
        refused = self._put(progress, state)
        if refused and progress.best_step == progress.step:
            self._owed = progress, state
        return refused

    def _put(self, progress: Progress, state: State) -> str:
        """Write one and prune; why storage refused it, or nothing."""
        try:
            written = checkpoint.write(self._store, self.attempt, progress, state)
        except OSError as error:
            checkpoint.discard(self._store, self.attempt, progress.step)
            last = self._last_step  # remembered: storage that refuses a file may refuse to be listed too
            refused = (
                f"checkpoint of step {progress.step}: {self._store.root} refuses ({error.strerror or error}); "
                f"the last whole one is {'step ' + str(last) if last else 'none'}"
            )
            self._say(f"{refused}; training goes on, the next interval tries again", flush=True)
            return refused
        self._last_step = max(self._last_step, progress.step)
        try:
            checkpoint.prune(self._store, self._keep, progress.best_step, written)
        except OSError as error:
            self._say(f"old checkpoints of {self._store.root} stay: {error.strerror or error}", flush=True)
        return ""
