"""Holding rows out of training by seed: whole documents, so that no part of a held-out one is trained on."""

from collections import Counter
from collections.abc import Sequence

from pydantic import Field

from medtrain.config import Config
from medtrain.data.draw import key
from medtrain.errors import DataError


class HoldoutConfig(Config):
    """How many rows leave train for validation."""

    rows: int = Field(default=500, ge=0)
    """Rows to hold out; 0 holds out none."""
    seed: int = 42
    """Draws the documents."""


def held_out(documents: Sequence[str], splits: Sequence[str], config: HoldoutConfig) -> set[str]:
    """The documents to hold out, of which every train row counts: those of the smallest keys that fit in `config.rows`.

    A document that also has rows in another split stays where it is. Where documents of one row run out, up to a
    document's rows fewer than asked for are held out.

    Raises:
        DataError: nothing would be left to train on.
    """
    if config.rows == 0:
        return set()
    elsewhere = {document for document, split in zip(documents, splits, strict=True) if split != "train"}
    sizes = Counter(document for document, split in zip(documents, splits, strict=True) if split == "train")
    total = sum(sizes.values())
    if config.rows >= total:
        raise DataError(
            f"data.holdout.rows={config.rows}: there are only {total} train rows after cleaning; "
            "hold out fewer, or raise the sources' max_rows"
        )
    chosen: set[str] = set()
    left = config.rows
    for document in sorted(sizes.keys() - elsewhere, key=lambda name: (key(config.seed, "holdout", name), name)):
        if sizes[document] <= left:
            chosen.add(document)
            left -= sizes[document]
        if left == 0:
            break
    return chosen
