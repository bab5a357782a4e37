"""Hallmarks of Cancer: abstracts labelled sentence by sentence, here with the ten upper-level hallmarks of a document.

(Baker et al., Bioinformatics 2016.) `text/<PMID>.txt` has a sentence on each line, `labels/<PMID>.txt` is one line with
a slot per sentence: `< ` opens a slot, ` AND` joins its labels, `--` separates their levels.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from medtrain.data import archive
from medtrain.data.draw import share
from medtrain.data.source import Example, Problem, SourceConfig, Unit, check_file, locate
from medtrain.data.text import decode
from medtrain.records import Record, Split, Turn

HALLMARKS = (
    "activating invasion and metastasis",
    "avoiding immune destruction",
    "cellular energetics",
    "enabling replicative immortality",
    "evading growth suppressors",
    "genomic instability and mutation",
    "inducing angiogenesis",
    "resisting cell death",
    "sustaining proliferative signaling",
    "tumor promoting inflammation",
)
SPLITS: dict[str, Split] = {"train.tsv": "train", "dev.tsv": "validation", "test.tsv": "test"}
SUFFIX = ".txt"
EXAMPLE = Example(
    {
        "text/11.txt": "Cells were grown .\nThey did not die .\n",
        "labels/11.txt": "< Resisting cell death--Apoptosis ANDInducing angiogenesis--< Resisting cell death--",
        "text/12.txt": "Nothing was found .\n",
        "labels/12.txt": "< NULL",
    },
    records=1,
)


class Config(SourceConfig):
    """Abstracts with their hallmarks; documents without any label are left out, as all published splits do."""

    split_ids: str | None = Field(None, json_schema_extra={"identity": False})
    """A folder, relative to data.root, of {train,dev,test}.tsv whose first column lists the PMIDs of each split; null
    draws 70/10/20 % by seed, the corpus itself has no split."""
    seed: int = 42
    """Draws the splits where no ids are given."""


def units(config: Config, root: Path) -> list[Unit]:
    """Groups of documents; the label files and the lists of ids count as input too.

    Raises:
        DataError: text/, labels/ or a list of ids is absent.
    """
    folder = locate(config, root)
    labels = locate(config.model_copy(update={"path": f"{config.path}/labels"}), root)
    also = [str(labels)]
    if config.split_ids is not None:
        also += [str(check_file(root / config.split_ids / name, config.label)) for name in SPLITS]
    groups = archive.units(folder / "text", config.label, "train", SUFFIX)
    return [Unit(g.path, g.name, g.split, g.start, g.stop, also=tuple(also)) for g in groups]


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """One record for each labelled document."""
    labels, *lists = (Path(path) for path in unit.also)
    given = {pmid: SPLITS[path.name] for path in lists for pmid in _first_column(path)}
    for item in archive.contents(unit, SUFFIX):
        if isinstance(item, Problem):
            yield item
            continue
        name, raw = item
        position, pmid = f"text/{name}", Path(name).stem
        text, problems = decode(raw, position)
        yield from problems
        if not (labels / name).is_file():
            yield Problem(position, "no_label_file", "labels/ has no file of this name", pmid)
            continue
        line, problems = decode((labels / name).read_bytes(), f"labels/{name}")
        yield from problems
        found, unknown = hallmarks(line)
        if unknown:
            yield Problem(f"labels/{name}", "unknown_label", f"{unknown} outside the ten hallmarks", pmid, "changed")
        if not found:
            yield Problem(position, "no_label", "the document bears no hallmark", pmid)
        elif given and pmid not in given:
            yield Problem(position, "no_split", "no list of ids has it", pmid)
        else:
            yield _record(pmid, text, found, given[pmid] if given else _drawn(config.seed, pmid), config.label)


def hallmarks(line: str) -> tuple[list[str], int]:
    """The hallmarks of a label file in alphabetical order, and how many labels are none of them."""
    found: set[str] = set()
    unknown = 0
    for slot in line.split("<")[1:]:
        for label in slot.split(" AND"):
            first = label.split("--")[0].strip().casefold()
            if first in HALLMARKS:
                found.add(first)
            elif first not in ("", "null"):
                unknown += 1
    return sorted(found), unknown


def _first_column(path: Path) -> list[str]:
    text, _ = decode(path.read_bytes(), path.name)
    return [line.split("\t")[0].strip() for line in text.split("\n")[1:] if line.strip()]


def _drawn(seed: int, pmid: str) -> Split:
    place = share(seed, "hoc", pmid)
    return "train" if place < 0.7 else "validation" if place < 0.8 else "test"


def _record(pmid: str, text: str, labels: list[str], split: Split, source: str) -> Record:
    sentences = [line.strip() for line in text.split("\n") if line.strip()]
    return Record(
        id=f"{source}:{pmid}",
        document_id=f"pmid:{pmid}",
        source=source,
        task="labels",
        category="TC",
        language="en",
        split=split,
        turns=(Turn("user", context=" ".join(sentences)), Turn("assistant", trained=True)),
        gold={"labels": labels, "label_set": list(HALLMARKS)},
    )
