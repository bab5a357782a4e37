"""Any corpus in ShareGPT's form: `{"conversations": [{"from": "human", "value": …}, {"from": "gpt", …}, …]}`."""

from collections.abc import Iterator
from typing import Any

from medtrain.data import chat
from medtrain.data.source import Example, Problem, Unit
from medtrain.records import Record, Turn

ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
units = chat.units
EXAMPLE = Example(
    {
        "rows.json": '[{"conversations": [{"from": "human", "value": "Where?"}, '
        '{"from": "gpt", "value": "Here."}]},\n'
        ' {"system": "Be brief.", "conversations": [{"from": "human", "value": "你好"}, '
        '{"from": "gpt", "value": "好"}]}]'
    },
    records=2,
)


class Config(chat.ChatConfig):
    """JSON lines, a JSON array or Parquet with a `conversations` column; a folder stands for all such files in it."""


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """One record for each row; every assistant turn is trained."""
    return chat.read(unit, config, turns)


def turns(value: dict[str, Any]) -> list[Turn] | str:
    """A row's turns, or what is wrong with it; a `system` text beside the conversation becomes its first turn."""
    found = chat.turns_of(value.get("conversations"), ROLES, "from", "value")
    system = value.get("system")
    if isinstance(found, str) or not isinstance(system, str) or not system:
        return found
    return [Turn("system", text=system), *found]
