"""Tasks without gold: the corpus gives question and answer in words, and this adds none."""

from typing import Any

INSTRUCTIONS: dict[str, tuple[str, ...]] = {"en": (), "zh": ()}
EXAMPLE: dict[str, Any] = {"text": "Yes."}


def asked(gold: dict[str, Any]) -> list[str]:
    """Nothing is named in an instruction."""
    return []


def render(gold: dict[str, Any], language: str) -> str:
    """The answer's text."""
    return str(gold["text"]).strip()


def parse(text: str, language: str) -> dict[str, Any]:
    """The answer's text."""
    return {"text": text.strip()}


def restrict(gold: dict[str, Any], context: str) -> dict[str, Any]:
    """An answer in words is left as it is when its context is cut."""
    return gold
