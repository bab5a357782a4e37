"""Generation over Ray: chunks of rows go to a few actors, and each finished chunk is a whole file.

The only file of the room that knows Ray. A chunk whose file is whole is never made again, so that a job that was killed
goes on; a chunk whose actor died is given to a new one.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayTaskError

from medtrain import runtime
from medtrain.errors import GenerationError, MedtrainError
from medtrain.evaluate.cases import Answer, from_lines, to_lines
from medtrain.evaluate.systems import System
from medtrain.records import Record
from medtrain.runtime import RuntimeConfig
from medtrain.storage import Store
from medtrain.tracking import Progress

Answerer = Callable[[Sequence[Record]], list[Answer]]
Loader = Callable[[System, str], Answerer]
"""Opens a system on a device ("cpu", "cuda") and returns the function from records to answers; sent to the workers."""


@dataclass(frozen=True)
class Chunk:
    """Rows that one worker answers in one go, and the file that then holds the answers."""

    system: System
    path: str
    records: tuple[Record, ...]


@dataclass
class Pool:
    """Actors by number, with the chunk that each is busy with."""

    start: Callable[[], Any]
    busy: dict[Any, tuple[Any, Chunk]] = field(default_factory=dict)
    idle: list[Any] = field(default_factory=list)

    def give(self, chunk: Chunk) -> None:
        actor = self.idle.pop() if self.idle else self.start()
        self.busy[actor.answer.remote(chunk)] = (actor, chunk)

    def close(self) -> None:
        for actor in [*self.idle, *(actor for actor, _ in self.busy.values())]:
            ray.kill(actor)


class Worker:
    """One process with at most one system in memory."""

    def __init__(self, store: Store | None, loader: Loader, device: str, cpus: float):
        self._store, self._loader, self._device, self._cpus = store, loader, device, cpus
        self._system: System | None = None
        self._answer: Answerer | None = None

    def say(self, system: System, records: Sequence[Record]) -> list[Answer]:
        """A system's answers to some records."""
        if self._system != system or self._answer is None:
            self._answer = None  # the old system leaves memory before the new one enters it
            runtime.set_threads(self._cpus)
            self._answer = self._loader(system, self._device)
            self._system = system
        return self._answer(records)

    def answer(self, chunk: Chunk) -> int:
        """Answer a chunk, write its file and return how many rows it has."""
        assert self._store is not None
        answers = self.say(chunk.system, chunk.records)
        self._store.write(chunk.path, to_lines(answers))
        return len(answers)


def is_whole(store: Store, chunk: Chunk) -> bool:
    """Whether a chunk's file is there and has exactly the chunk's rows; one cut while it was written is not."""
    if not store.exists(chunk.path):
        return False
    return [answer.id for answer in from_lines(store.read(chunk.path))] == [record.id for record in chunk.records]


def generate(store: Store, chunks: Iterable[Chunk], loader: Loader, config: RuntimeConfig, progress: Progress) -> None:
    """Make the file of every chunk that has none yet, at most `config.workers` at a time; chunks are read as needed.

    Raises:
        GenerationError: workers died more than `config.max_failures` times.
        MedtrainError: what a worker raised about the user's settings or artifacts.
    """
    pool = Pool(lambda: _start(store, loader, config))
    again: deque[Chunk] = deque()
    source = iter(chunks)
    deaths = 0
    try:
        while True:
            while len(pool.busy) < config.workers and (chunk := _next(store, again, source, progress)) is not None:
                pool.give(chunk)
            if not pool.busy:
                return
            done, _ = ray.wait(list(pool.busy), num_returns=1)
            actor, chunk = pool.busy.pop(done[0])
            rows = _outcome(done[0])
            if rows is None:
                deaths += 1
                _check_deaths(deaths, config.max_failures, chunk)
                again.append(chunk)
            else:
                pool.idle.append(actor)
                progress.advance(rows, chunk.system.name)
    finally:
        pool.close()


def ask(system: System, records: Sequence[Record], loader: Loader, config: RuntimeConfig) -> list[Answer]:
    """A system's answers to a few records, by one worker and without any file.

    Raises:
        GenerationError: the worker died.
        MedtrainError: what the worker raised about the user's settings or artifacts.
    """
    worker = _start(None, loader, config)
    try:
        answers: list[Answer] | None = _outcome(worker.say.remote(system, records))
    finally:
        ray.kill(worker)
    if answers is None:
        raise GenerationError(
            f"system {system.name!r}: its worker died, most often for lack of memory; use a larger node"
        )
    return answers


def _start(store: Store | None, loader: Loader, config: RuntimeConfig) -> Any:
    gpu = runtime.wants_gpu(config)
    remote = ray.remote(num_cpus=config.cpus_per_worker, num_gpus=int(gpu))(Worker)
    return remote.remote(store, loader, "cuda" if gpu else "cpu", config.cpus_per_worker)


def _next(store: Store, again: deque[Chunk], source: Iterable[Chunk], progress: Progress) -> Chunk | None:
    """The next chunk to make: one whose worker died, else the next that has no whole file."""
    if again:
        return again.popleft()
    for chunk in source:
        if not is_whole(store, chunk):
            return chunk
        progress.advance(len(chunk.records), "kept")
    return None


def _outcome(reference: Any) -> Any:
    """What a worker returned, None if it died; a user's error comes out as it was raised."""
    try:
        return ray.get(reference)
    except runtime.lost():
        return None
    except RayTaskError as error:
        if isinstance(error.cause, MedtrainError):
            raise error.cause from None
        raise


def _check_deaths(deaths: int, allowed: int, chunk: Chunk) -> None:
    print(f"generation: a worker died on {chunk.path} ({deaths} so far); a new one goes on with it", flush=True)
    if 0 <= allowed < deaths:
        raise GenerationError(
            f"runtime.max_failures={allowed}: {deaths} workers died, the last one on {chunk.path}; most often memory "
            "runs out: lower generation.batch_rows or runtime.workers and run the job again, finished chunks are kept"
        )
