"""Readmission: what counts as one, to the second; who is not asked about; how the others are drawn."""

from typing import Any

import pytest

from medtrain.data.source import Problem
from medtrain.data.sources import mimic3_readmission
from medtrain.records import Record


def read(made: Any, **settings: object) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """The answers by stay, and the problems; every stay without a readmission is kept unless `negatives` says more."""
    records, problems = items(made, **settings)
    return {r.id.split(":")[1]: (r.gold or {})["label"] for r in records}, [(p.id, p.rule) for p in problems]


def items(made: Any, **settings: object) -> tuple[list[Record], list[Problem]]:
    root = made.write("ADMISSIONS")
    given = {"source": "mimic3_readmission", "path": ".", "negatives": None, **settings}
    config = mimic3_readmission.Config.model_validate(given)
    found = [item for unit in mimic3_readmission.units(config, root) for item in mimic3_readmission.read(unit, config)]
    return [i for i in found if isinstance(i, Record)], [i for i in found if isinstance(i, Problem)]


def stay(made: Any, patient: str, id: str, came: str, left: str, **cells: str) -> None:
    """A stay with a discharge summary; times without seconds, in the year 2190."""
    made.note(patient, id, f"Note of [**{id}**].")
    times = {"ADMITTIME": f"2190-{came}:00", "DISCHTIME": f"2190-{left}:00"}
    kind = {"ADMISSION_TYPE": "EMERGENCY", "HOSPITAL_EXPIRE_FLAG": "0"}
    made.add("ADMISSIONS", SUBJECT_ID=patient, HADM_ID=id, **{**times, **kind, **cells})


@pytest.mark.parametrize(
    ("came", "answer"),
    [
        ("01-10 12:00", "yes"),  # at discharge
        ("01-20 09:00", "yes"),
        ("02-09 12:00", "yes"),  # thirty days to the second
        ("02-09 12:01", "no"),
        ("11-01 08:00", "no"),  # a later month, though "11-" sorts as text after "02-"
    ],
)
def test_thirty_days_are_counted_in_time(mimic: Any, came: str, answer: str) -> None:
    # The later stay stands first in the table, and another patient's is near.
    stay(mimic, "1", "12", came, "12-24 10:00")
    stay(mimic, "1", "11", "01-01 08:00", "01-10 12:00")
    stay(mimic, "2", "21", "01-11 08:00", "01-12 08:00")
    answers, problems = read(mimic)
    assert answers == {"11": answer, "12": "no", "21": "no"}
    assert problems == []


def test_days_is_a_setting_and_the_question_says_it(mimic: Any) -> None:
    stay(mimic, "1", "11", "01-01 08:00", "01-10 12:00")
    stay(mimic, "1", "12", "01-15 08:00", "01-16 12:00")
    assert read(mimic, days=4)[0]["11"] == "no"
    [record, _], _ = items(mimic, days=7)
    assert (record.gold or {}) == {"label": "yes", "label_set": ["yes", "no"]}
    turn = record.turns[0]
    asked = "Will the patient have an unplanned admission to the hospital within 7 days after discharge?"
    assert (turn.query, turn.context) == (asked, "Note of [**11**].")
    assert (record.document_id, record.task, record.category) == ("mimic3:1", "choice", "TC")


def test_a_planned_admission_counts_only_where_asked_for(mimic: Any) -> None:
    stay(mimic, "1", "11", "01-01 08:00", "01-10 12:00")
    stay(mimic, "1", "12", "01-15 08:00", "01-16 12:00", ADMISSION_TYPE="ELECTIVE")
    assert read(mimic)[0] == {"11": "no", "12": "no"}
    assert read(mimic, count_elective=True)[0] == {"11": "yes", "12": "no"}
    # A planned one in between hides no other.
    stay(mimic, "1", "13", "01-20 08:00", "01-21 12:00", ADMISSION_TYPE="URGENT")
    assert read(mimic)[0] == {"11": "yes", "12": "yes", "13": "no"}


