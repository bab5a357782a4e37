"""Taiyi's instruction data (Luo et al., JAMIA 2024): 140 sets as conversations whose answers are written out.

Answers are kept verbatim: they list entities without offsets and in no order of the text, and a comma inside a name
makes `[a, b]` ambiguous, so no gold is read from them. The prompts are a bank of phrasings.
"""

from collections.abc import Iterator
from pathlib import Path

from medtrain.data import jsonfiles
from medtrain.data.chat import turns_of
from medtrain.data.language import LanguageChoice, choose
from medtrain.data.source import Example, Problem, SourceConfig, Unit, locate
from medtrain.records import Record, Split, Turn

CATEGORIES = {"MT-zh2en": "MT", "MT-en2zh": "MT", "TP-ss": "TC"} | dict.fromkeys(
    ("QA_choice", "QA_cqa", "QA_sqa", "MRD"), "QA"
)
TASKS = {"MT": "translation", "QA": "qa"}
EXAMPLE = Example(
    {
        "rows.jsonl": '{"conversation_id": 1, "category": "NER", "dataset": "made", "language": "zh", '
        '"conversation": [{"human": "找出实体：\\n他发热。", "assistant": "症状：发热\\n"}]}\n'
        '{"dataset": "made", "category": "MT-zh2en", "conversation_id": 2, "language": "zh-en", '
        '"conversation": [{"human": "翻译成英文：“发热”", "assistant": "fever"}]}\n'
    },
    records=2,
)


class Config(SourceConfig):
    """JSON lines of conversation_id, category, dataset, language, conversation."""

    split: Split = "train"
    """Which split its rows belong to."""
    categories: tuple[str, ...] = ("NER", "RE", "TC", "MT-zh2en", "MT-en2zh")
    """Which of Taiyi's categories to take; the BioQwen paper's stage 1 has NER, RE and the two MT."""
    exclude_datasets: tuple[str, ...] = ("mimicause",)
    """Rows of these sets are dropped; by default the one that comes from a gated corpus."""
    language: LanguageChoice = "auto"
    """en, zh, or auto: more Chinese characters than Latin letters in the first question."""


def units(config: Config, root: Path) -> list[Unit]:
    """Ranges of lines.

    Raises:
        DataError: see `source.locate` and `source.check_file`.
    """
    return jsonfiles.units(locate(config, root), config.label, config.split)


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """One record for each conversation of the chosen categories and sets, with all its turns."""
    for row in jsonfiles.rows(unit):
        yield row if isinstance(row, Problem) else _record(row, unit, config)


def _record(row: jsonfiles.Row, unit: Unit, config: Config) -> Record | Problem:
    number, category, dataset, pairs = (
        row.value.get(name) for name in ("conversation_id", "category", "dataset", "conversation")
    )
    id = str(number)
    if not isinstance(number, (int, str)) or not isinstance(category, str) or not isinstance(dataset, str):
        return Problem(row.position, "bad_row", "needs conversation_id, category and dataset", id)
    if category not in config.categories:
        return Problem(row.position, "not_chosen", f"category {category} is not in categories", id)
    if dataset in config.exclude_datasets:
        return Problem(row.position, "excluded_dataset", f"dataset {dataset} is in exclude_datasets", id)
    turns = _turns(pairs)
    if isinstance(turns, str):
        return Problem(row.position, "bad_row", turns, id)
    kind = CATEGORIES.get(category, category)
    return Record(
        id=f"{config.label}:{id}",
        document_id=f"{config.label}:{id}",
        source=config.label,
        task=TASKS.get(kind, "general"),
        category=kind,
        language=choose(config.language, turns[0].query, ""),
        split=unit.split,
        turns=tuple(turns),
        meta={"dataset": dataset, "category": category},
    )


def _turns(pairs: object) -> list[Turn] | str:
    """The turns of [{human, assistant}, …], or what is wrong with them."""
    if not isinstance(pairs, list) or not all(isinstance(pair, dict) for pair in pairs):
        return "needs a conversation of human and assistant texts"
    roles = {"human": "user", "assistant": "assistant"}
    items = [{"from": role, "value": pair.get(role)} for pair in pairs for role in roles]
    return turns_of(items, roles, "from", "value")
