"""The one place where a record's task meets its wording: how its question is asked and its answer written."""

import hashlib
from types import ModuleType
from typing import Any

from medtrain import plugins
from medtrain.records import Record
from medtrain.tokens.wording._lines import enumerate_names, normal, pick

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


def question(record: Record, query: str, seed: int) -> str:
    """A record's first query as it is asked, the same for the same seed and id.

    A phrasing that holds `{query}` goes around the query; where the task has none, the query stands as it is. A record
    without a query is asked by a phrasing that needs none.
    """
    words = wording(record.task)
    if record.gold is None or not any(words.INSTRUCTIONS.values()):
        return query
    wraps = bool(query.strip())
    phrasings = [text for text in pick(words.INSTRUCTIONS, record.language) if ("{query}" in text) == wraps]
    if not phrasings:
        return query
    digest = hashlib.blake2b(f"{seed}/{record.id}".encode(), digest_size=8).digest()
    phrasing = phrasings[int.from_bytes(digest, "big") % len(phrasings)]
    names = words.asked(record.gold)
    types, lines = enumerate_names(names, record.language), "\n".join(normal(name) for name in names)
    return phrasing.format(query=query.strip(), types=types, lines=lines)


def answer(record: Record, context: str | None = None) -> str:
    """The answer to a structured record, of the beginning of its context only where one is given."""
    assert record.gold is not None
    words = wording(record.task)
    gold: dict[str, Any] = record.gold if context is None else words.restrict(record.gold, context)
    return str(words.render(gold, record.language))
