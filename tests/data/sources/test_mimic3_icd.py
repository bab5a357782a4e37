"""ICD-9 coding: which codes make the label set, what they are called, which stays are left out."""

from typing import Any

from medtrain.data.source import Problem
from medtrain.data.sources import mimic3_icd
from medtrain.records import Record


def read(made: Any, **settings: object) -> tuple[list[Record], list[tuple[str, str]]]:
    root = made.write("DIAGNOSES_ICD", "D_ICD_DIAGNOSES")
    config = mimic3_icd.Config.model_validate({"source": "mimic3_icd", "path": ".", **settings})
    items = [item for unit in mimic3_icd.units(config, root) for item in mimic3_icd.read(unit, config)]
    records = [item for item in items if isinstance(item, Record)]
    return records, [(item.id, item.rule) for item in items if isinstance(item, Problem)]


def fill(made: Any) -> None:
    """Five stays; how many have each code: 4019 three, 0010 two, 2 two; X is that of a stay without a note."""
    codes = {"11": "4019 0010 4019", "12": "0010 4019 2", "13": "4019", "14": "2", "99": "X X X X"}
    for number, (stay, own) in enumerate(codes.items()):
        for code in own.split():
            made.add("DIAGNOSES_ICD", SUBJECT_ID=str(number), HADM_ID=stay, ICD9_CODE=code)
        if stay != "99":
            made.note(str(number // 2), stay, f"A note of [**Hospital {number}**].\n\nIts end.")
    made.note("7", "15", "A note of a stay without codes.")
    made.add("DIAGNOSES_ICD", SUBJECT_ID="7", HADM_ID="15")
    titles = {"4019": "Hypertension, made", "0010": "Cholera; made", "X": "None"}
    for code, title in titles.items():
        made.add("D_ICD_DIAGNOSES", ICD9_CODE=code, SHORT_TITLE=title[:4], LONG_TITLE=title)


def test_labels_of_the_most_frequent_codes(mimic: Any) -> None:
    fill(mimic)
    records, problems = read(mimic, top=2)
    assert [(r.id, r.document_id, (r.gold or {})["labels"]) for r in records] == [
        ("mimic3_icd:11", "mimic3:0", ["Hypertension, made", "Cholera; made"]),
        ("mimic3_icd:12", "mimic3:0", ["Hypertension, made", "Cholera; made"]),
        ("mimic3_icd:13", "mimic3:1", ["Hypertension, made"]),
    ]
    assert {tuple((r.gold or {})["label_set"]) for r in records} == {("Hypertension, made", "Cholera; made")}
    assert problems == [("15", "empty_cell"), ("14", "no_label"), ("15", "no_code")]
    assert records[0].turns[0].context == "A note of [**Hospital 0**].\n\nIts end."
    assert (records[0].task, records[0].category, records[0].split) == ("labels", "MLDC", "train")


def test_top_reaches_as_far_as_there_are_codes(mimic: Any) -> None:
    fill(mimic)
    records, problems = read(mimic, top=50, titles="short", split="test")
    assert (records[0].gold or {})["label_set"] == ["Hype", "Chol", "2"]
    assert [(r.gold or {})["labels"] for r in records] == [["Hype", "Chol"], ["Hype", "Chol", "2"], ["Hype"], ["2"]]
    assert {r.split for r in records} == {"test"}
    assert ("2", "no_title") in problems


def test_a_title_of_two_codes_says_which(mimic: Any) -> None:
    mimic.note("1", "11", "x")
    for code in ("0010", "010"):
        mimic.add("DIAGNOSES_ICD", HADM_ID="11", ICD9_CODE=code)
        mimic.add("D_ICD_DIAGNOSES", ICD9_CODE=code, LONG_TITLE="Same  made title")
    [record] = read(mimic)[0]
    assert (record.gold or {})["labels"] == ["Same made title (0010)", "Same made title (010)"]