def test_who_is_not_asked_about(mimic: Any) -> None:
    stay(mimic, "1", "11", "01-01 08:00", "01-10 12:00", ADMISSION_TYPE="NEWBORN")
    stay(mimic, "1", "12", "01-12 08:00", "01-14 12:00")
    stay(mimic, "1", "13", "01-20 08:00", "01-22 12:00", HOSPITAL_EXPIRE_FLAG="1")
    stay(mimic, "2", "21", "01-20 08:00", "01-22 12:00", DEATHTIME="2190-01-22 12:00:00")
    stay(mimic, "3", "31", "01-20 08:00", "01-30 12:00")
    stay(mimic, "3", "32", "01-22 08:00", "01-23 12:00")
    answers, problems = read(mimic)
    assert answers == {"12": "yes", "32": "no"}
    assert problems == [("11", "newborn"), ("13", "died"), ("21", "died"), ("31", "overlap")]


def test_rows_that_cannot_be_used(mimic: Any) -> None:
    stay(mimic, "1", "11", "01-10 08:00", "01-01 12:00")
    stay(mimic, "1", "12", "01-10 08:00", "01-10 12:00", DISCHTIME="")
    stay(mimic, "1", "13", "01-10 08:00", "01-10 12:00", ADMITTIME="2190-02-30 00:00:00")
    stay(mimic, "", "14", "01-10 08:00", "01-10 12:00")
    stay(mimic, "1", "15", "03-10 08:00", "03-10 12:00")
    mimic.add("ADMISSIONS", **mimic.rows["ADMISSIONS"][-1])
    mimic.note("1", "16", "a stay that ADMISSIONS lacks")
    stay(mimic, "2", "17", "05-10 08:00", "05-10 12:00")
    mimic.rows["NOTEEVENTS"][-1]["SUBJECT_ID"] = "1"
    mimic.add("ADMISSIONS", HADM_ID="18", SUBJECT_ID="1", ADMITTIME="2190-06-01 00:00:00", DISCHTIME="2190-06-02")
    answers, problems = read(mimic)
    assert answers == {"15": "no"}
    assert sorted(problems) == [
        ("", "no_stay"),
        ("11", "bad_time"),
        ("11", "no_admission"),
        ("12", "bad_time"),
        ("12", "no_admission"),
        ("13", "bad_time"),
        ("13", "no_admission"),
        ("14", "empty_cell"),
        ("15", "repeated_stay"),
        ("16", "no_admission"),
        ("17", "other_patient"),
    ]


def test_as_many_others_as_wanted_are_drawn_by_seed(mimic: Any) -> None:
    for number in range(100, 140):
        stay(mimic, str(number), f"{number}1", "01-01 08:00", "01-10 12:00")
    for number in range(200, 205):
        stay(mimic, str(number), f"{number}1", "01-01 08:00", "01-10 12:00")
        mimic.add(
            "ADMISSIONS", SUBJECT_ID=str(number), HADM_ID=f"{number}2",
            ADMITTIME="2190-01-15 00:00:00", DISCHTIME="2190-01-16 00:00:00",
        )  # fmt: skip
    answers, problems = read(mimic, negatives=1.0)
    # Stays without a note (2002, 2012, …) are neither asked about nor counted.
    assert sorted(answers.values()) == ["no"] * 5 + ["yes"] * 5
    assert problems == [("", "not_drawn")]
    assert items(mimic, negatives=1.0)[1][0].detail == "35 of 40 stays without a readmission are not drawn"
    assert read(mimic, negatives=1.0)[0] == answers
    assert read(mimic, negatives=1.0, seed=7)[0] != answers
    assert len(read(mimic, negatives=2.0)[0]) == 15
    assert len(read(mimic, negatives=100)[0]) == 45
    assert len(read(mimic)[0]) == 45
