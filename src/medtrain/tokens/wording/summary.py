"""A summary of a text, in words."""

from typing import Any

INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "en": (
        "Summarize the following text.",
        "Write a short summary of the text below.",
        "Say in short what the following text is about.",
        "Put the main point of this text in few words.",
    ),
    "zh": (
        "请概括以下文本。",
        "为下面的文本写一个简短的摘要。",
        "用简短的话说明下文的主要内容。",
        "用几句话写出这段文字的要点。",
    ),
}
EXAMPLE: dict[str, Any] = {"summary": "Which doses are safe?\nFor whom?"}


def asked(gold: dict[str, Any]) -> list[str]:
    """Nothing is named in an instruction."""
    return []


def render(gold: dict[str, Any], language: str) -> str:
    """The answer: the summary, line breaks and all."""
    return str(gold["summary"]).strip()


def parse(text: str, language: str) -> dict[str, Any]:
    """The answer's text."""
    return {"summary": text.strip()}


def restrict(gold: dict[str, Any], context: str) -> dict[str, Any]:
    """The gold of a context that was cut to its beginning: the summary of the whole stays."""
    return gold
