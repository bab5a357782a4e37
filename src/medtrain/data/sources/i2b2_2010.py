"""i2b2/VA 2010, the notes that CliNER is trained on: problems, treatments, tests, relations (Uzuner et al., 2011).

Licensed by n2c2, as tars: `.txt` notes, a sentence on each line, `.con` concepts, `.rel` relations, all called after
the note. A place is `line:token`, lines from 1, tokens between blanks from 0, ends inclusive; annotations repeat the
text in lower case. The notes of the test set lie in another tar than their annotations.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import Field

from medtrain.data import archive
from medtrain.data.source import Example, Problem, SourceConfig, Unit, locate
from medtrain.data.text import decode
from medtrain.errors import DataError
from medtrain.records import Record, Split, Turn

TYPES = ("problem", "treatment", "test")
RELATIONS = ("TrIP", "TrWP", "TrCP", "TrAP", "TrNAP", "TeRP", "TeCP", "PIP")
ARCHIVES = ("", ".tar.gz", ".tgz", ".tar", ".zip")
_PLACE = r'c="(.*)" (\d{1,9}):(\d{1,9}) (\d{1,9}):(\d{1,9})'
_CONCEPT = re.compile(_PLACE + r'\|{2,3}t="(.*)"')
_RELATION = re.compile(_PLACE + r'\|{2,3}r="(.*?)"\|{2,3}' + _PLACE)
_TOKEN = re.compile(r"[^ \t\r]+")
_NOTE = "Admitted\nHis  Chest Pain fell after Drug\nA .\n"
_CON = 'c="chest pain" 2:1 2:2||t="problem"\nc="drug a" 2:5 3:0||t="treatment"\nc="chest pain" 2:1 2:2||t="problem"\n'
_REL = 'c="drug a" 2:5 3:0||r="TrIP"||c="chest pain" 2:1 2:2\n'
EXAMPLE = Example(
    {
        "concept_assertion_relation_training_data/beth/txt/record-1.txt": _NOTE,
        "concept_assertion_relation_training_data/beth/concept/record-1.con": _CON,
        "concept_assertion_relation_training_data/beth/rel/record-1.rel": _REL,
        "test_data/0001.txt": _NOTE,
        "reference_standard_for_test_data/concepts/0001.con": _CON,
        "reference_standard_for_test_data/rel/0001.rel": _REL,
    },
    records=2,
)


class Config(SourceConfig):
    """The folder of the tars, packed or not."""

    files: dict[Split, tuple[str, ...]] = Field(
        {
            "train": ("concept_assertion_relation_training_data",),
            "test": ("test_data", "reference_standard_for_test_data"),
        }
    )
    """Split -> the folders below path that hold it, or archives of these names (.tar.gz, .tgz, .tar, .zip)."""
    task: Literal["ner", "relations"] = "ner"
    """What is asked: the concepts of a note, or the relations of a line with two concepts or more (for both, take the
    source twice, by two names)."""


@dataclass(frozen=True, slots=True)
class Span:
    """A concept's place in its note, half-open, and the lines on which it begins and ends."""

    start: int
    end: int
    line: int
    last: int


def units(config: Config, root: Path) -> list[Unit]:
    """One unit for each split.

    Raises:
        DataError: a folder or archive is absent, a Git LFS pointer, damaged or unsafe, or a split has no notes.
    """
    folder = locate(config, root)
    found: list[Unit] = []
    for split, places in config.files.items():
        paths = [_place(folder, name, config.label) for name in places]
        names = [name for path in paths for name in archive.members(path, config.label, "")]
        if not any(name.endswith(".txt") for name in names):
            raise DataError(f"source {config.label}: files.{split}={list(places)}: no .txt note in them; check files")
        found.append(Unit(str(paths[0]), places[0], split, also=tuple(str(path) for path in paths[1:])))
    return found


def _place(folder: Path, name: str, label: str) -> Path:
    for ending in ARCHIVES:
        if (folder / f"{name}{ending}").exists():
            return folder / f"{name}{ending}"
    raise DataError(f"source {label}: {folder / name}: no folder or archive of this name; check files")


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """One record for each note (ner), or for each line with two concepts or more (relations)."""
    annotations: dict[str, dict[str, tuple[str, str]]] = {".con": {}, ".rel": {}}
    for suffix in annotations if config.task == "relations" else (".con",):
        for item in _members(unit, suffix):
            if isinstance(item, Problem):
                yield item
            else:
                annotations[suffix].setdefault(PurePosixPath(item[0]).stem, item)
    seen: set[str] = set()
    for item in _members(unit, ".txt"):
        if isinstance(item, Problem):
            yield item
            continue
        name, text = item
        stem = PurePosixPath(name).stem
        if stem in seen or stem not in annotations[".con"] or not text.strip():
            rule = "repeated_note" if stem in seen else "no_note"
            yield Problem(name, rule, "the name stands twice, or has no .con file or no text", stem)
            continue
        seen.add(stem)
        note = Note(stem, text)
        if config.task == "ner":
            yield from _ner_record(note, annotations[".con"][stem], unit, config)
        else:
            relations = annotations[".rel"].get(stem, ("", ""))
            yield from _relation_records(note, annotations[".con"][stem], relations, unit, config)


