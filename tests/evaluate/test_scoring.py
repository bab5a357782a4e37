"""Scores from saved answers: groups, rates, differences, the table and the report's page."""

import json
import math
from pathlib import Path

import pytest

from medtrain import artifacts
from medtrain.evaluate import report, scoring, table
from medtrain.evaluate.cases import Answer, from_lines, to_lines
from medtrain.evaluate.intervals import Bootstrap
from medtrain.evaluate.report import Material
from medtrain.storage import Store

BOOTSTRAP = Bootstrap(resamples=200, seed=1)


def entity_answer(number: int, *, right: bool, source: str = "a") -> Answer:
    gold = {"entities": [{"type": "Disease", "text": f"fever {number}"}], "types": ["Disease"]}
    text = f"Disease: fever {number}" if right else "I do not know"
    key = f"{source}:{number}"
    return Answer(key, key, source, "ner", "en", "test", "", f"fever {number}", gold, "", text, 4, not right)


def text_answer(number: int, text: str) -> Answer:
    key = f"q:{number}"
    return Answer(key, key, "q", "qa", "zh", "validation", "怎么办？", "", None, "多喝水，多休息。", text, 4, False)


def answers() -> dict[str, list[Answer]]:
    def system(share: int, text: str) -> list[Answer]:
        rows = [entity_answer(i, right=i % 10 < share, source="a" if i < 20 else "b") for i in range(30)]
        return [*rows, *(text_answer(i, text) for i in range(5))]

    return {"base": system(0, ""), "stage 1": system(7, "多喝水。"), "<b>stage 2</b>": system(9, "多喝水，多休息。")}


def test_answers_survive_their_file_and_a_cut_one_is_short() -> None:
    rows = answers()["stage 1"]
    content = to_lines(rows)
    assert from_lines(content) == rows
    assert from_lines(content[:-3]) == rows[:-1]
    assert from_lines(b"") == []


def test_groups_by_task_split_and_source() -> None:
    groups = scoring.score(answers(), {}, BOOTSTRAP)
    found = [(g["task"], g["split"], g["source"], g["rows"]) for g in groups]
    assert found == [
        ("ner", "test", None, 30),
        ("ner", "test", "a", 20),
        ("ner", "test", "b", 10),
        ("qa", "validation", None, 5),
    ]
    ner = groups[0]["systems"]
    assert ner["stage 1"]["scores"]["ner_micro_recall_set"]["value"] == pytest.approx(0.7)
    assert (ner["stage 1"]["unparsed"], ner["stage 1"]["length_hits"]) == (pytest.approx(0.3), pytest.approx(0.3))
    assert groups[3]["systems"]["<b>stage 2</b>"]["scores"]["bleu4_char_nltk_m1"]["value"] == pytest.approx(100)


def test_every_two_systems_are_compared_in_pairs() -> None:
    pairs = scoring.score(answers(), {}, BOOTSTRAP)[0]["differences"]
    assert [(p["from"], p["to"]) for p in pairs] == [
        ("base", "stage 1"),
        ("base", "<b>stage 2</b>"),
        ("stage 1", "<b>stage 2</b>"),
    ]
    gain = pairs[0]["scores"]["ner_micro_f1_set"]
    assert gain["value"] > 0.7 and gain["low"] > 0.5
    assert table.verdict(gain) == "better"
    assert table.verdict({"value": 0.0, "low": -1.0, "high": 1.0}) == "no difference shown"


def test_a_score_that_is_undefined_is_left_out_and_the_rest_is_json() -> None:
    groups = scoring.score(answers(), {}, BOOTSTRAP)
    assert "ner_micro_precision_set" not in groups[0]["systems"]["base"]["scores"]
    assert not any(math.isnan(v["value"]) for g in groups for s in g["systems"].values() for v in s["scores"].values())
    assert json.loads(json.dumps(groups, allow_nan=False)) == groups


def test_chosen_metrics_replace_a_tasks_own() -> None:
    groups = scoring.score(answers(), {"qa": ["gleu_char"]}, BOOTSTRAP)
    assert list(groups[-1]["systems"]["base"]["scores"]) == ["gleu_char_nltk"]


def test_the_table_has_every_headline_and_system() -> None:
    shown = "\n".join(table.lines(scoring.score(answers(), {}, BOOTSTRAP)))
    for part in ("ner, test: 30 rows of 30 documents", "ner_micro_f1_set", "stage 1 - base", "answers cut by length"):
        assert part in shown
    assert "source" not in shown


def page(folder: Path, examples: int) -> str:
    root = Store(str(folder))
    made = []
    kinds = {
        "data": {"rows": 7, "by_source": {"toy": {"train": 7}}, "dropped": {"toy/duplicate/dropped": 3}},
        "tokens": {"rows": 7, "by_source": {"toy": {"train": {"rows": 7, "tokens": 90}}}, "dropped": {}},
        "stage1": {},
    }
    for kind, facts in kinds.items():
        identity = artifacts.Identity({"learning_rate": 1e-4}, {}, "c")
        begun = artifacts.begin(root, kind, "toy", identity, artifacts.Policy())
        assert isinstance(begun, artifacts.Build)
        lines = [{"step": i, "loss": 4 / i, "validation/toy": 3.0} for i in range(1, 30)]
        begun.store.write("log/metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode() + b'{"st')
        made.append(begun.finish(facts))
    given = answers()
    groups = scoring.score(given, {}, BOOTSTRAP)
    return report.render(Material("toy", {"seed": 1}, "f00d", groups, given, made, examples))


def test_the_report_is_one_file_that_escapes_what_it_shows(tmp_path: Path) -> None:
    html = page(tmp_path, examples=2)
    assert "<b>stage 2</b>" not in html and "&lt;b&gt;stage 2&lt;/b&gt;" in html
    assert not any(part in html for part in ("<script", "src=", "href=", "@import"))
    assert html.count("<svg") == 3 + 4 + 1  # headline panels of ner and qa, one loss picture
    for part in ("duplicate", "learning_rate", "f00d", "多喝水", "validation/toy"):
        assert part in html


def test_the_report_quotes_rows_only_when_asked(tmp_path: Path) -> None:
    html = page(tmp_path, examples=0)
    assert "多喝水" not in html and "fever" not in html
