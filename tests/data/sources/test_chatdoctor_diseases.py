"""The table of diseases: lists as literals, scraps in place of descriptions, bytes written out, the published table."""

from collections import Counter
from pathlib import Path

import pytest

from medtrain.data.source import Problem
from medtrain.data.sources import chatdoctor_diseases
from medtrain.records import Record
from medtrain.tokens.wording import attribute

HEADER = "idx,disease,Symptom,reason,TestsAndProcedures,commonMedications\n"


def read(root: Path, path: str, **settings: object) -> tuple[list[Record], list[Problem]]:
    config = chatdoctor_diseases.Config.model_validate({"source": "chatdoctor_diseases", "path": path, **settings})
    items = [
        item for unit in chatdoctor_diseases.units(config, root) for item in chatdoctor_diseases.read(unit, config)
    ]
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, Problem)]


def test_a_record_for_each_disease_and_column(tmp_path: Path) -> None:
    rows = (
        """7,Made cough,"['Cough', ' Cough', 'Sore; throat']"," Caf\\xc3\\xa9 \\xce\\xb1, his\\'s. ","[]",[]\n"""
        """8,Made fever,not a list,"thiamine, ","['Test', 3]",__import__('os').getcwd()\n"""
        """9,Made rash,['Red'],Rash may refer to: ,['Look'],['Rest'],extra\n,No number,[],,[],[]\n"""
    )
    (tmp_path / "format_dataset.csv").write_text(HEADER + rows)
    records, problems = read(tmp_path, ".")
    assert [(r.id, r.document_id, r.turns[0].query, r.gold) for r in records] == [
        (
            f"chatdoctor_diseases:7/{column}",
            "chatdoctor_diseases:7",
            "Made cough",
            {"attribute": name, "values": values},
        )
        for column, name, values in (
            ("Symptom", "symptoms", ["Cough", "Sore; throat"]),
            ("reason", "description", ["Café α, his's."]),
        )
    ]
    assert [(p.id, p.rule) for p in problems] == [
        ("7/TestsAndProcedures", "no_value"),
        ("7/commonMedications", "no_value"),
        ("7/reason", "byte_escapes"),
        ("8/Symptom", "bad_value"),
        ("8/TestsAndProcedures", "bad_value"),
        ("8/commonMedications", "bad_value"),
        ("8/reason", "bad_value"),
        ("9", "bad_row"),
        ("", "bad_row"),
    ]


@pytest.mark.parametrize("text", ["\n", "idx,disease\n1,x\n", HEADER.lower(), HEADER + '1,"' + "x" * 2**21])
def test_a_table_of_another_kind_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "table.csv").write_text(text)
    records, problems = read(tmp_path, "table.csv")
    assert records == []
    assert [p.rule for p in problems] == ["bad_csv" if len(text) > 1000 else "bad_header"]


def test_published_table(shared: Path) -> None:
    records, problems = read(shared, "data/chatdoctor/format_dataset.csv")
    golds = [r.gold or {} for r in records]
    assert len({r.document_id for r in records}) == len({r.turns[0].query for r in records}) == 796
    assert Counter(gold["attribute"] for gold in golds) == {
        "symptoms": 796,
        "tests and procedures": 794,
        "common medications": 796,
        "description": 796 - 131,
    }
    assert Counter((p.rule, p.action) for p in problems) == {
        ("byte_escapes", "changed"): 147,
        ("bad_value", "dropped"): 131,
        ("no_value", "dropped"): 2,
    }
    descriptions = [gold["values"][0] for gold in golds if gold["attribute"] == "description"]
    assert not any("\\" in text or "\ufffd" in text for text in descriptions)
    for gold in golds:
        values = [" ".join(value.split()) for value in gold["values"]]
        assert attribute.parse(attribute.render(gold, "en"), "en") == {"values": values}