def _members(unit: Unit, suffix: str) -> Iterator[tuple[str, str] | Problem]:
    """(name, text) of every member in all of a unit's places."""
    for path in (unit.path, *unit.also):
        for item in archive.contents(Unit(path, unit.name), suffix):
            if isinstance(item, Problem):
                yield item
                continue
            text, problems = decode(item[1], item[0])
            yield from problems
            yield item[0], text


class Note:
    """A note's text, in which places are found."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.lines = text.split("\n")
        self.tokens: list[list[tuple[int, int]]] = []
        start = 0
        for line in self.lines:
            self.tokens.append([(start + token.start(), start + token.end()) for token in _TOKEN.finditer(line)])
            start += len(line) + 1

    def find(self, surface: str, *place: str) -> Span | None:
        """Where a concept lies, None where it does not lie there; `place` is line, token, line, token."""
        first, begin, last, end = (int(number) for number in place)
        if not (0 < first <= last <= len(self.lines)):
            return None
        if begin >= len(self.tokens[first - 1]) or end >= len(self.tokens[last - 1]):
            return None
        span = Span(self.tokens[first - 1][begin][0], self.tokens[last - 1][end][1], first, last)
        same = _plain(self.text[span.start : span.end]) == _plain(surface)
        return span if same and span.start < span.end else None

    def surface(self, span: Span) -> str:
        """The text of a place, as the note writes it."""
        return self.text[span.start : span.end]


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _concepts(note: Note, lines: tuple[str, str]) -> Iterator[tuple[str, Span] | Problem]:
    """(type, place) of each concept, each once, and a problem for each line that holds none."""
    known: set[tuple[str, Span]] = set()
    for number, line in enumerate(lines[1].split("\n"), 1):
        if not line.strip():
            continue
        position = f"{lines[0]}:{number}"
        match = _CONCEPT.fullmatch(line.strip())
        if match is None or match[6] not in TYPES:
            detail = f"no concept line, or a type outside {', '.join(TYPES)}; left out"
            yield Problem(position, "bad_concept", detail, note.name, "changed")
            continue
        span = note.find(*match.groups()[:5])
        if span is None:
            detail = "the place is not in the note or holds another text; left out"
            yield Problem(position, "place_mismatch", detail, note.name, "changed")
        elif (match[6], span) in known:
            yield Problem(position, "repeated_concept", "the note has it already", note.name, "changed")
        else:
            known.add((match[6], span))
            yield match[6], span


def _ner_record(note: Note, lines: tuple[str, str], unit: Unit, config: Config) -> Iterator[Record | Problem]:
    entities: list[dict[str, Any]] = []
    for item in _concepts(note, lines):
        if isinstance(item, Problem):
            yield item
        else:
            kind, span = item
            entities.append({"type": kind, "text": note.surface(span), "start": span.start, "end": span.end})
    entities.sort(key=lambda entity: (entity["start"], entity["end"]))
    yield _record(note.name, note, note.text, {"entities": entities, "types": list(TYPES)}, unit, config)


def _relation_records(
    note: Note, concepts: tuple[str, str], lines: tuple[str, str], unit: Unit, config: Config
) -> Iterator[Record | Problem]:
    """A line is asked about even where no relation was found among its concepts."""
    places: Counter[int] = Counter()
    for item in _concepts(note, concepts):
        if isinstance(item, Problem):
            yield item
        elif item[1].line == item[1].last:
            places[item[1].line] += 1
    found: dict[int, list[dict[str, str]]] = {line: [] for line, count in places.items() if count > 1}
    for number, line in enumerate(lines[1].split("\n"), 1):
        if not line.strip():
            continue
        match = _RELATION.fullmatch(line.strip())
        pair = [note.find(*match.groups()[:5]), note.find(*match.groups()[6:])] if match else []
        ends = [span for span in pair if span is not None]
        if match is None or match[6] not in RELATIONS or len(ends) < 2:
            detail = "no relation line, a relation outside the eight, or concepts that are not there; left out"
            yield Problem(f"{lines[0]}:{number}", "bad_relation", detail, note.name, "changed")
            continue
        if len({place for span in ends for place in (span.line, span.last)}) > 1:
            detail = "its concepts are not on one line; left out"
            yield Problem(f"{lines[0]}:{number}", "across_lines", detail, note.name, "changed")
            continue
        relation = {"type": match[6], "head": note.surface(ends[0]), "tail": note.surface(ends[1])}
        known = found.setdefault(ends[0].line, [])
        if relation not in known:
            known.append(relation)
    for place, relations in sorted(found.items()):
        gold = {"relations": relations, "types": list(RELATIONS)}
        yield _record(f"{note.name}:{place}", note, note.lines[place - 1].strip(), gold, unit, config)


def _record(id: str, note: Note, context: str, gold: dict[str, Any], unit: Unit, config: Config) -> Record:
    return Record(
        id=f"{config.label}:{id}",
        document_id=f"i2b2_2010:{note.name}",
        source=config.label,
        task=config.task,
        category="NER" if config.task == "ner" else "RE",
        language="en",
        split=unit.split,
        turns=(Turn("user", context=context), Turn("assistant", trained=True)),
        gold=gold,
    )
