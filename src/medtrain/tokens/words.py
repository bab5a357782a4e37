"""The one place where a record's task meets its wording: the instruction asked, the answer written, the answer read."""

import hashlib
from types import ModuleType
from typing import Any

from medtrain import plugins
from medtrain.records import Record
from medtrain.tokens.wording._lines import enumerate_names, pick

ROOM, KIND, PLAIN = "tokens", "wording", "plain"


def wording(task: str) -> ModuleType:
    """The wording of a task: the plug-in of its name, else the plain one."""
    return plugins.load(ROOM, KIND, task if task in plugins.files(ROOM, KIND) else PLAIN)


def has_wording(task: str) -> bool:
    """Whether a task's answers have a form of their own, so that cutting its context may make an answer wrong."""
    return task != PLAIN and task in plugins.files(ROOM, KIND)


def is_structured(record: Record) -> bool:
    """Whether the record's answer can be written from its gold."""
    return record.gold is not None and has_wording(record.task)


def instruction(record: Record, seed: int) -> str:
    """A phrasing of the record's task, the same for the same seed and id; empty where the task has no phrasings."""
    words = wording(record.task)
    if record.gold is None or not any(words.INSTRUCTIONS.values()):
        return ""
    phrasings = pick(words.INSTRUCTIONS, record.language)
    digest = hashlib.blake2b(f"{seed}/{record.id}".encode(), digest_size=8).digest()
    phrasing = phrasings[int.from_bytes(digest, "big") % len(phrasings)]
    return phrasing.format(types=enumerate_names(words.asked(record.gold), record.language))


def answer(record: Record, context: str | None = None) -> str:
    """The answer to a structured record, of the beginning of its context only where one is given."""
    assert record.gold is not None
    words = wording(record.task)
    gold: dict[str, Any] = record.gold if context is None else words.restrict(record.gold, context)
    return str(words.render(gold, record.language))
