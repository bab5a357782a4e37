"""CoNLL-2003 entities in news (Tjong Kim Sang, De Meulder, 2003; Reuters licence), and any file of that form.

A token on each line, its tag in the last column, a blank line behind each sentence, `-DOCSTART-` before each document.
An entity begins at B-, and at I- where no entity of its type is open: that reads IOB1 and IOB2 alike.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from medtrain.data.source import Example, Problem, SourceConfig, Unit, check_file, locate
from medtrain.data.text import decode
from medtrain.records import Record, Split, Turn

DOCUMENT = "-DOCSTART-"
_TEXT = (
    "-DOCSTART- -X- -X- O\n\nAnn NNP I-NP I-PER\nLee NNP I-NP I-PER\nmet VBD I-VP O\nBob NNP I-NP I-PER\n"
    "Eve NNP I-NP B-PER\n\nIn IN I-PP O\nParis NNP I-NP I-LOC\n\n-DOCSTART- -X- -X- O\n\nRain NN I-NP O"
)
EXAMPLE = Example({"eng.train": _TEXT, "eng.testa": _TEXT, "eng.testb": _TEXT}, records=6)


class Config(SourceConfig):
    """Documents or sentences with their entities; tokens are joined by blanks, the corpus has no other text."""

    files: dict[Split, str] = Field({"train": "eng.train", "validation": "eng.testa", "test": "eng.testb"})
    """Split -> file name below path."""
    unit: Literal["document", "sentence"] = "document"
    """What a record is: a document with its sentences as lines, or one sentence."""
    types: dict[str, str] = Field({"PER": "Person", "LOC": "Location", "ORG": "Organization", "MISC": "Miscellaneous"})
    """The corpus's types -> what is asked for; a type that is not named here is left out."""


@dataclass(slots=True)
class Sentence:
    """Tokens with their tags; `line` is the number of the first."""

    line: int
    tokens: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Document:
    """Sentences under a -DOCSTART-, by the name it gives, else its number; a sentence under none stands alone."""

    name: str
    sentences: list[Sentence] = field(default_factory=list)


def units(config: Config, root: Path) -> list[Unit]:
    """One unit for each file.

    Raises:
        DataError: see `source.locate` and `source.check_file`.
    """
    folder = locate(config, root)
    return [Unit(str(check_file(folder / name, config.label)), name, split) for split, name in config.files.items()]


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """One record for each document or sentence."""
    text, problems = decode(Path(unit.path).read_bytes(), unit.name)
    yield from problems
    for item in documents(text, unit.name):
        if isinstance(item, Problem):
            yield item
            continue
        document = f"{config.label}:{unit.name}:{item.name}"
        if config.unit == "document":
            yield from _record(item.sentences, (document, document), unit, config)
            continue
        for sentence in item.sentences:
            yield from _record([sentence], (f"{config.label}:{unit.name}:{sentence.line}", document), unit, config)


def documents(text: str, name: str) -> Iterator[Document | Problem]:
    """The documents of a file; a sentence with a line that cannot be read is left out."""
    document: Document | None = None
    sentence = Sentence(1)
    bad = count = 0
    for number, line in enumerate([*text.split("\n"), ""], 1):
        columns = line.split()
        start = bool(columns) and columns[0] == DOCUMENT
        if columns and not start:
            sentence.tokens.append(columns[0])
            sentence.tags.append(columns[-1])
            if len(columns) < 2 or not (columns[-1] == "O" or columns[-1].startswith(("B-", "I-"))):
                bad = bad or number
            continue
        if bad:
            yield Problem(f"{name}:{bad}", "bad_line", "needs a token and a tag O, B-type or I-type")
        elif sentence.tokens and document is None:
            yield Document(str(sentence.line), [sentence])
        elif sentence.tokens and document is not None:
            document.sentences.append(sentence)
        sentence, bad = Sentence(number + 1), 0
        if start:
            if document is not None and document.sentences:
                yield document
            count += 1
            document = Document(columns[1].strip("()") if len(columns) == 2 else f"document-{count}")
    if document is not None and document.sentences:
        yield document


def spans(tags: list[str]) -> list[tuple[str, int, int]]:
    """The entities of a sentence as (type, first token, token behind the last)."""
    found: list[tuple[str, int, int]] = []
    before = "O"
    for number, tag in enumerate(tags):
        if tag != "O":
            if tag[0] == "B" or before[1:] != tag[1:]:
                found.append((tag[2:], number, number + 1))
            else:
                found[-1] = (*found[-1][:2], number + 1)
        before = tag
    return found


def _record(sentences: list[Sentence], ids: tuple[str, str], unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """`ids` are the row's and the document's."""
    text = ""
    entities: list[dict[str, Any]] = []
    for sentence in sentences:
        starts: list[int] = []
        for number, token in enumerate(sentence.tokens):
            text += " " if number else "\n" if text else ""
            starts.append(len(text))
            text += token
        for kind, first, end in spans(sentence.tags):
            if kind not in config.types:
                detail = f"a type outside {', '.join(config.types)}; the entity is left out"
                yield Problem(f"{unit.name}:{sentence.line + first}", "unknown_type", detail, ids[0], "changed")
                continue
            place = (starts[first], starts[end - 1] + len(sentence.tokens[end - 1]))
            name = {"type": config.types[kind], "text": text[place[0] : place[1]]}
            entities.append({**name, "start": place[0], "end": place[1]})
    yield Record(
        id=ids[0],
        document_id=ids[1],
        source=config.label,
        task="ner",
        category="NER",
        language="en",
        split=unit.split,
        turns=(Turn("user", context=text), Turn("assistant", trained=True)),
        gold={"entities": entities, "types": list(dict.fromkeys(config.types.values()))},
    )
