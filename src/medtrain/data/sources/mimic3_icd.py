"""ICD-9 coding of MIMIC-III: a discharge summary, and which of the most frequent diagnoses its stay was coded with.

The labels are the codes' titles, so that a model can be asked in words. The order of a stay's labels is that of the
label set, the most frequent first: SEQ_NUM orders for billing and may be empty.
"""

from collections import Counter
from collections.abc import Collection, Generator, Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from medtrain.data import mimic3
from medtrain.data.source import Example, Problem, Unit
from medtrain.records import Record, Turn

CODES, TITLES = "DIAGNOSES_ICD", "D_ICD_DIAGNOSES"
EXAMPLE = Example(
    {
        "NOTEEVENTS.csv": "ROW_ID,SUBJECT_ID,HADM_ID,CHARTDATE,CHARTTIME,STORETIME,CATEGORY,DESCRIPTION,CGID,ISERROR,"
        "TEXT\n"
        '1,1,11,2101-01-05,,,"Discharge summary","Report",,,"Made [**2101-1-5**] note,\n\nwith ""quotes""."\n'
        '2,2,12,2102-02-05,,,"Discharge summary","Report",,,"Another made note."\n'
        '3,2,12,2102-02-04,,,"Nursing","Report",,,"A nurse\'s note."\n',
        "DIAGNOSES_ICD.csv": 'ROW_ID,SUBJECT_ID,HADM_ID,SEQ_NUM,ICD9_CODE\n1,1,11,1,"0010"\n2,1,11,2,"4019"\n'
        '3,2,12,1,"4019"\n4,2,12,,\n',
        "D_ICD_DIAGNOSES.csv": "ROW_ID,ICD9_CODE,SHORT_TITLE,LONG_TITLE\n"
        '1,"0010","Made up","Made-up disease, unspecified"\n2,"4019","Other","Other made disease"\n',
    },
    records=2,
)


class Config(mimic3.StaysConfig):
    """Stays with a discharge summary and at least one of the codes; procedures are not asked for."""

    top: int = Field(50, ge=1)
    """How many codes make the label set: those that most stays with a discharge summary have."""
    titles: Literal["long", "short"] = "long"
    """Codes are called by LONG_TITLE (words) or SHORT_TITLE (abbreviations)."""


def units(config: Config, root: Path) -> list[Unit]:
    """One unit: the tables are joined.

    Raises:
        DataError: a table is absent or empty.
    """
    return mimic3.units(config, root, CODES, TITLES)


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """One record for each stay; stays with none of the codes are left out, as in all published top-k sets."""
    chosen = yield from mimic3.choose(unit, "discharge")
    codes = yield from _codes(unit, chosen)
    top = mimic3.most_frequent(codes, config.top)
    labels = yield from _labels(unit, top, config)
    for note in mimic3.notes(unit, "discharge", chosen):
        if not (own := codes.get(note.stay)):
            yield Problem(note.position, "no_code", "the stay has no ICD-9 code", note.stay)
        elif not own & labels.keys():
            yield Problem(note.position, "no_label", f"none of its codes is among the first {config.top}", note.stay)
        else:
            yield Record(
                id=f"{config.label}:{note.stay}",
                document_id=f"mimic3:{note.patient}",
                source=config.label,
                task="labels",
                category="MLDC",
                language="en",
                split=unit.split,
                turns=(Turn("user", context=note.text), Turn("assistant", trained=True)),
                gold={"labels": [labels[code] for code in top if code in own], "label_set": list(labels.values())},
            )


def _codes(unit: Unit, stays: Collection[str]) -> Generator[Problem, None, dict[str, set[str]]]:
    """Stay -> its codes, each once."""
    found: dict[str, set[str]] = {}
    for row in mimic3.rows(unit, CODES, ("HADM_ID", "ICD9_CODE")):
        if isinstance(row, Problem):
            yield row
            continue
        line, (stay, code) = row
        if not stay or not code:
            yield Problem(f"{CODES}.csv:{line}", "empty_cell", "HADM_ID or ICD9_CODE is empty", stay)
        elif stay in stays:
            found.setdefault(stay, set()).add(code)
    return found


def _labels(unit: Unit, top: list[str], config: Config) -> Generator[Problem, None, dict[str, str]]:
    """Code -> label, in the order of `top`; the code itself where the dictionary has none, or beside a title of two."""
    titles: dict[str, str] = {}
    for row in mimic3.rows(unit, TITLES, ("ICD9_CODE", f"{config.titles.upper()}_TITLE")):
        if isinstance(row, Problem):
            yield row
        elif row[1][0] in top and row[1][1]:
            titles[row[1][0]] = " ".join(row[1][1].split())
    uses = Counter(title.casefold() for title in titles.values())
    found = {}
    for code in top:
        title = titles.get(code, "")
        if not title:
            yield Problem(f"{TITLES}.csv", "no_title", "the code stands for itself", code, "changed")
        found[code] = title if uses[title.casefold()] == 1 else f"{title} ({code})" if title else code
    return found
