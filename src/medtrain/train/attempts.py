"""Attempts at a run: numbered and claimed, so that a writer that was given up finds out and stops.

A lost group may train on where nobody sees it, and a driver whose log was closed may still run. Whoever is about to
write what counts looks first whether its own claim is the last one, and still there: a run that was begun anew has
another's.
"""

import json
import uuid
from dataclasses import asdict, dataclass
from typing import Any

from medtrain.errors import TrainingError
from medtrain.storage import Store

FOLDER = "attempts"


class GivenUp(RuntimeError):
    """A later attempt of the same submission has taken over: this one ends, and that is no failure of the run."""


@dataclass(frozen=True)
class Attempt:
    """One group of workers' go at a run."""

    number: int
    submission: str = ""
    """The submission that it belongs to."""
    token: str = ""
    """What no other attempt has, though the run was deleted and begun anew."""


def claim(store: Store, submission: str = "") -> Attempt:
    """Begin a new attempt at a run: its number is one above every earlier one."""
    made = Attempt(1 + _last(store), submission, uuid.uuid4().hex)
    store.write(_path(made.number), json.dumps(asdict(made)).encode())
    return made


def check(store: Store, mine: Attempt) -> None:
    """See that nobody has taken over.

    Raises:
        GivenUp: a later attempt of the same submission has.
        TrainingError: another submission has, or has begun the run anew.
    """
    last = _last(store)
    owner = _read(store, last) if last else {}
    if owner.get("token") == mine.token:
        return
    by = f"attempt {last} has taken over" if last > mine.number else "another submission has begun it anew"
    message = f"attempt {mine.number} at this run was given up: {by}; end this job"
    if mine.submission and owner.get("submission") == mine.submission:
        raise GivenUp(message)
    raise TrainingError(message)


def _last(store: Store) -> int:
    return max((int(path.split("/")[-1]) for path in store.files(FOLDER)), default=0)


def _path(number: int) -> str:
    return f"{FOLDER}/{number:06d}"


def _read(store: Store, number: int) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(store.read(_path(number)))
    except ValueError:  # cut short: its writer was killed, and it is nobody's
        return {}
    return content
