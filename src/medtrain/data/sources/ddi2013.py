"""DDI-2013, drug-drug interactions in DrugBank texts and MEDLINE abstracts (Herrero-Zazo et al., J Biomed Inform 2013).

An XML file for each document, in a zip or folder: sentences with entities and, for every two of them, a pair. The ends
of `charOffset` are inclusive, `a-b;c-d` is an entity in two pieces. The two test sets are different documents: that for
entities has pairs too, all of them false because nobody judged them, and is kept out of the relations.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from xml.etree.ElementTree import Element

from medtrain.data import archive, xmlfiles
from medtrain.data.source import Example, Problem, SourceConfig, Unit, locate
from medtrain.records import Record, Split, Turn

SUFFIX = ".xml"
TYPES = ("drug", "brand", "group", "drug_n")
RELATIONS = ("mechanism", "effect", "advise", "int")
FOLDERS: dict[str, dict[str, Split]] = {
    "Train": {"ner": "train", "relations": "train"},
    "Test for DDI Extraction task": {"relations": "test"},
    "Test for DrugNER task": {"ner": "test"},
}
"""Folder of the corpus -> task -> split; a folder does not serve a task that it does not list."""
_PIECE = re.compile(r"(\d{1,9})-(\d{1,9})")
_DOCUMENT = (
    '<document id="D.d{0}"><sentence id="D.d{0}.s0" text="Do not mix A or B acid. ">'
    '<entity id="D.d{0}.s0.e0" charOffset="11-11;18-21"\n type="drug" text="A acid"/>'
    '<entity id="D.d{0}.s0.e1" charOffset="16-21" type="brand" text="B acid"/>'
    '<pair id="D.d{0}.s0.p0" e1="D.d{0}.s0.e0" e2="D.d{0}.s0.e1" ddi="true" type="advise"/></sentence>'
    '<sentence id="D.d{0}.s1" text="Take B.&#xd;&#xa;">'
    '<entity id="D.d{0}.s1.e0" charOffset="5-5" type="drug" text="B"/></sentence></document>'
)
EXAMPLE = Example(
    {
        "DDICorpus/Train/DrugBank/A [b]_ddi.xml": _DOCUMENT.format(1),
        "DDICorpus/Test/Test for DDI Extraction task/MedLine/2.xml": _DOCUMENT.format(2),
        "DDICorpus/Test/Test for DrugNER task/MedLine/3.xml": _DOCUMENT.format(3),
    },
    records=2,
)


class Config(SourceConfig):
    """The zip, or the folder that it holds."""

    task: Literal["relations", "ner"] = "relations"
    """What is asked: the interactions of a sentence, or the drugs of a document (for both, take the source twice, by
    two names)."""


@dataclass(frozen=True, slots=True)
class Entity:
    """`pieces` are half-open and into the sentence; `sound` says whether they hold the text that the corpus names."""

    id: str
    type: str
    text: str
    pieces: tuple[tuple[int, int], ...]
    sound: bool


def units(config: Config, root: Path) -> list[Unit]:
    """Groups of files.

    Raises:
        DataError: there is no XML file, or the zip is damaged or unsafe.
    """
    return archive.units(locate(config, root), config.label, "train", SUFFIX)


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """One record for each sentence with two drugs or more (relations), or for each document (ner)."""
    for item in archive.contents(unit, SUFFIX):
        if isinstance(item, Problem):
            yield item
            continue
        name, content = item
        folder = next((part for part in PurePosixPath(name).parts if part in FOLDERS), None)
        split = FOLDERS[folder].get(config.task) if folder is not None else None
        if split is None:
            rule = "no_split" if folder is None else "other_task"
            yield Problem(name, rule, f"its folder is not among those for {config.task}")
            continue
        try:
            document = xmlfiles.parse(content)
        except ValueError as error:
            yield Problem(name, "bad_xml", str(error))
            continue
        if config.task == "ner":
            yield from _ner_record(document, name, split, config)
        else:
            yield from _relation_records(document, name, split, config)


def _entities(sentence: Element, position: str) -> Iterator[Entity | Problem]:
    text = sentence.get("text", "")
    for element in sentence.iter("entity"):
        id, kind, surface, offset = (element.get(key, "") for key in ("id", "type", "text", "charOffset"))
        pieces = [_PIECE.fullmatch(piece) for piece in offset.split(";")]
        if kind not in TYPES or not surface or surface != surface.strip() or not all(pieces):
            detail = "no text, no offsets, or a type outside the four; left out"
            yield Problem(position, "bad_entity", detail, id, "changed")
            continue
        spans = tuple((int(piece[1]), int(piece[2]) + 1) for piece in pieces if piece)
        parts = [text[start:end] for start, end in spans]
        # The name of an entity in pieces joins these by a blank, or by nothing.
        sound = parts[0] == surface if len(parts) == 1 else _glued("".join(parts)) == _glued(surface)
        yield Entity(id, kind, surface, spans, sound)


def _glued(text: str) -> str:
    return "".join(text.split())


def _ner_record(document: Element, position: str, split: Split, config: Config) -> Iterator[Record | Problem]:
    """A document's sentences one behind the other, as they stood in it: they bring their own blanks and line ends."""
    id = document.get("id", "")
    text = ""
    found: list[tuple[int, dict[str, Any]]] = []
    pieces: list[dict[str, Any]] = []
    for sentence in document.iter("sentence"):
        text += " " if text and not text[-1].isspace() else ""
        begin = len(text)
        text += sentence.get("text", "")
        for entity in _entities(sentence, position):
            if isinstance(entity, Problem):
                yield entity
                continue
            if not entity.sound:
                detail = "the offsets hold another text than the entity says; left out"
                yield Problem(position, "offset_mismatch", detail, entity.id, "changed")
                continue
            spans = [[begin + start, begin + end] for start, end in entity.pieces]
            named = {"type": entity.type, "text": entity.text}
            start, end = spans[0] if len(spans) == 1 else (None, None)
            found.append((spans[0][0], {**named, "start": start, "end": end}))
            if len(spans) > 1:
                pieces.append({**named, "pieces": spans})
    if not id or not text.strip():
        yield Problem(position, "no_text", "the document has no id or no sentence with text", id)
        return
    entities = [gold for _, gold in sorted(found, key=lambda item: item[0])]
    record = _record((id, id), text, split, config, {"entities": entities, "types": list(TYPES)})
    yield replace(record, meta={"discontinuous": pieces}) if pieces else record


