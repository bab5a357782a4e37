"""PromptCBLUE: sixteen Chinese tasks as prompts with written answers (Zhu et al., 2023), CMeEE-V2 and CMeIE among them.

Entities and relations are read back from the answer text, so they have no offsets, and a name that contains the list
comma `，` comes apart. The prompt is whole in `query`: nothing has to be asked beside it.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from medtrain.data import jsonfiles
from medtrain.data.source import Example, Problem, SourceConfig, Unit, check_file, locate
from medtrain.records import Record, Split, Turn

CATEGORIES = {"cls": "TC", "matching": "TC", "normalization": "TC", "attr_cls": "TC", "event_extraction": "RE"}
_PAIR = re.compile(r"头实体为(.*?)，尾实体为(.*?)。(?=头实体为|$)")
_RELATION = re.compile(r"具有(.+?)关系的头尾实体对如下：(.*)")
NO_ENTITY = "上述句子没有指定类型实体"
NO_RELATION = "上述句子没有指定类型关系"
_ROW = (
    '{"input": "%s", "target": "%s", "answer_choices": %s, "task_type": "%s", "task_dataset": "%s", "sample_id": "%s"}'
)
_NER = (
    "找出疾病实体：\\n他得了流感。\\n答：",
    "上述句子中的实体包含：\\n疾病实体：流感\\n药物实体：",
    '["疾病", "药物"]',
    "ner",
    "CMeEE-V2",
)
_RE = (
    "流感用药？",
    "具有药物治疗关系的头尾实体对如下：头实体为流感，尾实体为甲药。",
    '["药物治疗"]',
    "spo_generation",
    "CMeIE",
)
EXAMPLE = Example(
    {
        "train.json": _ROW % (*_NER, "train-1") + "\n" + _ROW % (*_RE, "train-2") + "\n",
        "dev.json": _ROW % (*_NER, "dev-1") + "\n",
        "test.json": _ROW % (_NER[0], "", *_NER[2:], "test-1") + "\n",
    },
    records=3,
)


class Config(SourceConfig):
    """JSON lines of input, target, answer_choices, task_type, task_dataset, sample_id."""

    files: dict[Split, str] = Field({"train": "train.json", "validation": "dev.json", "test": "test.json"})
    """Split -> file name below path; the published test targets are empty."""
    datasets: tuple[str, ...] = ("CMeEE-V2", "CMeIE")
    """Which tasks to take, by task_dataset."""


def units(config: Config, root: Path) -> list[Unit]:
    """Ranges of the files' lines.

    Raises:
        DataError: see `source.locate` and `source.check_file`.
    """
    folder = locate(config, root)
    found: list[Unit] = []
    for split, name in config.files.items():
        found += jsonfiles.units(check_file(folder / name, config.label), config.label, split)
    return found


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """One record for each row of the chosen tasks; a row without a target is dropped."""
    for row in jsonfiles.rows(unit):
        yield row if isinstance(row, Problem) else _record(row, unit, config)


def _record(row: jsonfiles.Row, unit: Unit, config: Config) -> Record | Problem:
    fields = [row.value.get(name) for name in ("input", "target", "task_type", "task_dataset", "sample_id")]
    if not all(isinstance(value, str) for value in fields):
        return Problem(row.position, "bad_row", "needs input, target, task_type, task_dataset and sample_id as strings")
    prompt, target, kind, dataset, sample = (str(value) for value in fields)
    if dataset not in config.datasets:
        return Problem(row.position, "not_chosen", f"task_dataset {dataset} is not in datasets", sample)
    if not target.strip():
        return Problem(row.position, "empty_target", "the answer is not published", sample)
    choices = row.value.get("answer_choices")
    types = [str(choice) for choice in choices] if isinstance(choices, list) else []
    task, category, gold = _gold(kind, target, types)
    if isinstance(gold, str):
        return Problem(row.position, "bad_target", gold, sample)
    answer = Turn("assistant", text="" if gold else target, trained=True)
    id = f"{config.label}:{sample}"
    return Record(
        id=id,
        document_id=id,
        source=config.label,
        task=task,
        category=category,
        language="zh",
        split=unit.split,
        turns=(Turn("user", query=prompt), answer),
        gold=gold,
        meta={"dataset": dataset},
    )


def _gold(kind: str, target: str, types: list[str]) -> tuple[str, str, dict[str, Any] | str | None]:
    """(task, category, gold); gold is a text where the target cannot be read, None where it is kept verbatim."""
    if kind == "ner":
        return "ner", "NER", entities(target, types)
    if kind == "spo_generation":
        return "relations", "RE", relations(target, types)
    category = CATEGORIES.get(kind, "QA")
    return ("qa" if category == "QA" else "general"), category, None


def entities(target: str, types: list[str]) -> dict[str, Any] | str:
    """The entities of a target, or why it cannot be read."""
    found: list[dict[str, Any]] = []
    lines = [line for line in target.strip().split("\n") if line.strip()]
    if lines[0].startswith(NO_ENTITY):
        return {"entities": found, "types": types}
    for line in lines[1:]:
        name, separator, items = line.partition("实体：")
        if not separator or name not in types:
            return f"a line names none of the {len(types)} types"
        for item in dict.fromkeys(text.strip() for text in items.split("，")):
            if item:
                found.append({"type": name, "text": item, "start": None, "end": None})
    return {"entities": found, "types": types}


def relations(target: str, types: list[str]) -> dict[str, Any] | str:
    """The relations of a target, or why it cannot be read."""
    found: list[dict[str, str]] = []
    for line in target.strip().split("\n"):
        if line.startswith(NO_RELATION) or not line.strip():
            continue
        match = _RELATION.fullmatch(line.strip())
        if match is None or match[1] not in types:
            return f"a line names none of the {len(types)} relations"
        pairs = _PAIR.findall(match[2])
        if not pairs and match[2].strip():
            return "a line's pairs cannot be read"
        for head, tail in pairs:
            relation = {"type": match[1], "head": head, "tail": tail}
            if relation not in found:
                found.append(relation)
    return {"relations": found, "types": types}
