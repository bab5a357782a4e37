"""COIG-CQIA, Chinese instructions of high quality (Bai et al., 2024): folders of JSON lines, nine keys in a row."""

from collections.abc import Iterator
from pathlib import Path

from medtrain.data import chat
from medtrain.data.language import LanguageChoice
from medtrain.data.source import Example, Problem, Unit
from medtrain.errors import DataError
from medtrain.records import Record

KEPT = ("domain", "task_type", "answer_from", "human_verified")
EXAMPLE = Example(
    {
        "wiki/why.jsonl": '{"instruction": "天为什么是蓝的？", "input": "", "output": "因为散射。", '
        '"domain": ["科学"], "task_type": {"major": ["问答"], "minor": []}, "answer_from": "human"}\n',
        "exam/test.jsonl": '{"instruction": "一加一等于几？", "input": "", "output": "二", "domain": ["数学"]}\n',
        "dataset_infos.json": "{}",
    },
    records=2,
)


class Config(chat.ChatConfig):
    """All files below path whose first folder is chosen; `meta` keeps domain, task type and origin for the cleaners."""

    parts: tuple[str, ...] | None = None
    """Which parts (the first folders) to take; null takes all."""
    language: LanguageChoice = "zh"
    """The corpus is Chinese, its classical texts and mathematics too."""


def units(config: Config, root: Path) -> list[Unit]:
    """Ranges of the JSONL files' lines; other files (dataset_infos.json) are no data.

    Raises:
        DataError: no chosen part has a file; see also `source.locate` and `source.check_file`.
        ConfigError: the task has no category.
    """
    found = [unit for unit in chat.units(config, root) if unit.path.endswith(".jsonl")]
    if config.parts is not None:
        found = [unit for unit in found if unit.name.split("/")[0] in config.parts]
    if not found:
        raise DataError(f"source {config.label}: parts={config.parts}: no .jsonl under {config.path}; check parts")
    return found


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """One record for each row."""
    return chat.read(unit, config, chat.instruction, KEPT)