def _relation_records(document: Element, position: str, split: Split, config: Config) -> Iterator[Record | Problem]:
    """The first-named drug of a pair becomes the head: an interaction has no direction."""
    for sentence in document.iter("sentence"):
        id, text = sentence.get("id", ""), sentence.get("text", "")
        names: dict[str, str] = {}
        for entity in _entities(sentence, position):
            if isinstance(entity, Problem):
                yield entity
            else:
                names[entity.id] = entity.text
        pairs = list(sentence.iter("pair"))
        if not pairs:
            continue
        if not id or not text.strip():
            yield Problem(position, "no_text", "the sentence has no id or no text", id)
            continue
        relations: list[dict[str, str]] = []
        for pair in pairs:
            relation = _relation(pair, names, position)
            if isinstance(relation, dict) and relation in relations:
                detail = f"{relation['type']}: the sentence has this relation between drugs of these names already"
                yield Problem(position, "repeated_pair", detail, pair.get("id", ""), "changed")
            elif isinstance(relation, dict):
                relations.append(relation)
            elif relation is not None:
                yield relation
        gold = {"relations": relations, "types": list(RELATIONS)}
        yield _record((id, document.get("id", id)), text, split, config, gold)


def _relation(pair: Element, names: dict[str, str], position: str) -> dict[str, str] | Problem | None:
    """A true pair's relation, None for a false one."""
    if pair.get("ddi") == "false":
        return None
    kind, head, tail = pair.get("type", ""), names.get(pair.get("e1", "")), names.get(pair.get("e2", ""))
    if kind not in RELATIONS or head is None or tail is None:
        detail = "a true pair without a type or without its entities; left out"
        return Problem(position, "bad_pair", detail, pair.get("id", ""), "changed")
    return {"type": kind, "head": head, "tail": tail}


def _record(ids: tuple[str, str], text: str, split: Split, config: Config, gold: dict[str, Any]) -> Record:
    """`ids` are the row's and the document's; the latter is the same for both tasks."""
    return Record(
        id=f"{config.label}:{ids[0]}",
        document_id=f"ddi:{ids[1]}",
        source=config.label,
        task=config.task,
        category="NER" if config.task == "ner" else "RE",
        language="en",
        split=split,
        turns=(Turn("user", context=text.rstrip()), Turn("assistant", trained=True)),
        gold=gold,
    )
