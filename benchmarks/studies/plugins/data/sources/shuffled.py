"""A control: another source's corpus whose answers are dealt out anew, so that nothing of its task can be learnt."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from medtrain import plugins
from medtrain.data import stage
from medtrain.data.source import Example, Problem, SourceConfig, Unit, locate
from medtrain.errors import DataError
from medtrain.records import Record

EXAMPLE = Example({}, records=0)


class Config(SourceConfig):
    """The corpus, by an absolute path, and how it is read."""

    of: dict[str, Any]
    """The source's own settings, without its path."""
    seed: int = 42
    """Deals out the answers."""


def units(config: Config, root: Path) -> list[Unit]:
    """The whole corpus as one unit.

    Raises:
        DataError: the path is relative or absent, or the corpus has no unit.
    """
    if not Path(config.path).is_absolute():
        raise DataError(f"source {config.label}: path={config.path}: is relative; give an absolute one")
    locate(config, root)
    first, *others = _units(config)
    return [replace(first, name=config.label, start=0, stop=None, first=1, also=tuple(unit.path for unit in others))]


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """Every record of the corpus with the answer of another one of its language."""
    inner, module = _inner(config)
    found = [item for part in _units(config) for item in module.read(part, inner)]
    yield from (item for item in found if isinstance(item, Problem))
    records = [item for item in found if isinstance(item, Record)]
    draw = random.Random(config.seed)
    for language in sorted({record.language for record in records}):
        chosen = [record for record in records if record.language == language]
        answers = chosen.copy()
        draw.shuffle(answers)
        for record, other in zip(chosen, answers, strict=True):
            last = replace(record.turns[-1], text=other.turns[-1].text)
            yield replace(record, gold=other.gold, turns=(*record.turns[:-1], last))


def _units(config: Config) -> list[Unit]:
    inner, module = _inner(config)
    found: list[Unit] = module.units(inner, Path("/"))
    return found


def _inner(config: Config) -> tuple[SourceConfig, Any]:
    inner = stage.source_config({**config.of, "name": config.label, "path": config.path})
    return inner, plugins.load("data", "sources", inner.source)
