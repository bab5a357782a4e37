"""Readmission of MIMIC-III: a discharge summary, and whether its patient is back within 30 days after discharge.

An admission counts as a readmission if it begins at discharge or at most so many days later, to the second. Stays of
newborns and stays that end in death are not asked about. Neither is a stay during which another one of the patient
begins: its discharge is not the time at which the patient left.
"""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import Field

from medtrain.data import mimic3
from medtrain.data.draw import key
from medtrain.data.source import Example, Problem, Unit
from medtrain.records import Record, Turn

ADMISSIONS = "ADMISSIONS"
LABELS = ("yes", "no")
_COLUMNS = (
    "SUBJECT_ID", "HADM_ID", "ADMITTIME", "DISCHTIME", "DEATHTIME", "ADMISSION_TYPE", "HOSPITAL_EXPIRE_FLAG"
)  # fmt: skip
EXAMPLE = Example(
    {
        "NOTEEVENTS.csv": "ROW_ID,SUBJECT_ID,HADM_ID,CHARTDATE,CHARTTIME,STORETIME,CATEGORY,DESCRIPTION,CGID,ISERROR,"
        "TEXT\n"
        '1,1,11,2101-01-05,,,"Discharge summary","Report",,,"A made note.\n"\n'
        '2,1,12,2101-01-20,,,"Discharge summary","Report",,,"Made,\nback again."\n',
        "ADMISSIONS.csv": "ROW_ID,SUBJECT_ID,HADM_ID,ADMITTIME,DISCHTIME,DEATHTIME,ADMISSION_TYPE,ADMISSION_LOCATION,"
        "DISCHARGE_LOCATION,INSURANCE,LANGUAGE,RELIGION,MARITAL_STATUS,ETHNICITY,EDREGTIME,EDOUTTIME,DIAGNOSIS,"
        "HOSPITAL_EXPIRE_FLAG,HAS_CHARTEVENTS_DATA\n"
        '1,1,11,2101-01-01 10:00:00,2101-01-05 11:00:00,,"EMERGENCY","A","HOME","P",,,,"M",,,"MADE",0,1\n'
        '2,1,12,2101-01-15 10:00:00,2101-01-20 11:00:00,,"URGENT","A","HOME","P",,,,"M",,,"MADE; UP",0,1\n',
    },
    records=2,
)


class Config(mimic3.StaysConfig):
    """Stays with a discharge summary that the patient left alive."""

    days: int = Field(30, ge=1)
    """Days after discharge within which an admission counts."""
    count_elective: bool = False
    """Whether a planned admission (ADMISSION_TYPE ELECTIVE) counts as a readmission; where not, the next one that is
    not planned may still."""
    negatives: float | None = Field(1.0, gt=0)
    """Stays without a readmission for each stay with one, drawn by seed; null takes all. The paper has 6,263 rows, far
    fewer than MIMIC-III has such stays, and says nothing of how they were drawn."""
    seed: int = 42
    """Draws the stays without a readmission."""


@dataclass(frozen=True, slots=True)
class Stay:
    """A row of ADMISSIONS with good times."""

    position: str
    id: str
    patient: str
    admitted: datetime
    discharged: datetime
    kind: str
    died: bool


def units(config: Config, root: Path) -> list[Unit]:
    """One unit: the tables are joined.

    Raises:
        DataError: a table is absent or empty.
    """
    return mimic3.units(config, root, ADMISSIONS)


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """One record for each stay."""
    chosen = yield from mimic3.choose(unit, "discharge")
    stays = yield from _stays(unit)
    back = yield from _answers(stays, chosen, config)
    for note in mimic3.notes(unit, "discharge", chosen):
        if note.stay not in stays:
            yield Problem(note.position, "no_admission", "ADMISSIONS has no usable row of the stay", note.stay)
        elif stays[note.stay].patient != note.patient:
            yield Problem(note.position, "other_patient", "ADMISSIONS gives the stay to another patient", note.stay)
        elif note.stay in back:
            yield Record(
                id=f"{config.label}:{note.stay}",
                document_id=f"mimic3:{note.patient}",
                source=config.label,
                task="choice",
                category="TC",
                language="en",
                split=unit.split,
                turns=(Turn("user", _question(config), note.text), Turn("assistant", trained=True)),
                gold={"label": LABELS[not back[note.stay]], "label_set": list(LABELS)},
            )


def _question(config: Config) -> str:
    """What "yes" and "no" answer: without it they say nothing."""
    planned = "" if config.count_elective else "unplanned "
    return f"Will the patient have an {planned}admission to the hospital within {config.days} days after discharge?"


def _stays(unit: Unit) -> Generator[Problem, None, dict[str, Stay]]:
    found: dict[str, Stay] = {}
    for row in mimic3.rows(unit, ADMISSIONS, _COLUMNS):
        if isinstance(row, Problem):
            yield row
            continue
        line, (patient, id, came, left, death, kind, flag) = row
        position = f"{ADMISSIONS}.csv:{line}"
        admitted, discharged = mimic3.time(came), mimic3.time(left)
        if not patient or not id:
            yield Problem(position, "empty_cell", "SUBJECT_ID or HADM_ID is empty", id)
        elif admitted is None or discharged is None or discharged < admitted:
            yield Problem(position, "bad_time", "ADMITTIME or DISCHTIME is no time, or discharge comes first", id)
        elif id in found:
            yield Problem(position, "repeated_stay", f"{found[id].position} has this HADM_ID already", id)
        else:
            died = bool(death) or flag == "1"
            found[id] = Stay(position, id, patient, admitted, discharged, kind.upper(), died)
    return found


def _answers(
    stays: Mapping[str, Stay], noted: Mapping[str, int], config: Config
) -> Generator[Problem, None, dict[str, bool]]:
    """Stay -> whether the patient is back in time, of the stays that are asked about."""
    patients: dict[str, list[Stay]] = {}
    for stay in stays.values():
        patients.setdefault(stay.patient, []).append(stay)
    found: dict[str, bool] = {}
    for stay in stays.values():
        others = [other for other in patients[stay.patient] if other is not stay]
        if stay.id not in noted:
            continue
        if stay.kind == "NEWBORN":
            yield Problem(stay.position, "newborn", "the stay begins with birth", stay.id)
        elif stay.died:
            yield Problem(stay.position, "died", "the patient died in the stay", stay.id)
        elif any(stay.admitted <= other.admitted < stay.discharged for other in others):
            yield Problem(stay.position, "overlap", "another stay of the patient begins before discharge", stay.id)
        else:
            found[stay.id] = any(_counts(stay, other, config) for other in others)
    return (yield from _drawn(found, config))


def _counts(stay: Stay, other: Stay, config: Config) -> bool:
    """Whether another stay of the patient is a readmission after this one."""
    planned = other.kind == "ELECTIVE" and not config.count_elective
    return not planned and timedelta(0) <= other.admitted - stay.discharged <= timedelta(days=config.days)


def _drawn(answers: dict[str, bool], config: Config) -> Generator[Problem, None, dict[str, bool]]:
    """All stays with a readmission, and as many of the others as are wanted."""
    if config.negatives is None:
        return answers
    others = sorted((id for id, back in answers.items() if not back), key=lambda id: key(config.seed, "mimic3", id))
    wanted = round(config.negatives * (len(answers) - len(others)))
    if wanted < len(others):
        detail = f"{len(others) - wanted} of {len(others)} stays without a readmission are not drawn"
        yield Problem(f"{ADMISSIONS}.csv", "not_drawn", detail)
    gone = set(others[wanted:])
    return {id: back for id, back in answers.items() if id not in gone}
