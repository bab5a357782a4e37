"""Any corpus in Alpaca's form: `{"instruction": …, "input": …, "output": …}`, with or without a `system` text."""

from collections.abc import Iterator

from medtrain.data import chat
from medtrain.data.source import Example, Problem, Unit
from medtrain.records import Record

units = chat.units
EXAMPLE = Example(
    {
        "rows.json": '[{"instruction": "Translate into Chinese.", "input": "fever", "output": "发热"},\n'
        ' {"instruction": "怎么办？", "input": "", "output": "多喝水。"}]'
    },
    records=2,
)


class Config(chat.ChatConfig):
    """JSON lines, a JSON array or Parquet; a folder stands for all such files below it."""


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """One record for each row."""
    return chat.read(unit, config, chat.instruction)
