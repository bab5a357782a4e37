"""Medication: what of a note is read, which drugs make the label set."""

from typing import Any

import pytest

from medtrain.data.source import Problem
from medtrain.data.sources import mimic3_medication
from medtrain.data.sources.mimic3_medication import before
from medtrain.records import Record

WORDS = mimic3_medication.Config(source="mimic3_medication", path=".").until_section


def read(made: Any, **settings: object) -> tuple[list[Record], list[tuple[str, str]]]:
    root = made.write("PRESCRIPTIONS")
    config = mimic3_medication.Config.model_validate({"source": "mimic3_medication", "path": ".", **settings})
    items = [item for unit in mimic3_medication.units(config, root) for item in mimic3_medication.read(unit, config)]
    records = [item for item in items if isinstance(item, Record)]
    return records, [(item.id, item.rule) for item in items if isinstance(item, Problem)]


def give(made: Any, stay: str, *drugs: str, kind: str = "MAIN") -> None:
    for drug in drugs:
        made.add("PRESCRIPTIONS", HADM_ID=stay, DRUG_TYPE=kind, DRUG=drug, DOSE_VAL_RX="1-2")


@pytest.mark.parametrize(
    "heading",
    [
        "Brief Hospital Course:",
        "HOSPITAL COURSE:  He was given it.",
        "Brief Hospital Course",
        "CONCISE SUMMARY OF HOSPITAL COURSE BY ISSUE/SYSTEM:",
        "Medications on Admission:",
        "  HOME MEDS: none",
        "Past Medical History and Medications: it",
        "Infusions:",
        "Assessment and Plan",
    ],
)
def test_a_note_ends_where_drugs_begin(heading: str) -> None:
    assert before(f"Chief Complaint:\nPain\n\n{heading}\nrest", WORDS) == "Chief Complaint:\nPain"


@pytest.mark.parametrize(
    "line",
    [
        "Allergies to Medications: penicillin",
        "He ran out of medications.",
        "and had stopped taking all of his home medications a week before he",
        "Medical History:",
        "Medication allergy: none",
        "He says that he has been without any of the things that are called medications: he",
    ],
)
def test_other_lines_are_no_such_heading(line: str) -> None:
    assert before(f"{line}\nHospital Course: rest", WORDS) == line
    assert before(line, WORDS) is None


def test_without_words_notes_are_whole() -> None:
    assert before("a\nHospital Course: b", ()) == "a\nHospital Course: b"


def test_drugs_of_a_stay_by_frequency_in_the_commonest_spelling(mimic: Any) -> None:
    for number in range(1, 5):
        mimic.note(f"{number // 3}", f"1{number}", f"Complaint {number}\nHospital Course:\ngot Heparin")
    give(mimic, "11", "Heparin", "HEPARIN", "heparin", "Insulin")
    give(mimic, "12", "Heparin  ", "insulin", "Insulin", "Aspirin")
    give(mimic, "13", "Heparin", "Aspirin EC")
    give(mimic, "14", "Water", "Water", kind="BASE")
    give(mimic, "99", *["Aspirin"] * 9)
    give(mimic, "13", "")
    give(mimic, "", "Aspirin")
    records, problems = read(mimic, top=2)
    assert [(r.id, r.document_id, r.turns[0].context, (r.gold or {})["labels"]) for r in records] == [
        ("mimic3_medication:11", "mimic3:0", "Complaint 1", ["Heparin", "Insulin"]),
        ("mimic3_medication:12", "mimic3:0", "Complaint 2", ["Heparin", "Insulin"]),
        ("mimic3_medication:13", "mimic3:1", "Complaint 3", ["Heparin"]),
    ]
    assert {tuple((r.gold or {})["label_set"]) for r in records} == {("Heparin", "Insulin")}
    assert problems == [("13", "empty_cell"), ("", "empty_cell"), ("14", "no_label")]
    everything, _ = read(mimic, top=10, drug_types=["MAIN", "BASE"])
    assert (everything[-1].gold or {})["labels"] == ["Water"]
    assert (everything[0].gold or {})["label_set"] == ["Heparin", "Insulin", "Aspirin", "Aspirin EC", "Water"]


def test_notes_that_cannot_be_cut_are_left_out(mimic: Any) -> None:
    mimic.note("1", "11", "All in one, Heparin was given.")
    mimic.note("1", "12", "Discharge Medications:\nHeparin")
    for stay in ("11", "12"):
        give(mimic, stay, "Heparin")
    assert read(mimic) == ([], [("11", "no_section"), ("12", "empty_text")])
    assert len(read(mimic, until_section=[])[0]) == 2


def test_admission_notes_instead(mimic: Any) -> None:
    mimic.note("1", "11", "Late.\nHospital Course: x")
    kind = {"CATEGORY": "Physician ", "DESCRIPTION": "Physician Attending Admission Note - MICU"}
    mimic.note("1", "11", "Early.\nInfusions: Heparin", **kind)
    give(mimic, "11", "Heparin")
    [record] = read(mimic, note="admission")[0]
    assert record.turns[0].context == "Early."
