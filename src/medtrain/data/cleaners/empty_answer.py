"""Rows whose answer is empty: nothing to learn from, and the model would learn to stop at once."""

import pyarrow as pa

from medtrain.data.cleaning import CleanerConfig


class Config(CleanerConfig):
    """Drops a row in which an assistant turn has no text and the record no gold to render one from."""


def reasons(batch: pa.Table, config: Config) -> list[str | None]:
    """For each row why it goes, or None."""
    found: list[str | None] = []
    for turns, gold in zip(batch["turns"].to_pylist(), batch["gold"].to_pylist(), strict=True):
        empty = [n for n, turn in enumerate(turns, 1) if turn["role"] == "assistant" and not turn["text"].strip()]
        found.append(f"turn {empty[0]} is an empty answer" if empty and gold is None else None)
    return found
