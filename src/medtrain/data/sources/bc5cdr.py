"""BC5CDR, the BioCreative V chemical-disease corpus, as PubTator files (Li et al., Database 2016, baw068)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from medtrain.data import pubtator
from medtrain.data.source import Example, Problem, Unit
from medtrain.records import Record, Split

TYPES = {"Chemical": "Chemical", "Disease": "Disease"}
_TEXT = (
    "{0}|t|Drug A causes fever.\n{0}|a|Fever fell.\n{0}\t0\t6\tDrug A\tChemical\tC1\n"
    "{0}\t14\t19\tfever\tDisease\tD1|D2\tpart one|part two\n{0}\t21\t26\tFever\tDisease\tD1\n{0}\tCID\tC1\tD1\n\n"
)
EXAMPLE = Example(
    {
        "CDR_TrainingSet.PubTator.txt": _TEXT.format(21) + _TEXT.format(22),
        "CDR_DevelopmentSet.PubTator.txt": _TEXT.format(23),
        "CDR_TestSet.PubTator.txt": _TEXT.format(24),
    },
    records=4,
)


class Config(pubtator.PubTatorConfig):
    """Abstracts with chemicals, diseases and chemical-induced diseases."""

    files: dict[Split, str] = Field(
        {
            "train": "CDR_TrainingSet.PubTator.txt",
            "validation": "CDR_DevelopmentSet.PubTator.txt",
            "test": "CDR_TestSet.PubTator.txt",
        }
    )
    """Split -> file name below path."""
    task: Literal["ner", "relations"] = "ner"
    """What is asked of each abstract: entities, or CID relations (for both, take the source twice, by two names)."""


def units(config: Config, root: Path) -> list[Unit]:
    """One unit for each file."""
    return pubtator.units(config, root)


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """One record for each abstract."""
    for document in pubtator.documents(unit):
        if isinstance(document, Problem):
            yield document
        elif config.task == "ner":
            yield pubtator.ner_record(document, unit, config.label, TYPES)
        else:
            yield from pubtator.relation_record(document, unit, config.label, ["CID"])
