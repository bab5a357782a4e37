"""Medical rows out of the general set, by domain and keyword."""

from collections import Counter
from pathlib import Path

import pytest

from medtrain.data import stage
from medtrain.data.cleaners.medical_in_general import Config, reasons
from medtrain.data.source import Problem
from medtrain.data.sources import coig_cqia
from medtrain.records import Record, Turn, to_arrow


def row(query: str, answer: str = "好", domain: object = (), category: str = "GENERAL") -> Record:
    turns = (Turn("user", query=query), Turn("assistant", text=answer, trained=True))
    return Record("x:1", "x:1", "x", "general", category, "zh", "train", turns, meta={"domain": domain})


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (row("天气", domain=["中医学"]), "domain 医学"),
        (row("天气", domain="医疗"), "domain 医疗"),
        (row("什么是药物？"), "keyword 药物"),
        (row("Is MEDICINE hard?"), "keyword medicine"),
        (row("天气", answer="药物"), None),
        (row("天气", domain=["性病科"]), None),
        (row("什么是药物？", domain=["医学"], category="QA"), None),
    ],
)
def test_what_goes(record: Record, reason: str | None) -> None:
    assert reasons(to_arrow([record]), Config(cleaner="medical_in_general")) == [reason]


def test_settings_widen_and_narrow() -> None:
    table = to_arrow([row("天气", answer="药物"), row("天气", domain=["医学"])])
    settings = Config(cleaner="medical_in_general", keywords_in="row", domains=())
    assert reasons(table, settings) == ["keyword 药物", None]


def test_published_rows(shared: Path) -> None:
    config = stage.source_config({"source": "coig_cqia", "path": "data/coig_cqia"})
    assert isinstance(config, coig_cqia.Config)
    items = [item for unit in coig_cqia.units(config, shared) for item in coig_cqia.read(unit, config)]
    table = to_arrow([item for item in items if not isinstance(item, Problem)])
    by_domain = reasons(table, Config(cleaner="medical_in_general", keywords=()))
    files = Counter(id.split(":")[1] for id, reason in zip(table["id"].to_pylist(), by_domain, strict=True) if reason)
    assert files == {"wiki/bkmy_symptom.jsonl": 668, "exam/kaoyan.jsonl": 33}
    assert sum(map(bool, reasons(table, Config(cleaner="medical_in_general")))) == 701 + 14
