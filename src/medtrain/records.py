"""The one row type that flows from `data` to `tokens`, and its Arrow schema."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pyarrow as pa

Language = Literal["en", "zh"]
Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a dialogue, in parts: `tokens` renders them, a source never does.

    A user's turn has a `query` (never cut) and a `context` (cut by paragraphs when over-long). An assistant's turn has
    `text` where the corpus gives the answer verbatim; where it is empty the answer is rendered from the record's gold.
    """

    role: Literal["system", "user", "assistant"]
    query: str = ""
    context: str = ""
    text: str = ""
    trained: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """One sample of a corpus.

    `id` is unique in an artifact (`<source>:<id in the corpus>`); rows cut from one document share `document_id`, so
    that a split never tears a document. `task` names the schema of `gold` and the wording (ner, relations, labels,
    choice, options, attribute, summary, cloze, translation, qa, general, identity); `category` is the kind that stages
    and experts are chosen by, a paper's own: NER, RE, TC, MT, QA, GENERAL, SELF, or MCQA, MC, EA, ES, ER, MLDC, MRC,
    TS, NLI. `meta` holds what a source wants to keep, JSON values only.

    `gold` by task:
        ner        {"entities": [{"type", "text", "start", "end"}], "types": [asked for]}; offsets are code points into
                   the context of the first user turn, half-open, or null where the corpus has none
        relations  {"relations": [{"type", "head", "tail"}], "types": [...]}
        labels     {"labels": [...], "label_set": [...]}
        choice     {"label", "label_set": [...]}; exactly one label of the set
        options    {"options": {"A": text, ...}, "answer": "B"}; keys are single capital letters, several right ones
                   stand sorted and without blanks; the query is the question
        attribute  {"attribute", "values": [...]}; the query is the name of the thing
        summary    {"summary"}; the context is the text
        cloze      {"answers": [...]}, the first is taught; the query is the sentence with `@placeholder`
        others     null; the reference is the text of the last assistant turn
    """

    id: str
    document_id: str
    source: str
    task: str
    category: str
    language: Language
    split: Split
    turns: tuple[Turn, ...]
    gold: dict[str, Any] | None = None
    meta: dict[str, Any] = field(default_factory=dict)


_TEXTS = ("id", "document_id", "source", "task", "category", "language", "split")
TURN = pa.struct(
    [
        ("role", pa.string()),
        ("query", pa.string()),
        ("context", pa.string()),
        ("text", pa.string()),
        ("trained", pa.bool_()),
    ]
)
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("document_id", pa.string()),
        ("source", pa.string()),
        ("task", pa.string()),
        ("category", pa.string()),
        ("language", pa.string()),
        ("split", pa.string()),
        ("turns", pa.list_(TURN)),
        ("gold", pa.string()),
        ("meta", pa.string()),
    ]
)
"""Records as Arrow: `gold` and `meta` travel as JSON text, so that one schema holds every task."""


def to_arrow(records: Sequence[Record]) -> pa.Table:
    """Records as a table of `SCHEMA`."""
    rows = [
        {
            **{name: getattr(r, name) for name in _TEXTS},
            "turns": [asdict(turn) for turn in r.turns],
            "gold": None if r.gold is None else json.dumps(r.gold, ensure_ascii=False, sort_keys=True),
            "meta": json.dumps(r.meta, ensure_ascii=False, sort_keys=True),
        }
        for r in records
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def from_arrow(table: pa.Table) -> Iterable[Record]:
    """The records of a table that has at least the columns of `SCHEMA`."""
    for row in table.select(SCHEMA.names).to_pylist():
        turns = tuple(Turn(**turn) for turn in row.pop("turns"))
        gold, meta = row.pop("gold"), row.pop("meta")
        yield Record(**row, turns=turns, gold=None if gold is None else json.loads(gold), meta=json.loads(meta))
