"""Checkpoints: the trainable state whole, on any number of workers and any ZeRO stage; whole or absent.

Each lies in a directory of its own, `checkpoints/step-<step>-attempt-<attempt>/`, and its marker is written last.
Nothing is renamed, so the same rule holds on disks and object stores. A writer that was given up (`attempts.py`) stops.
"""

import contextlib
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from safetensors.torch import load

from medtrain.errors import TrainingError
from medtrain.storage import Store
from medtrain.train import attempts
from medtrain.train.attempts import Attempt
from medtrain.train.frames import frames
from medtrain.train.memory.holder import Bytes
from medtrain.train.state import State

FOLDER, MARKER = "checkpoints", "COMPLETE.json"


@dataclass(frozen=True)
class Progress:
    """Where a run stands, beside its tensors."""

    step: int
    """Steps of the plan that are done."""
    best_step: int = 0
    """The step with the lowest validation loss so far, 0 before the first validation."""
    best_loss: float = float("inf")
    """That loss, nats a token."""
    stale: int = 0
    """Validations since the best one."""
    below_one_step: int = 0
    """The first step whose training loss was below 1 (BioQwen's criterion), 0 if none was."""
    first_loss: float = float("nan")
    last_loss: float = float("nan")
    trained_tokens: int = 0
    """Tokens trained so far, over all steps."""
    recent: tuple[float, ...] = ()
    """The last losses, by which a spike is judged."""
    rollbacks: int = 0
    """How often the run has gone back after trouble."""
    skipped: tuple[int, ...] = ()
    """Steps (from 0) whose batch is left out."""
    skipped_ids: tuple[str, ...] = ()
    """The samples of those batches."""
    lowered: tuple[int, ...] = ()
    """Steps (from 0) from which on the learning rate is half of what it was; one that is here twice halves it twice."""

    @property
    def updates(self) -> int:
        """Optimizer steps that changed the weights."""
        return self.step - sum(step < self.step for step in self.skipped)

    @property
    def rate_scale(self) -> float:
        """What the learning rate of the next step is multiplied with, wherever the run went back to or was killed."""
        return float(0.5 ** sum(step <= self.step for step in self.lowered))


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint read back."""

    path: str
    progress: Progress
    state: State


def encode(progress: Progress, state: State) -> dict[str, list[bytes | memoryview]]:
    """A checkpoint as its files, each in parts; the state's memory is not copied, so it must not change."""
    return {"state.safetensors": frames(state), "progress.json": [json.dumps(asdict(progress)).encode()]}


def joined(progress: Progress, state: State) -> dict[str, Bytes]:
    """A checkpoint as its files, each whole.

    They are put together by NumPy, which lets other threads run meanwhile; `bytes.join` stops all while it copies.
    """
    files = encode(progress, state).items()
    return {name: np.concatenate([np.frombuffer(part, np.uint8) for part in parts]) for name, parts in files}


def decode(path: str, files: Mapping[str, bytes | Bytes]) -> Checkpoint:
    """The checkpoint that whole files hold."""
    content: dict[str, Any] = json.loads(bytes(files["progress.json"]))
    content |= {name: tuple(value) for name, value in content.items() if isinstance(value, list)}
    return Checkpoint(path, Progress(**content), load(bytes(files["state.safetensors"])))


def checksum(parts: Iterable[bytes | memoryview]) -> str:
    """CRC-32 of a file in parts, hexadecimal: it tells damage; many a processor takes seconds for SHA-256 of a GB."""
    found = 0
    for part in parts:
        found = zlib.crc32(part, found)
    return f"{found:08x}"


def checksums(files: Mapping[str, bytes | Bytes]) -> dict[str, str]:
    """The checksum of each file."""
    return {name: checksum([np.frombuffer(content, np.uint8).data]) for name, content in files.items()}


