"""Running the cleaning rules over a batch of records: what a rule names goes, with its reason in the ledger."""

from collections.abc import Sequence
from typing import Protocol

import pyarrow as pa

from medtrain import plugins
from medtrain.config import Config
from medtrain.ledger import Entry


class CleanerConfig(Config):
    """What every rule can be told."""

    cleaner: str
    """The rule: a file name in data/cleaners."""


class CleanerModule(Protocol):
    """The shape of a plug-in in data/cleaners."""

    Config: type[CleanerConfig]

    def reasons(self, batch: pa.Table, config: CleanerConfig) -> list[str | None]: ...


def clean(batch: pa.Table, rules: Sequence[CleanerConfig]) -> tuple[pa.Table, list[Entry]]:
    """The rows that no rule objects to, and an entry for each other one; rules run in order, each on what is left."""
    entries: list[Entry] = []
    for config in rules:
        rule: CleanerModule = plugins.load("data", "cleaners", config.cleaner)
        reasons = judge(rule, batch, config)
        for row, reason in enumerate(reasons):
            if reason is not None:
                id = batch["id"][row].as_py()
                entries.append(Entry("data", batch["source"][row].as_py(), id, id, config.cleaner, reason))
        batch = batch.filter(pa.array([reason is None for reason in reasons], pa.bool_()))
    return batch, entries


def judge(rule: CleanerModule, batch: pa.Table, config: CleanerConfig) -> list[str | None]:
    """A rule's reasons; where it raises on the batch it is asked row by row, and the rows it raises on are dropped."""
    try:
        return rule.reasons(batch, config)
    except Exception as error:  # a rule may raise anything; one row never ends a run
        if batch.num_rows == 1:
            return [f"the rule raised {type(error).__name__}"]
        return [judge(rule, batch.slice(row, 1), config)[0] for row in range(batch.num_rows)]
