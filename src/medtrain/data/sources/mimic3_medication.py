"""Medication recommendation of MIMIC-III: what a note says before it names drugs, and those prescribed in its stay.

A whole discharge summary lists the drugs on admission and at discharge, and the hospital course tells what was given:
the answer would stand in the question. So a note is read up to the first such section (`until_section`): what is left
is complaint, history, examination and findings. The history may name drugs still; that is what a physician knows too.
"""

import re
from collections import Counter
from collections.abc import Collection, Generator, Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from medtrain.data import mimic3
from medtrain.data.source import Example, Problem, Unit
from medtrain.records import Record, Turn

DRUGS = "PRESCRIPTIONS"
HEADING_CHARACTERS, HEADING_WORDS = 60, 4
"""A heading is what stands before a line's first colon, in so many characters, or a line of so few words."""
EXAMPLE = Example(
    {
        "NOTEEVENTS.csv": "ROW_ID,SUBJECT_ID,HADM_ID,CHARTDATE,CHARTTIME,STORETIME,CATEGORY,DESCRIPTION,CGID,ISERROR,"
        "TEXT\n"
        '1,1,11,2101-01-05,,,"Discharge summary","Report",,,"Chief Complaint:\nMade pain\n\nBrief Hospital Course:\n'
        'Given madecillin.\n"\n'
        '2,2,12,2102-02-05,,,"Discharge summary","Report",,,"History: made.\nMedications on Admission: none"\n',
        "PRESCRIPTIONS.csv": "ROW_ID,SUBJECT_ID,HADM_ID,ICUSTAY_ID,STARTDATE,ENDDATE,DRUG_TYPE,DRUG,DRUG_NAME_POE,"
        "DRUG_NAME_GENERIC,FORMULARY_DRUG_CD,GSN,NDC,PROD_STRENGTH,DOSE_VAL_RX,DOSE_UNIT_RX,FORM_VAL_DISP,"
        "FORM_UNIT_DISP,ROUTE\n"
        '1,1,11,,2101-01-01 00:00:00,,"MAIN","Madecillin",,,"M1",,"0","1g","1-2","g",,,"IV"\n'
        '2,2,12,,2102-02-01 00:00:00,,"MAIN","madecillin",,,"M1",,"0","1g","1","g",,,"IV"\n'
        '3,2,12,,2102-02-01 00:00:00,,"BASE","Water",,,"W",,"0","1l","1","l",,,"IV"\n',
    },
    records=2,
)


class Config(mimic3.StaysConfig):
    """Stays with a note and at least one of the drugs."""

    top: int = Field(50, ge=1)
    """How many drugs make the label set: those that most stays with a note have."""
    drug_types: tuple[Literal["MAIN", "BASE", "ADDITIVE"], ...] = Field(("MAIN",), min_length=1)
    """DRUG_TYPEs that count as drugs; BASE is the fluid that one is given in."""
    note: Literal["discharge", "admission"] = "discharge"
    """The last discharge summary of a stay, or its first admission note by a physician, which not all stays have."""
    until_section: tuple[Annotated[str, Field(min_length=1)], ...] = (
        "hospital course",
        "medications",
        "meds",
        "infusions",
        "last dose of antibiotics",
        "assessment and plan",
    )
    """The note is read up to the first line whose heading has one of these words, in either case; a note without such
    a heading is dropped, since nobody knows where its answer begins. Empty reads whole notes, answers included."""


def units(config: Config, root: Path) -> list[Unit]:
    """One unit: the tables are joined.

    Raises:
        DataError: a table is absent or empty.
    """
    return mimic3.units(config, root, DRUGS)


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """One record for each stay."""
    chosen = yield from mimic3.choose(unit, config.note)
    drugs, spellings = yield from _drugs(unit, chosen, config)
    top = mimic3.most_frequent(drugs, config.top)
    labels = {drug: min(spellings[drug], key=lambda name: (-spellings[drug][name], name)) for drug in top}
    for note in mimic3.notes(unit, config.note, chosen):
        text = before(note.text, config.until_section)
        own = drugs.get(note.stay, set())
        if text is None:
            yield Problem(note.position, "no_section", "has no heading of until_section", note.stay)
        elif not text:
            yield Problem(note.position, "empty_text", "nothing stands before the first section", note.stay)
        elif not own & labels.keys():
            yield Problem(note.position, "no_label", f"none of the first {config.top} drugs", note.stay)
        else:
            yield Record(
                id=f"{config.label}:{note.stay}",
                document_id=f"mimic3:{note.patient}",
                source=config.label,
                task="labels",
                category="MLDC",
                language="en",
                split=unit.split,
                turns=(Turn("user", context=text), Turn("assistant", trained=True)),
                gold={"labels": [labels[drug] for drug in top if drug in own], "label_set": list(labels.values())},
            )


def before(text: str, words: Collection[str]) -> str | None:
    """What stands before the first section of `words`; None where there is no such section. No words: all of it."""
    if not words:
        return text
    # "Allergies to medications" is no list of what is given.
    heading = re.compile(rf"(?!.*allerg).*\b(?:{'|'.join(map(re.escape, words))})\b", re.IGNORECASE)
    kept: list[str] = []
    for line in text.split("\n"):
        start, colon, _ = line.partition(":")
        lone = len(start.split()) <= HEADING_WORDS and not start.rstrip().endswith(".")
        if (len(start.strip()) <= HEADING_CHARACTERS if colon else lone) and heading.match(start):
            return "\n".join(kept).strip()
        kept.append(line)
    return None


def _drugs(
    unit: Unit, stays: Collection[str], config: Config
) -> Generator[Problem, None, tuple[dict[str, set[str]], dict[str, Counter[str]]]]:
    """Stay -> its drugs in folded case, each once; and how often each is spelled in which way."""
    found: dict[str, set[str]] = {}
    spellings: dict[str, Counter[str]] = {}
    one: dict[str, str] = {}
    for row in mimic3.rows(unit, DRUGS, ("HADM_ID", "DRUG_TYPE", "DRUG")):
        if isinstance(row, Problem):
            yield row
            continue
        line, (stay, kind, spelled) = row
        if kind not in config.drug_types:
            continue
        name = " ".join(spelled.split())
        if not stay or not name:
            yield Problem(f"{DRUGS}.csv:{line}", "empty_cell", "HADM_ID or DRUG is empty", stay)
        elif stay in stays:
            drug = one.setdefault(name.casefold(), name.casefold())  # one string each: there are millions of rows
            found.setdefault(stay, set()).add(drug)
            spellings.setdefault(drug, Counter())[name] += 1
    return found, spellings
