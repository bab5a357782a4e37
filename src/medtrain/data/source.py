"""What a source is: a Config, `units(config, root)` that lists the pieces, and `read(unit, config)` that reads one.

`read` gives records and, for every row that it cannot use or has to change, a `Problem`; one bad row never ends a unit.
Only `units` raises: for what is wrong with the input as a whole.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from pydantic import Field, model_validator

from medtrain.config import Config, knob
from medtrain.data.draw import share
from medtrain.errors import DataError
from medtrain.records import Record, Split

POINTER = b"version https://git-lfs.github.com/spec/v1"


class LocalSplit(Config):
    """A split of our own, drawn by seed and document, for a corpus that was published in one piece."""

    validation: float = Field(0.1, ge=0, lt=1)
    """Share of its documents, in [0, 1)."""
    test: float = Field(0.1, ge=0, lt=1)
    """Share of its documents, in [0, 1)."""
    seed: int = 42
    """Draws the documents."""

    @model_validator(mode="after")
    def _something_left(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation + test = {self.validation + self.test:g}: nothing is left to train on")
        return self

    def of(self, document: str) -> Split:
        """The split of a document: the same in every corpus that has it."""
        place = share(self.seed, "split", document)
        return "test" if place < self.test else "validation" if place < self.test + self.validation else "train"


class SourceConfig(Config):
    """What every source can be told."""

    source: str
    """The plug-in that reads the corpus: a file name in data/sources."""
    name: str | None = None
    """What its rows are called (`Record.source`, first part of ids); null is the plug-in's name."""
    path: str = knob()
    """The corpus's file or folder, relative to data.root, or absolute. Not identity: the files' hashes are."""
    max_rows: int | None = Field(None, ge=1)
    """At most so many clean rows, whole documents first, drawn by data.seed from all splits; null takes every row."""
    local_split: LocalSplit | None = None
    """Cuts the rows anew, whatever split they come in; null keeps the corpus's own. Manifest and report say `local`."""

    @property
    def label(self) -> str:
        """The name that the rows bear."""
        return self.name or self.source


@dataclass(frozen=True, slots=True)
class Unit:
    """One piece of a corpus: a file, bytes [start, stop) of a file of rows, or so many members of a folder or archive.

    `path` is absolute; `name` is how positions and ids call it, the same wherever the corpus lies. `first` is the
    number of the first line or item. `also` lists further files that the rows are made from.
    """

    path: str
    name: str
    split: Split = "train"
    start: int = 0
    stop: int | None = None
    first: int = 1
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """A row that was dropped, or changed, while it was read; `detail` never quotes the row. `id` is its corpus id."""

    position: str
    rule: str
    detail: str
    id: str = ""
    action: Literal["dropped", "changed"] = "dropped"


@dataclass(frozen=True, slots=True)
class Example:
    """A made corpus in a source's format, so that any plug-in can be put to the test.

    `files` by path below the corpus's folder, `config` beside source and path, `records` as many as come out.
    """

    files: dict[str, str]
    records: int
    config: dict[str, Any] = field(default_factory=dict)


class SourceModule(Protocol):
    """The shape of a plug-in in data/sources."""

    Config: type[SourceConfig]
    EXAMPLE: Example

    def units(self, config: SourceConfig, root: Path) -> list[Unit]: ...

    def read(self, unit: Unit, config: SourceConfig) -> Iterator[Record | Problem]: ...


def locate(config: SourceConfig, root: Path) -> Path:
    """The corpus's file or folder.

    Raises:
        DataError: there is none.
    """
    path = root / config.path
    if not path.exists():
        raise DataError(
            f"source {config.label}: path={config.path}: nothing of that name under {root}; check data.root"
        )
    return path


def is_pointer(path: Path) -> bool:
    """Whether a file is what Git LFS leaves in place of the data."""
    with path.open("rb") as file:
        return file.read(len(POINTER)) == POINTER


def check_file(path: Path, label: str) -> Path:
    """The path, once it is a file with data in it.

    Raises:
        DataError: it is absent, empty, or a Git LFS pointer in place of the data.
    """
    if not path.is_file():
        raise DataError(f"source {label}: {path}: no such file; check path and files")
    if is_pointer(path):
        raise DataError(f"source {label}: {path}: is a Git LFS pointer, not the data; `git lfs pull` gets it")
    if not path.stat().st_size:
        raise DataError(f"source {label}: {path}: is empty; download it again")
    return path


def size_bytes(unit: Unit) -> int:
    """How many bytes a unit spans; an archive is counted whole."""
    from medtrain.data import archive

    path = Path(unit.path)
    if path.is_dir():
        names = archive.names(path)[unit.start : unit.stop]
        return sum((path / name).stat().st_size for name in names)
    if unit.stop is not None and not archive.is_archive(path):
        return unit.stop - unit.start
    return path.stat().st_size
