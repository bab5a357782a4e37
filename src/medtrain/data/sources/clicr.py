"""CliCR, gaps in the learning points of clinical case reports (Šuster, Daelemans, NAACL 2018); by request.

One JSON object per split, `{"data": [{"source", "document": {"title", "context", "qas"}}]}`. Concepts stand between
BEG__ and __END, which are taken out; the gap is `@placeholder`. An answer is one of several names of the same concept.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from medtrain.data import nested
from medtrain.data.source import Example, Problem, SourceConfig, Unit, locate
from medtrain.records import Record, Split, Turn

GAP = "@placeholder"
_DATA = (
    '{"version": "1", "data": [{"source": "case-%s", "document": {"title": "A BEG__made case__END", '
    '"context": "He had BEG__high fever__END .\\n\\nIt fell .", "qas": [{"id": "%s", '
    '"query": "BEG__Rest__END helps against @placeholder .", "answers": [{"text": "pyrexia", "origin": "UMLS", '
    '"cui": "C1", "sem_type": "T1"}, {"text": "high fever", "origin": "dataset"}]}]}}]}'
)
EXAMPLE = Example(
    {
        "train1.0.json": _DATA % (1, "a.1"),
        "dev1.0.json": _DATA % (2, "b.1"),
        "test1.0.json": _DATA % (3, "c.1"),
    },
    records=3,
)


class Config(SourceConfig):
    """The folder of the three files."""

    files: dict[Split, str] = Field({"train": "train1.0.json", "validation": "dev1.0.json", "test": "test1.0.json"})
    """Split -> file name below path."""


def units(config: Config, root: Path) -> list[Unit]:
    """Ranges of case reports.

    Raises:
        DataError: see `source.locate` and `source.check_file`.
    """
    folder = locate(config, root)
    ranges = [nested.units(folder / name, config.label, split, ("data",)) for split, name in config.files.items()]
    return [unit for split in ranges for _, unit in split]


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """One record for each gap; the report's title is the first line of its context."""
    for row in nested.rows(unit):
        if isinstance(row, Problem):
            yield row
            continue
        value = row.value.get("document")
        document = value if isinstance(value, dict) else {}
        title, text, questions = (document.get(key) for key in ("title", "context", "qas"))
        if not (isinstance(title, str) and isinstance(text, str) and isinstance(questions, list)):
            yield Problem(row.position, "bad_document", "needs a document with title, context and a list of qas")
            continue
        context = "\n".join(part for part in (unmarked(title), unmarked(text)) if part)
        name = f"{config.label}:{row.value.get('source') or row.position}"
        for number, question in enumerate(questions, 1):
            yield _record(question, f"{row.position}#{number}", (context, name), unit, config)


def unmarked(text: str) -> str:
    """A text without the marks of concepts."""
    return text.replace("BEG__", "").replace("__END", "").strip()


def _record(question: Any, position: str, document: tuple[str, str], unit: Unit, config: Config) -> Record | Problem:
    """`document` is the context and its name."""
    question = question if isinstance(question, dict) else {}
    query, given = question.get("query"), question.get("answers")
    if not isinstance(query, str) or GAP not in query or not isinstance(given, list):
        return Problem(position, "bad_row", f"needs a query with {GAP} and a list of answers")
    found = [answer for answer in given if isinstance(answer, dict) and isinstance(answer.get("text"), str)]
    # What the authors of the report wrote comes before its synonyms.
    found.sort(key=lambda answer: answer.get("origin") != "dataset")
    answers = list(dict.fromkeys(text for answer in found if (text := unmarked(answer["text"]))))
    if not answers:
        return Problem(position, "empty_answer", "no answer has a text")
    return Record(
        id=f"{config.label}:{question.get('id') or position}",
        document_id=document[1],
        source=config.label,
        task="cloze",
        category="MRC",
        language="en",
        split=unit.split,
        turns=(Turn("user", query=unmarked(query), context=document[0]), Turn("assistant", trained=True)),
        gold={"answers": answers},
    )
