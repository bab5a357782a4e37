"""ChatDoctor's dialogues: the patient's words as context, rows without any, the published small file."""

from pathlib import Path

from medtrain.data.source import Problem
from medtrain.data.sources import chatdoctor
from medtrain.records import Record


def read(root: Path, path: str, **settings: object) -> tuple[list[Record], list[Problem]]:
    config = chatdoctor.Config.model_validate({"source": "chatdoctor", "path": path, **settings})
    items = [item for unit in chatdoctor.units(config, root) for item in chatdoctor.read(unit, config)]
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, Problem)]


def test_the_instruction_is_the_query_and_the_patients_words_its_context(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(
        '[{"instruction": "Answer.", "input": "I cough.", "output": "Rest."}, {"instruction": "Answer.", "input": " ",'
        ' "output": "Rest."}, {"instruction": "Answer.", "input": "I cough."}]'
    )
    (record,), problems = read(tmp_path, ".")
    assert (record.task, record.category, record.language, record.gold) == ("qa", "MC", "en", None)
    assert [(turn.query, turn.context, turn.text) for turn in record.turns] == [
        ("Answer.", "I cough.", ""),
        ("", "", "Rest."),
    ]
    assert [(p.position, p.rule) for p in problems] == [("rows.json:2", "bad_row"), ("rows.json:3", "bad_row")]


def test_published_small_file(shared: Path) -> None:
    records, problems = read(shared, "data/chatdoctor/chatdoctor5k.json")
    assert problems == []
    assert len({r.id for r in records}) == 5452
    assert len({r.turns[0].context for r in records}) == 5449
    (query,) = {r.turns[0].query for r in records}
    assert query.startswith("If you are a doctor,")
    assert all(r.turns[1].text.strip() for r in records)
