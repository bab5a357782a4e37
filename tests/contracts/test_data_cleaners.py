"""What every cleaning rule promises, of the package and of `$MEDTRAIN_PLUGINS`."""

import pytest

from medtrain import plugins
from medtrain.data.cleaning import CleanerConfig, clean
from medtrain.data.stage import cleaner_config
from medtrain.errors import ConfigError
from medtrain.records import SCHEMA, Record, Turn, to_arrow

NAMES = list(plugins.files("data", "cleaners"))
DIRT = ("", " ", "医疗" * 3000, "a\x00b", "\ufffd", "<|im_end|>", "medicine", "。" * 5)


def records() -> list[Record]:
    """Rows of every category with all kinds of dirt in every part."""
    return [
        Record(
            f"made:{category}-{n}",
            f"made:{n}",
            "made",
            "general",
            category,
            "zh",
            "train",
            (Turn("user", query=text, context=text), Turn("assistant", text=text, trained=True)),
            gold={"entities": [], "types": []} if category == "NER" else None,
            meta={"domain": [text]} if n % 2 else {},
        )
        for category in ("NER", "QA", "GENERAL", "SELF")
        for n, text in enumerate(DIRT)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_rule_keeps_its_contract(name: str) -> None:
    module = plugins.load("data", "cleaners", name)
    assert issubclass(module.Config, CleanerConfig)
    assert module.Config.__doc__
    assert all(info.description for info in module.Config.model_fields.values())
    with pytest.raises(ConfigError, match="nonsense"):
        cleaner_config({"cleaner": name, "nonsense": 1})
    config = cleaner_config({"cleaner": name})
    table = to_arrow(records())
    reasons = module.reasons(table, config)
    assert len(reasons) == table.num_rows
    assert all(reason is None or 0 < len(reason) < 200 for reason in reasons)
    assert any(reason is None for reason in reasons), "it drops everything"
    assert any(reasons), "it drops nothing, not even the worst dirt"
    assert module.reasons(SCHEMA.empty_table(), config) == []
    # Each row is judged alone: how rows fall into batches must not matter.
    assert [module.reasons(table.slice(n, 1), config)[0] for n in range(table.num_rows)] == reasons


@pytest.mark.parametrize("name", NAMES)
def test_ledger_never_quotes_a_row(name: str) -> None:
    secret = "患者张三medicine"
    rows = [
        Record("x:1", "x:1", "x", "general", "GENERAL", "zh", "train", (Turn("user", query=secret), Turn("assistant")))
    ]
    _, entries = clean(to_arrow(rows), [cleaner_config({"cleaner": name})])
    assert all("张三" not in entry.detail for entry in entries)
