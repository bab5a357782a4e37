"""Medical rows out of the general set, so that it stays general (BioQwen's rule: domains, and keywords).

Its released code looks at COIG-CQIA's `domain` only; the paper matches keywords and reviews by hand. A domain filter is
no content filter: medical pages under domains such as a hospital department pass it.
"""

import json
from typing import Any, Literal

import pyarrow as pa

from medtrain.data.cleaning import CleanerConfig


class Config(CleanerConfig):
    """Drops rows of category GENERAL that are about medicine."""

    domains: tuple[str, ...] = ("医学", "医疗", "药物")
    """A row goes if one of these is part of one of its `meta.domain` names."""
    keywords: tuple[str, ...] = ("医学", "医疗", "药物", "medicine", "medical care", "pharmaceutical")
    """A row goes if its text has one of these; Latin letters match in either case."""
    keywords_in: Literal["question", "row"] = "question"
    """Look for keywords in what the user says, or in the answers too."""


def reasons(batch: pa.Table, config: Config) -> list[str | None]:
    """For each row why it goes, or None."""
    columns = (batch[name].to_pylist() for name in ("category", "meta", "turns"))
    return [
        _reason(json.loads(meta), turns, config) if category == "GENERAL" else None
        for category, meta, turns in zip(*columns, strict=True)
    ]


def _reason(meta: dict[str, Any], turns: list[dict[str, Any]], config: Config) -> str | None:
    domain = meta.get("domain") or []
    names = [domain] if isinstance(domain, str) else [str(name) for name in domain]
    for part in config.domains:
        if any(part in name for name in names):
            return f"domain {part}"
    heard = [turn for turn in turns if config.keywords_in == "row" or turn["role"] == "user"]
    text = "\n".join(turn[field] for turn in heard for field in ("query", "context", "text")).casefold()
    return next((f"keyword {word}" for word in config.keywords if word.casefold() in text), None)
