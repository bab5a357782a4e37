"""cMedQA2 questions with one answer each, as an Alpaca array without ids (the questions are in `input`).

The original corpus has several answers for some questions, so scores against this file are not those of the literature.
"""

from collections.abc import Iterator

from medtrain.data import chat
from medtrain.data.language import LanguageChoice
from medtrain.data.source import Example, Problem, Unit
from medtrain.records import Record, Split

units = chat.units
EXAMPLE = Example(
    {"test.json": '[{"instruction": "请回答医疗问题。", "input": "头痛怎么办？", "output": "注意休息。"}]'}, records=1
)


class Config(chat.ChatConfig):
    """The one file there is calls itself test.json: whoever trains on it says `split: train`."""

    split: Split = "test"
    """Which split its rows belong to."""
    task: str = "qa"
    """How the rows are evaluated."""
    language: LanguageChoice = "zh"
    """The corpus is Chinese."""


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """One record for each row."""
    return chat.read(unit, config, chat.instruction)
