"""Any corpus in the form `{"messages": [{"role": "user", "content": …}, {"role": "assistant", "content": …}, …]}`.

Self-cognition rows are such a source, with `task: identity`.
"""

from collections.abc import Iterator
from typing import Any

from medtrain.data import chat
from medtrain.data.source import Example, Problem, Unit
from medtrain.records import Record, Turn

ROLES = {"system": "system", "user": "user", "assistant": "assistant"}
units = chat.units
EXAMPLE = Example(
    {
        "rows.jsonl": '{"messages": [{"role": "user", "content": "Where?"}, '
        '{"role": "assistant", "content": "Here."}]}\n'
        '{"messages": [{"role": "system", "content": "你是助手。"}, {"role": "user", "content": "你好"}, '
        '{"role": "assistant", "content": "你好！"}]}\n'
    },
    records=2,
)


class Config(chat.ChatConfig):
    """JSON lines, a JSON array or Parquet with a `messages` column; a folder stands for all such files below it."""


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """One record for each row; every assistant turn is trained."""
    return chat.read(unit, config, turns)


def turns(value: dict[str, Any]) -> list[Turn] | str:
    """A row's turns, or what is wrong with it."""
    return chat.turns_of(value.get("messages"), ROLES, "role", "content")
