"""What the sources of instructions and dialogues share: their settings, and a record from turns."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from medtrain.data import jsonfiles
from medtrain.data.language import LanguageChoice, choose
from medtrain.data.source import Problem, SourceConfig, Unit, locate
from medtrain.errors import ConfigError
from medtrain.records import Record, Split, Turn

CATEGORIES = {
    "ner": "NER",
    "relations": "RE",
    "labels": "TC",
    "translation": "MT",
    "qa": "QA",
    "general": "GENERAL",
    "identity": "SELF",
}


class ChatConfig(SourceConfig):
    """A source whose answers are written out: they are kept verbatim and have no gold."""

    split: Split = "train"
    """Which split its rows belong to."""
    task: str = "general"
    """qa, general, identity or translation: how the rows are evaluated."""
    category: str | None = None
    """The kind that stages choose by (NER, RE, TC, MT, QA, GENERAL, SELF); null follows the task."""
    language: LanguageChoice = "auto"
    """en, zh, or auto: more Chinese characters than Latin letters in the first query."""


def category_of(config: ChatConfig) -> str:
    """The category that is set, or the one that goes with the task.

    Raises:
        ConfigError: the task is none that the house knows, and no category is set.
    """
    known = config.category or CATEGORIES.get(config.task)
    if known is None:
        raise ConfigError(f"source {config.label}: task={config.task!r}: has no category of its own; set category")
    return known


def units(config: ChatConfig, root: Path) -> list[Unit]:
    """Ranges of lines, or whole files.

    Raises:
        DataError: see `source.locate` and `source.check_file`.
        ConfigError: see `category_of`.
    """
    category_of(config)
    return jsonfiles.units(locate(config, root), config.label, config.split)


def read(
    unit: Unit, config: ChatConfig, turns: Callable[[dict[str, Any]], list[Turn] | str], kept: tuple[str, ...] = ()
) -> Iterator[Record | Problem]:
    """One record for each row; `turns` gives its turns or what is wrong, `kept` names keys for `meta`."""
    for row in jsonfiles.rows(unit):
        if isinstance(row, Problem):
            yield row
            continue
        found = turns(row.value)
        if isinstance(found, str):
            yield Problem(row.position, "bad_row", found)
        else:
            yield record(config, unit, row.position, found, {key: row.value[key] for key in kept if key in row.value})


def record(config: ChatConfig, unit: Unit, position: str, turns: list[Turn], meta: dict[str, Any]) -> Record | Problem:
    """A record named by its position, or what is wrong with its turns."""
    asked = next((turn for turn in turns if turn.role == "user"), None)
    if asked is None or not (asked.query + asked.context).strip():
        return Problem(position, "no_question", "there is no user turn with text")
    if turns[-1].role != "assistant":
        return Problem(position, "no_answer", "the last turn is not the assistant's")
    id = f"{config.label}:{position}"
    return Record(
        id=id,
        document_id=id,
        source=config.label,
        task=config.task,
        category=category_of(config),
        language=choose(config.language, asked.query, asked.context),
        split=unit.split,
        turns=tuple(turns),
        meta=meta,
    )


def turns_of(items: Any, roles: dict[str, str], role_key: str, text_key: str) -> list[Turn] | str:
    """Turns from a list of {role_key, text_key}, or what is wrong with it; `roles` maps the corpus's names to ours."""
    if not isinstance(items, list) or not items:
        return "needs a list of turns"
    turns: list[Turn] = []
    for item in items:
        role = roles.get(str(item.get(role_key))) if isinstance(item, dict) else None
        text = item.get(text_key) if isinstance(item, dict) else None
        if role is None or not isinstance(text, str):
            return f"each turn needs a {text_key} and a {role_key} out of {', '.join(roles)}"
        if role == "user":
            turns.append(Turn("user", query=text))
        elif role == "system":
            turns.append(Turn("system", text=text))
        else:
            turns.append(Turn("assistant", text=text, trained=True))
    return turns


def instruction(value: dict[str, Any]) -> list[Turn] | str:
    """Turns from instruction, input, output (and system): the instruction is the query, the input its context."""
    parts = [value.get(name) or "" for name in ("instruction", "input", "output", "system")]
    if "output" not in value or not all(isinstance(part, str) for part in parts):
        return "needs instruction, input and output as strings"
    query, context, answer, system = parts
    turns = [Turn("user", query=query, context=context), Turn("assistant", text=answer, trained=True)]
    return [Turn("system", text=system), *turns] if system else turns
