"""Running rules: order, reasons in the ledger, and a rule that raises."""

from pathlib import Path

import pytest

from medtrain.data.cleaning import clean
from medtrain.data.stage import cleaner_config
from medtrain.records import Record, Turn, to_arrow

RULE = '''
from medtrain.data.cleaning import CleanerConfig

class Config(CleanerConfig):
    """Fails on some rows."""

def reasons(batch, config):
    found = []
    for id in batch["id"].to_pylist():
        if id == "x:3":
            raise RuntimeError("secret text of the row")
        found.append("it is one" if id == "x:1" else None)
    return found
'''


def test_a_rule_that_raises_costs_the_row_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data" / "cleaners"
    folder.mkdir(parents=True)
    (folder / "brittle.py").write_text(RULE)
    monkeypatch.setenv("MEDTRAIN_PLUGINS", str(tmp_path))
    turns = (Turn("user", query="q"), Turn("assistant", text="a", trained=True))
    rows = [Record(f"x:{n}", f"x:{n}", "x", "qa", "QA", "en", "train", turns) for n in range(6)]
    kept, entries = clean(to_arrow(rows), [cleaner_config({"cleaner": name}) for name in ("brittle", "empty_answer")])
    assert kept["id"].to_pylist() == ["x:0", "x:2", "x:4", "x:5"]
    assert [(e.id, e.rule, e.detail) for e in entries] == [
        ("x:1", "brittle", "it is one"),
        ("x:3", "brittle", "the rule raised RuntimeError"),
    ]
