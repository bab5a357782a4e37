"""PubTator files: a title line, an abstract line, mention lines and relation lines for each document.

Offsets are half-open code points over `title + " " + abstract`. Columns are separated by TABs and by nothing else.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtrain.data.source import Problem, SourceConfig, Unit, check_file, locate
from medtrain.data.text import decode
from medtrain.records import Record, Split, Turn

_PASSAGE = re.compile(r"([^|\t]+)\|([ta])\|(.*)", re.DOTALL)


class PubTatorConfig(SourceConfig):
    """A PubTator corpus: one file for each split."""

    files: dict[Split, str]
    """Split -> file name below path."""


@dataclass(frozen=True, slots=True)
class Mention:
    """`text` is the document's [start, end); `ids` are its concepts without blanks, prefixes kept; `parts` names the
    members of a composite as the corpus writes them, which is not how the text does."""

    start: int
    end: int
    text: str
    type: str
    ids: tuple[str, ...]
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """One document; `relations` are (type, id, id)."""

    id: str
    line: int
    text: str
    mentions: tuple[Mention, ...]
    relations: tuple[tuple[str, str, str], ...]


def units(config: PubTatorConfig, root: Path) -> list[Unit]:
    """One unit for each file.

    Raises:
        DataError: see `source.locate` and `source.check_file`.
    """
    folder = locate(config, root)
    return [Unit(str(check_file(folder / name, config.label)), name, split) for split, name in config.files.items()]


def documents(unit: Unit) -> Iterator[Document | Problem]:
    """The documents of a file; the last one needs no blank line behind it."""
    text, problems = decode(Path(unit.path).read_bytes(), unit.name)
    yield from problems
    block: list[str] = []
    first = 1
    for number, line in enumerate([*text.split("\n"), ""], 1):
        line = line.removesuffix("\r")
        if line.strip():
            first = first if block else number
            block.append(line)
        elif block:
            yield from _document(block, first, unit.name)
            block = []


def _document(block: list[str], first: int, name: str) -> Iterator[Document | Problem]:
    passages: dict[str, str] = {}
    rest: list[tuple[int, list[str]]] = []
    id = ""
    for number, line in enumerate(block, first):
        passage = _PASSAGE.fullmatch(line)
        if passage and len(passages) < 2:
            id = passage[1]
            passages[passage[2]] = passage[3]
        else:
            rest.append((number, line.split("\t")))
    if set(passages) != {"t", "a"}:
        yield Problem(f"{name}:{first}", "no_passages", "the block has no title line and abstract line", id)
        return
    text = passages["t"] + " " + passages["a"]
    mentions: list[Mention] = []
    relations: list[tuple[str, str, str]] = []
    for number, columns in rest:
        position = f"{name}:{number}"
        if columns[0] != id:
            yield Problem(position, "foreign_line", "the line belongs to another document; left out", id, "changed")
        elif len(columns) >= 6:
            mention = _mention(columns, text)
            if isinstance(mention, str):
                yield Problem(position, "offset_mismatch", f"{mention}; the mention is left out", id, "changed")
            else:
                if mention.text != columns[3]:
                    yield Problem(position, "surface_blanks", "outer blanks beyond the span ignored", id, "changed")
                mentions.append(mention)
        elif 4 <= len(columns) <= 5:
            relations.append((columns[1], columns[2].strip(), columns[3].strip()))
        else:
            yield Problem(position, "unknown_line", f"{len(columns)} column(s); left out", id, "changed")
    yield Document(id, first, text, tuple(mentions), tuple(relations))


def _mention(columns: list[str], text: str) -> Mention | str:
    """The mention, or what is wrong with it."""
    if not (columns[1].isdecimal() and columns[2].isdecimal()):
        return "offsets are no numbers"
    start, end = int(columns[1]), int(columns[2])
    if not start < end <= len(text):
        return f"span {start}-{end} is not in a text of {len(text)} characters"
    surface = text[start:end]
    if surface != columns[3] and surface.strip() != columns[3].strip():
        return f"span {start}-{end} holds another text than the line says"
    ids = tuple(i.strip() for i in re.split(r"[|+]", columns[5]) if i.strip() not in ("", "-1"))
    parts = tuple(p for p in columns[6].split("|") if p) if len(columns) > 6 else ()
    return Mention(start, end, surface, columns[4], ids, parts)


def ner_record(document: Document, unit: Unit, label: str, types: dict[str, str]) -> Record:
    """A document as a recognition task over its whole text; `types` maps the corpus's types to those asked for."""
    kept = sorted((m for m in document.mentions if m.type in types), key=lambda m: (m.start, m.end))
    entities = [{"type": types[m.type], "text": m.text, "start": m.start, "end": m.end} for m in kept]
    composites = [{"type": types[m.type], "text": m.text, "parts": list(m.parts)} for m in kept if m.parts]
    gold = {"entities": entities, "types": list(dict.fromkeys(types.values()))}
    meta = {"composites": composites} if composites else {}
    return document_record(document, unit, (label, "ner", "NER"), gold, meta)


def relation_record(document: Document, unit: Unit, label: str, types: list[str]) -> Iterator[Record | Problem]:
    """A document's relations between concepts, each concept named by its first mention in the text."""
    names: dict[str, str] = {}
    for mention in sorted(document.mentions, key=lambda m: m.start):
        for id in mention.ids:
            names.setdefault(id, mention.text)
    relations: list[dict[str, str]] = []
    for kind, head, tail in document.relations:
        if kind not in types or head not in names or tail not in names:
            detail = "no mention bears one of its ids, or its type is not asked for; left out"
            yield Problem(f"{unit.name}:{document.line}", "unnamed_relation", detail, document.id, "changed")
            continue
        relation = {"type": kind, "head": names[head], "tail": names[tail]}
        if relation not in relations:
            relations.append(relation)
    yield document_record(document, unit, (label, "relations", "RE"), {"relations": relations, "types": types}, {})


def document_record(
    document: Document, unit: Unit, kind: tuple[str, str, str], gold: dict[str, Any], meta: dict[str, Any]
) -> Record:
    """A record over a document's whole text; `kind` is (source, task, category)."""
    label, task, category = kind
    turns = (Turn("user", context=document.text), Turn("assistant", trained=True))
    return Record(
        id=f"{label}:{document.id}",
        document_id=f"pmid:{document.id}",
        source=label,
        task=task,
        category=category,
        language="en",
        split=unit.split,
        turns=turns,
        gold=gold,
        meta=meta,
    )
