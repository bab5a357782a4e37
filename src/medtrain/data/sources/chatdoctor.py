"""ChatDoctor's dialogues of one exchange (Li et al. 2023): HealthCareMagic-100k and GenMedGPT-5k, one large JSON array.

`{"instruction": "If you are a doctor, …", "input": the patient's words, "output": the doctor's}`. The instruction is
the same in all rows and is the query; the patient's words are its context.
"""

from collections.abc import Iterator
from typing import Any

from medtrain.data import chat
from medtrain.data.language import LanguageChoice
from medtrain.data.source import Example, Problem, Unit
from medtrain.records import Record, Turn

units = chat.units
EXAMPLE = Example(
    {
        "rows.json": '[\n  {"instruction": "You are a doctor, answer.", "input": "My head aches.", "output": "Rest."},'
        '\n  {"instruction": "You are a doctor, answer.", "input": "I cough.", "output": "Drink water."}\n]'
    },
    records=2,
)


class Config(chat.ChatConfig):
    """A JSON array or lines; a folder stands for all such files below it."""

    task: str = "qa"
    """How the rows are evaluated."""
    category: str | None = "MC"
    """The kind that stages choose by: medical conversation."""
    language: LanguageChoice = "en"
    """The corpus is English."""


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """One record for each row in which a patient says something."""
    return chat.read(unit, config, _turns)


def _turns(value: dict[str, Any]) -> list[Turn] | str:
    said = value.get("input")
    if not isinstance(said, str) or not said.strip():
        return "needs the patient's words as input"
    return chat.instruction(value)
