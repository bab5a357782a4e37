"""PromptCBLUE: targets read back into gold."""

from collections import Counter
from pathlib import Path

from medtrain.data.source import Problem
from medtrain.data.sources import promptcblue
from medtrain.records import Record


def test_entities_of_a_target() -> None:
    types = ["疾病", "药物"]
    gold = promptcblue.entities("上述句子中的实体包含：\n疾病实体：流感，肺炎，流感\n药物实体：", types)
    assert isinstance(gold, dict)
    assert [(e["type"], e["text"], e["start"]) for e in gold["entities"]] == [
        ("疾病", "流感", None),
        ("疾病", "肺炎", None),
    ]
    assert promptcblue.entities("上述句子没有指定类型实体", types) == {"entities": [], "types": types}
    assert isinstance(promptcblue.entities("上述句子中的实体包含：\n部位实体：足", types), str)
    assert isinstance(promptcblue.entities("上述句子中的实体包含：\n什么都没有", types), str)


def test_relations_of_a_target() -> None:
    types = ["药物治疗", "相关（症状）"]
    line = "具有{}关系的头尾实体对如下：{}"
    pairs = "头实体为甲病。一型，尾实体为乙药。头实体为甲病，尾实体为丙，丁药。头实体为甲病，尾实体为丙，丁药。"
    gold = promptcblue.relations(line.format("药物治疗", pairs) + "\n" + line.format("相关（症状）", ""), types)
    assert gold == {
        "relations": [
            {"type": "药物治疗", "head": "甲病。一型", "tail": "乙药"},
            {"type": "药物治疗", "head": "甲病", "tail": "丙，丁药"},
        ],
        "types": types,
    }
    assert isinstance(promptcblue.relations(line.format("别的", pairs), types), str)
    assert isinstance(promptcblue.relations(line.format("药物治疗", "甲病和乙药"), types), str)


def test_published_toy_rows(shared: Path) -> None:
    datasets = [
        "CHIP-CTC",
        "KUAKE-IR",
        "CHIP-CDEE",
        "CHIP-CDN",
        "CMeEE-V2",
        "KUAKE-QIC",
        "KUAKE-QTR",
        "CHIP-STS",
        "CMeIE",
        "KUAKE-QQR",
    ]
    datasets += ["IMCS-V2-SR", "IMCS-V2-MRG", "MedDG", "IMCS-V2-NER", "CHIP-MDCFNPC", "IMCS-V2-DAC"]
    settings = {"source": "promptcblue", "path": "data/promptcblue/toy_examples", "datasets": datasets}
    config = promptcblue.Config.model_validate(settings)
    items = [item for unit in promptcblue.units(config, shared) for item in promptcblue.read(unit, config)]
    records = [item for item in items if isinstance(item, Record)]
    assert Counter(r.meta["dataset"] for r in records) == dict.fromkeys(datasets, 10)
    assert Counter(item.rule for item in items if isinstance(item, Problem)) == {"empty_target": 80}
    for record in records:
        prompt = record.turns[0].query
        for entity in (record.gold or {}).get("entities", []):
            assert entity["text"] in prompt
        assert (record.gold is None) == bool(record.turns[1].text)
