"""The NCBI Disease corpus as PubTator files (Dogan, Leaman, Lu, J Biomed Inform 2014)."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from medtrain.data import pubtator
from medtrain.data.source import Example, Problem, Unit
from medtrain.records import Record, Split

TYPES = ("SpecificDisease", "Modifier", "DiseaseClass", "CompositeMention")
_TEXT = "{0}|t|Copper toxicosis in dogs\n{0}|a|A disease.\n{0}\t0\t16\tCopper toxicosis\tModifier\tD1+D2\n"
EXAMPLE = Example(
    {
        "NCBItrainset_corpus.txt": _TEXT.format(31) + "\n" + _TEXT.format(32),
        "NCBIdevelopset_corpus.txt": _TEXT.format(33),
        "NCBItestset_corpus.txt": _TEXT.format(34),
    },
    records=4,
)


class Config(pubtator.PubTatorConfig):
    """Abstracts with disease mentions. One document (8528200) stands twice in the training file."""

    files: dict[Split, str] = Field(
        {
            "train": "NCBItrainset_corpus.txt",
            "validation": "NCBIdevelopset_corpus.txt",
            "test": "NCBItestset_corpus.txt",
        }
    )
    """Split -> file name below path."""
    collapse: bool = True
    """Ask for one class, Disease, as the literature does; false keeps the corpus's four."""


def units(config: Config, root: Path) -> list[Unit]:
    """One unit for each file."""
    return pubtator.units(config, root)


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """One record for each abstract."""
    types = {name: "Disease" if config.collapse else name for name in TYPES}
    for document in pubtator.documents(unit):
        yield document if isinstance(document, Problem) else pubtator.ner_record(document, unit, config.label, types)
