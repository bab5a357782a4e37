"""One label of a set: the bare label."""

import re
from typing import Any

from medtrain.tokens.wording._lines import normal

INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "en": (
        "Which one of these labels applies to the text? Labels: {types}.",
        "Choose the one label that fits the following text: {types}.",
        "Assign exactly one of these labels to the text below: {types}.",
        "{query} Answer with one of these: {types}.",
        "{query}\nChoose the one answer that is right: {types}.",
        "Give exactly one of these answers: {types}.\n{query}",
    ),
    "zh": (
        "下面的文本属于哪一个类别？可选类别：{types}。",
        "请从这些类别中选出最适合以下文本的一个：{types}。",
        "为下面的文本选择且仅选择一个标签：{types}。",
        "{query}请从这些答案中选择一个：{types}。",
        "{query}\n选出唯一正确的答案：{types}。",
        "请只回答其中之一：{types}。\n{query}",
    ),
}
EXAMPLE: dict[str, Any] = {"label": "not known", "label_set": ["known", "not known"]}
_MARK = re.compile(
    r"(?:the\s+)?(?:correct\s+|final\s+|right\s+)?(?:answer|label)\s*(?:is\s|[:：])\s*"
    r"|(?:正确)?(?:答案|类别|标签)\s*(?:是|为|[:：])\s*",
    re.IGNORECASE,
)


def asked(gold: dict[str, Any]) -> list[str]:
    """What the instruction asks for: the label set."""
    return list(gold["label_set"])


def render(gold: dict[str, Any], language: str) -> str:
    """The answer: the label."""
    return normal(gold["label"])


def parse(text: str, language: str) -> dict[str, Any]:
    """The first line of an answer, without `Answer:` before it; whether that is a label the label set says."""
    text = text.strip()
    mark = _MARK.match(text)
    lines = text[mark.end() if mark else 0 :].splitlines()
    return {"label": normal(lines[0]) if lines else ""}


def restrict(gold: dict[str, Any], context: str) -> dict[str, Any]:
    """The gold of a context that was cut to its beginning: a label has no place in the text, so it stays."""
    return gold