def write(store: Store, attempt: Attempt, progress: Progress, state: State) -> str:
    """Write a checkpoint, the marker last, when its bytes have left this machine's memory and were read back.

    Raises:
        GivenUp: a later attempt of the same submission has taken over.
        TrainingError: another submission has, or what was read back is not what was written.
        OSError: the storage refuses, a full disk for instance; the last whole checkpoint is untouched.
    """
    attempts.check(store, attempt)
    folder = _folder(progress.step, attempt)
    sums = {}
    for name, parts in encode(progress, state).items():
        store.write_through(f"{folder}/{name}", *parts)
        sums[name] = checksum(parts)
        if not store.holds(f"{folder}/{name}", *parts):
            raise TrainingError(
                f"checkpoint {folder}/{name}: reads back otherwise than written; check {store.root}'s disk"
            )
    attempts.check(store, attempt)
    # Older checkpoints are deleted next: without its marker this one is none.
    store.write_through(f"{folder}/{MARKER}", json.dumps(sums).encode())
    return folder


def _folder(step: int, attempt: Attempt) -> str:
    return f"{FOLDER}/step-{step:08d}-attempt-{attempt.number:06d}"


def discard(store: Store, attempt: Attempt, step: int) -> None:
    """Take away what an attempt has written of a checkpoint, as far as storage allows."""
    with contextlib.suppress(OSError):
        store.delete(_folder(step, attempt))


def last_whole_step(store: Store) -> int:
    """The step of the newest checkpoint that has its marker, 0 if there is none."""
    return max(whole_steps(store), default=0)


def whole_steps(store: Store) -> set[int]:
    """The steps of all checkpoints that have their marker."""
    whole = [name for name in store.folders(FOLDER) if store.exists(f"{FOLDER}/{name}/{MARKER}")]
    return {_numbers(name)[0] for name in whole}


def latest(store: Store, warn: Any = print) -> Checkpoint | None:
    """The last whole checkpoint; damaged and partial ones are skipped with a warning."""
    for name in sorted(store.folders(FOLDER), reverse=True):
        folder = f"{FOLDER}/{name}"
        found = read(store, folder)
        if isinstance(found, Checkpoint):
            return found
        warn(f"checkpoint {folder} is skipped: {found}")
    return None


def read(store: Store, folder: str) -> Checkpoint | str:
    """A checkpoint if it is whole, else what is wrong with it."""
    if not store.exists(f"{folder}/{MARKER}"):
        return "it is partial (its marker is missing)"
    try:
        sums = json.loads(store.read(f"{folder}/{MARKER}"))
        files = {name: store.read(f"{folder}/{name}") for name in sums}
    except (ValueError, OSError) as error:
        return f"it cannot be read ({type(error).__name__})"
    damaged = [name for name, found in checksums(files).items() if found != sums[name]]
    if damaged or set(files) != {"state.safetensors", "progress.json"}:
        return f"it is damaged ({', '.join(damaged) or 'wrong files'})"
    return decode(folder, files)


def prune(store: Store, keep: int, best_step: int, written: str) -> None:
    """Delete all but the newest `keep` whole checkpoints and the best one; partial ones older than these go too.

    Args:
        store: the run's folder.
        keep: how many.
        best_step: the best one's step.
        written: the folder of the one just written. Those that earlier attempts made of later steps were passed over
            when this one began, as damaged: they count for nothing and go.
    """
    step, attempt = _numbers(written)
    names = sorted(store.folders(FOLDER), reverse=True)
    behind = [name for name in names if _numbers(name)[0] <= step]
    whole = [name for name in behind if store.exists(f"{FOLDER}/{name}/{MARKER}")]
    kept = set(whole[:keep]) | {name for name in whole if name.startswith(f"step-{best_step:08d}-")}
    late = [name for name in names if name not in behind and _numbers(name)[1] < attempt]
    for name in [*late, *(name for name in behind if name not in kept and whole and name < whole[0])]:
        store.delete(f"{FOLDER}/{name}")


def _numbers(folder: str) -> tuple[int, int]:
    """The step and the attempt of a checkpoint's folder."""
    _, step, _, attempt = folder.rpartition("/")[2].split("-")
    return int(step), int(attempt)
