"""What a metric compares: one row's gold and one system's parsed answer, and how both are kept in a file."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from medtrain.records import Record


@dataclass(frozen=True, slots=True)
class Answer:
    """One generated answer beside everything that its scoring needs, so that metrics run again from the file alone.

    `gold` is the record's, `reference` the answer text that training would have shown, `context` the given text.
    `tokens` counts what was generated; `hit_limit` says that generation ended by length and not by the model.
    """

    id: str
    document_id: str
    source: str
    task: str
    language: str
    split: str
    query: str
    context: str
    gold: dict[str, Any] | None
    reference: str
    text: str
    tokens: int
    hit_limit: bool
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """One row as a metric sees it: `reference` and `prediction` are gold-like dicts or, for free text, strings."""

    document_id: str
    context: str
    reference: Any
    prediction: Any
    parsed: bool
    """False where the answer does not follow its task's wording at all; the prediction is then empty."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said to one prompt."""

    text: str
    tokens: int
    hit_limit: bool
    refused: str = ""
    """Why the model was not asked; empty where it was."""


def answer_of(record: Record, reference: str, reply: Reply) -> Answer:
    """A record and a model's reply as one row of a predictions file."""
    asked = [turn for turn in record.turns if turn.role == "user"]
    last = asked[-1] if asked else None
    return Answer(
        **{name: getattr(record, name) for name in ("id", "document_id", "source", "task", "language", "split")},
        query="" if last is None else last.query,
        context="" if last is None else last.context,
        gold=record.gold,
        reference=reference,
        **asdict(reply),
    )


def to_lines(answers: Iterable[Answer]) -> bytes:
    """Answers as JSON lines."""
    return "".join(json.dumps(asdict(answer), ensure_ascii=False) + "\n" for answer in answers).encode("utf-8")


def from_lines(content: bytes) -> list[Answer]:
    """The answers in a file; a last line that was cut in writing is left out: the file then lacks rows."""
    answers = []
    for line in content.split(b"\n")[:-1]:
        answers.append(Answer(**json.loads(line)))
    return answers


def one_blank(text: str) -> str:
    """A name as answers hold it: outer blanks gone, runs of blanks and line breaks one blank."""
    return " ".join(text.split())


def text_case(answer: Answer) -> Case:
    """A case of free text: both sides without outer blanks; an empty answer counts as unparsed."""
    text = answer.text.strip()
    return Case(answer.document_id, answer.context, answer.reference.strip(), text, bool(text))
