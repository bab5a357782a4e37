"""WikiMed, Wikipedia articles whose links are mapped to UMLS (Vashishth et al., J Biomed Inform 2021), as labels.

JSON lines of `_id, text, title, split, mentions[{mention, start_offset, end_offset, link_id}]`; a link_id is one
concept, though it may list several CUIs. An article's labels are those of its mentions among the most frequent labels:
a label set must be short enough to be asked for. They are counted over the first train rows of the corpus, by every
unit anew: a second of work each, where counting all would read the corpus twice.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from medtrain.data import jsonfiles
from medtrain.data.source import Example, Problem, SourceConfig, Unit, check_file, locate
from medtrain.records import Record, Split, Turn

SPLITS: dict[str, Split] = {"train": "train", "valid": "validation", "dev": "validation", "test": "test"}
Labels = Callable[[dict[str, Any]], list[str]]
"""The labels of an article, each once."""
_ROW = (
    '{"_id": "%s", "title": "%s", "text": "%s", "split": "%s", "mentions": [{"mention": "%s", "start_offset": 0, '
    '"end_offset": 5, "link_id": "%s"}]}\n'
)
EXAMPLE = Example(
    {
        "wikimed.json": _ROW % ("1", "Fever", "Fever is made .", "train", "Fever", "C0000001")
        + _ROW % ("2", "Heat", "fever again .", "train", "fever", "C0000001")
        + _ROW % ("3", "Drug", "A drug .", "train", "A drug", "C0000002|C0000003")
        + _ROW % ("4", "Both", "A hot drug .", "valid", "drug", "C0000002|C0000003")
        + _ROW % ("5", "None", "Rare .", "test", "Rare", "C0000009")
    },
    records=4,
    config={"labels": "concept"},
)


class Config(SourceConfig):
    """The file, or the folder of the files, with every split."""

    labels: Literal["semantic_type", "concept"] = "semantic_type"
    """What labels are: the UMLS semantic types of an article's concepts, or the concepts themselves, each by the words
    that most often stand for it."""
    mrsty: str | None = Field(None, json_schema_extra={"identity": False})
    """UMLS's MRSTY.RRF, relative to data.root, or absolute; for semantic types. Not identity: its hash is."""
    top: int = Field(40, ge=2)
    """How many labels, the most frequent ones."""
    counted_rows: int = Field(10_000, ge=1)
    """Over how many train rows, from the first one on, labels are counted."""

    @model_validator(mode="after")
    def _types_are_given(self) -> Self:
        if self.labels == "semantic_type" and self.mrsty is None:
            raise ValueError("labels=semantic_type needs mrsty; give UMLS's MRSTY.RRF, or labels: concept")
        return self


def units(config: Config, root: Path) -> list[Unit]:
    """Ranges of lines; every unit counts over the files from the first one on, and MRSTY.RRF stands last.

    Raises:
        DataError: see `source.locate` and `source.check_file`.
    """
    found = jsonfiles.units(locate(config, root), config.label, "train")
    also = dict.fromkeys(unit.path for unit in found)
    if config.mrsty is not None:
        also[str(check_file(root / config.mrsty, config.label))] = None
    return [Unit(u.path, u.name, u.split, u.start, u.stop, u.first, tuple(also)) for u in found]


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """One record for each article with one of the labels."""
    files = unit.also if config.mrsty is None else unit.also[:-1]
    labels_of = _concepts if config.labels == "concept" else SemanticTypes(Path(unit.also[-1])).of
    counts: Counter[str] = Counter()
    names: dict[str, Counter[str]] = {}
    for article in islice(_train_rows(files), config.counted_rows):
        counts.update(labels_of(article))
        if config.labels == "concept":
            for mention in _mentions(article):
                words = " ".join(str(mention.get("mention") or mention["link_id"]).split()).lower()
                names.setdefault(mention["link_id"], Counter())[words] += 1
    top = sorted(counts, key=lambda label: (-counts[label], label))[: config.top]
    # Of words that stand equally often for a concept, the first in the alphabet.
    shown = {key: min(names[key].items(), key=lambda item: (-item[1], item[0]))[0] if names else key for key in top}
    for row in jsonfiles.rows(unit):
        yield row if isinstance(row, Problem) else _record(row, shown, labels_of, config)


def _train_rows(files: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for path in files:
        for row in jsonfiles.rows(Unit(path, path)):
            if isinstance(row, jsonfiles.Row) and row.value.get("split") == "train":
                yield row.value


def _mentions(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The mentions that are linked."""
    found = row.get("mentions")
    return [m for m in (found if isinstance(found, list) else []) if isinstance(m, dict) and _is_link(m.get("link_id"))]


def _is_link(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip("| "))


def _concepts(row: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(mention["link_id"] for mention in _mentions(row)))


class SemanticTypes:
    """The semantic types of each CUI in MRSTY.RRF, as two arrays: three million rows take 20 MB and no dictionary."""

    def __init__(self, path: Path) -> None:
        cuis, kinds = array("I"), array("H")
        names: dict[str, int] = {}
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                columns = line.split("|")  # CUI, TUI, STN, STY, ATUI, CVF
                if len(columns) > 3 and (cui := _number(columns[0])) is not None and columns[3]:
                    cuis.append(cui)
                    kinds.append(names.setdefault(columns[3], len(names)))
        order = np.argsort(np.array(cuis), kind="stable")
        self.cuis, self.kinds = np.array(cuis)[order], np.array(kinds)[order]
        self.names = list(names)

    def of(self, row: dict[str, Any]) -> list[str]:
        """The types of an article's concepts."""
        found: dict[str, None] = {}
        for key in _concepts(row):
            for cui in map(_number, key.split("|")):
                if cui is not None:
                    start, end = np.searchsorted(self.cuis, [cui, cui + 1])
                    found.update({self.names[kind]: None for kind in self.kinds[start:end]})
        return list(found)


def _number(cui: str) -> int | None:
    """C0000005 as 5; None for what is no CUI."""
    cui = cui.strip()
    return int(cui[1:]) if len(cui) == 8 and cui[0] == "C" and cui[1:].isascii() and cui[1:].isdigit() else None


def _record(row: jsonfiles.Row, shown: dict[str, str], labels_of: Labels, config: Config) -> Record | Problem:
    """`shown` are the labels asked for, most frequent first, by what they are counted as."""
    id, title, text, split = (row.value.get(key) for key in ("_id", "title", "text", "split"))
    if not (isinstance(title, str) and isinstance(text, str) and text.strip()) or str(split) not in SPLITS:
        detail = f"needs title and text as strings and a split out of {', '.join(SPLITS)}"
        return Problem(row.position, "bad_row", detail, str(id or ""))
    mine = set(labels_of(row.value))
    labels = list(dict.fromkeys(name for key, name in shown.items() if key in mine))
    if not labels:
        return Problem(row.position, "no_label", f"none of the {len(shown)} labels", str(id or ""))
    name = f"{config.label}:{id or row.position}"
    context = text.strip() if text.lstrip().startswith(title) else f"{title}\n{text.strip()}"
    return Record(
        id=name,
        document_id=name,
        source=config.label,
        task="labels",
        category="MLDC",
        language="en",
        split=SPLITS[str(split)],
        turns=(Turn("user", context=context), Turn("assistant", trained=True)),
        gold={"labels": labels, "label_set": list(dict.fromkeys(shown.values()))},
    )
