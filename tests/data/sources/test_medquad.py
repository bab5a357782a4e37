"""MedQuAD: three schemas, indentation, pairs without answers, the published files to the last pair."""

import zipfile
from collections import Counter
from pathlib import Path

from medtrain.data.source import Problem
from medtrain.data.sources import medquad
from medtrain.records import Record


def read(root: Path, path: str) -> tuple[list[Record], list[Problem]]:
    config = medquad.Config(source="medquad", path=path)
    items = [item for unit in medquad.units(config, root) for item in medquad.read(unit, config)]
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, Problem)]


def test_zip_with_bad_members(tmp_path: Path) -> None:
    pairs = "<QAPair><Question>q</Question><Answer> </Answer></QAPair><QAPair><Answer>a</Answer></QAPair>"
    files = {
        **medquad.EXAMPLE.files,
        "4/1.xml": f"<Document><QAPairs>{pairs}</QAPairs></Document>",
        "4/2.xml": "<Document><QAPairs/></Document>",
        "4/3.xml": "<Page>text</Page>",
        "4/4.xml": "<Document>",
        "4/5.xml": "<!DOCTYPE a [<!ENTITY x 'ha'>]><Document>&x;</Document>",
    }
    with zipfile.ZipFile(tmp_path / "MedQuAD.zip", "w") as file:
        for name, text in files.items():
            file.writestr(name, text)
    records, problems = read(tmp_path, "MedQuAD.zip")
    assert [r.turns[1].text for r in records] == ["It is\n- made.", "Here.", "Me."]
    assert [(p.position, p.rule) for p in problems] == [
        ("4/1.xml#1", "empty_answer"),
        ("4/1.xml#2", "no_question"),
        ("4/2.xml", "no_pairs"),
        ("4/3.xml", "unknown_schema"),
        ("4/4.xml", "bad_xml"),
        ("4/5.xml", "bad_xml"),
    ]


def test_published_files_to_the_last_pair(shared: Path) -> None:
    records, problems = read(shared, "data/medquad")
    assert len(records) == len({r.id for r in records}) == 5604
    assert Counter(r.id.split(":")[1].split("/")[0].split("_", 1)[1] for r in records) == {
        "CancerGov_QA": 729,
        "MPlus_Health_Topics_QA": 981,
        "NIDDK_QA": 1192,
        "NINDS_QA": 1088 + 16,
        "SeniorHealth_QA": 769,
        "NHLBI_QA_XML": 559,
        "CDC_QA": 270,
    }
    assert len({r.meta["qtype"] for r in records}) == 16
    assert Counter(p.rule for p in problems) == {"no_pairs": 6}
