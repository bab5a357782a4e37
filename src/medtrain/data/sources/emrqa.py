"""emrQA, questions about clinical notes made from the annotations of i2b2 challenges (Pampari et al., EMNLP 2018).

`{"data": [{"title": challenge, "paragraphs": [{"note_id", "context", "qas": [{"question", "answers"}]}]}]}`. Made by
its users from licensed notes, so that versions differ: a question is a text or a list of paraphrases, a context a text
or a list of lines, an answer a text or a list. Most of its million questions are paraphrases of others.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

from medtrain.data import nested
from medtrain.data.source import Example, Problem, SourceConfig, Unit, locate
from medtrain.errors import DataError
from medtrain.records import Record, Split, Turn

EXAMPLE = Example(
    {
        "data.json": '{"data": [{"paragraphs": [{"note_id": "n1", "context": ["Day 1 :\\n", "He takes drug A .\\n"], '
        '"qas": [{"id": ["t", "l"], "question": ["What does he take", "Which drug does he take"], "answers": ['
        '{"text": "drug A", "answer_start": [2, 2], "evidence": "He takes drug A .", "evidence_start": 2}]}]}], '
        '"title": "medication"}, {"title": "smoking", "paragraphs": [{"note_id": "n2", "context": "He smokes .", '
        '"qas": [{"id": "u", "question": "Does he smoke", "answers": [{"text": "", "evidence": "He smokes ."}]}, '
        '{"id": "v", "question": "What is he", "answers": [{"text": ["smoker"], "evidence": "He smokes ."}]}]}]}]}'
    },
    records=2,
)


class Config(SourceConfig):
    """The folder of data.json; the corpus has no split."""

    file: str = "data.json"
    """The file's name below path."""
    challenges: tuple[str, ...] = ()
    """Which challenges to take, by title (medication, relations, risk-dataset, smoking, obesity); empty takes all."""
    paraphrases: int = Field(1, ge=1)
    """At most so many phrasings of a question, from the first one on; each becomes a record."""
    split: Split = "train"
    """Which split its rows belong to."""


def units(config: Config, root: Path) -> list[Unit]:
    """Ranges of notes, each of one challenge, which its unit's name says.

    Raises:
        DataError: the file is absent, empty or a Git LFS pointer, or has not all of the challenges.
    """
    ranges = nested.units(locate(config, root) / config.file, config.label, config.split, ("data", "paragraphs"))
    titled = [(holder.texts.get("title", ""), unit) for holder, unit in ranges]
    known = {title for title, _ in titled}
    missing = [title for title in config.challenges if title not in known]
    if missing:
        raise DataError(
            f"source {config.label}: challenges={missing}: {config.file} has no such title; "
            f"it has {', '.join(sorted(known))}"
        )
    chosen = config.challenges or known
    return [replace(unit, name=f"{unit.name}/{title}") for title, unit in titled if title in chosen]


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """One record for each phrasing of a question that has an answer in words."""
    for row in nested.rows(unit):
        if isinstance(row, Problem):
            yield row
            continue
        note, context, questions = (row.value.get(key) for key in ("note_id", "context", "qas"))
        lines = _texts(context)
        if not lines or not isinstance(questions, list):
            yield Problem(row.position, "bad_note", "needs a context and a list of qas")
            continue
        text = "\n".join(line.rstrip("\r\n") for line in lines)
        document = _document(unit.name.partition("/")[2], str(note or row.position), config)
        for number, question in enumerate(questions, 1):
            yield from _records(question, f"{row.position}#{number}", (text, document), unit, config)


def _document(challenge: str, note: str, config: Config) -> str:
    """The relations challenge has the notes of i2b2 2010: a note must not be in training here and in test there."""
    return f"i2b2_2010:{note}" if challenge == "relations" else f"{config.label}:{challenge}/{note}"


def _records(
    question: Any, position: str, document: tuple[str, str], unit: Unit, config: Config
) -> Iterator[Record | Problem]:
    """`document` is the context and its name."""
    question = question if isinstance(question, dict) else {}
    phrasings = list(dict.fromkeys(text.strip() for text in _texts(question.get("question")) if text.strip()))
    given = question.get("answers")
    if not phrasings or not isinstance(given, list):
        yield Problem(position, "bad_row", "needs a question and a list of answers")
        return
    found = [answer for answer in given if isinstance(answer, dict)]
    answers = dict.fromkeys(text.strip() for answer in found for text in _texts(answer.get("text")) if text.strip())
    evidence = dict.fromkeys(text.strip() for answer in found for text in _texts(answer.get("evidence")))
    if not answers:
        yield Problem(position, "empty_answer", "no answer has a text, evidence alone is none")
        return
    for number, phrasing in enumerate(phrasings[: config.paraphrases], 1):
        yield Record(
            id=f"{config.label}:{position}.{number}",
            document_id=document[1],
            source=config.label,
            task="qa",
            category="MRC",
            language="en",
            split=unit.split,
            turns=(
                Turn("user", query=phrasing, context=document[0]),
                Turn("assistant", text="; ".join(answers), trained=True),
            ),
            meta={"evidence": list(evidence)},
        )


def _texts(value: Any) -> list[str]:
    """A text, or a list of texts, as a list."""
    return [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
