"""The plain text that the demo's base learns from: train rows that share no 13-gram with a held-out row."""

import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow.parquet as pq

from medtrain.artifacts import Artifact
from medtrain.records import Record, from_arrow

GRAM = 13
"""Words of English, characters of Chinese; as GPT-3 judged contamination (Brown et al. 2020, appendix C)."""
_WORD = re.compile(r"[a-z0-9]+")
_CHARACTER = re.compile(r"[\u4e00-\u9fff]")


@dataclass(frozen=True)
class Corpus:
    """The texts with the ids of their rows, and how many train rows were left out by source."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    left_out: dict[str, int]


def text_of(record: Record) -> str:
    """Contexts, queries and answers line by line: no template, no instruction, nothing rendered from gold."""
    parts = [part for turn in record.turns for part in (turn.context, turn.query, turn.text)]
    return "\n".join(part.strip() for part in parts if part.strip())


def grams(text: str) -> set[int]:
    """Hashes of the 13-grams of a text: of its English words, and of its Chinese characters, by themselves."""
    runs = (_WORD.findall(text.lower()), _CHARACTER.findall(text))
    return {hash(tuple(run[i : i + GRAM])) for run in runs for i in range(len(run) - GRAM + 1)}


def select(records: Iterable[Record]) -> Corpus:
    """The texts of train rows that no held-out row shares a 13-gram with, in the order of the rows, each text once."""
    train: list[tuple[str, str, str]] = []
    held: set[int] = set()
    for record in records:
        text = text_of(record)
        if record.split == "train":
            train.append((record.id, record.source, text))
        else:
            held |= grams(text)
    kept: dict[str, str] = {}
    left_out = Counter[str]()
    for id, source, text in train:
        if held.isdisjoint(grams(text)):
            kept.setdefault(text, id)
        else:
            left_out[source] += 1
    return Corpus(tuple(kept.values()), tuple(kept), dict(sorted(left_out.items())))


def records_of(data: Artifact) -> Iterator[Record]:
    """Every record of a data artifact, in order."""
    for path in data.store.files("shards"):
        yield from from_arrow(pq.read_table(io.BytesIO(data.store.read(path))))
