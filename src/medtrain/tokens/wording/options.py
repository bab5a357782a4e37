"""Multiple choice: `B. text`, a line for each right option; the question and all options stand in the instruction."""

import re
import unicodedata
from typing import Any

from medtrain.tokens.wording._lines import normal

INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "en": (
        "Answer the question in the text below with what is right of these options.\n{lines}",
        "Read the text and write what is right, by letter and text.\n{lines}",
        "{query}\n{lines}\nWrite the letter and the text of what is right.",
        "{query}\n{lines}\nWhat is right? Answer by letter and text.",
        "Answer this question by the letter and the text of what is right.\n{query}\n{lines}",
    ),
    "zh": (
        "请从以下选项中选出下面文本所提问题的正确答案。\n{lines}",
        "阅读文本，写出正确选项的字母和内容。\n{lines}",
        "{query}\n{lines}\n请写出正确选项的字母和内容。",
        "{query}\n{lines}\n正确的是哪一项？请回答字母和内容。",
        "回答下面的问题，写出正确选项的字母和内容。\n{query}\n{lines}",
    ),
}
EXAMPLE: dict[str, Any] = {"options": {"A": "aspirin", "B": "B. cereus", "C": "answer: A"}, "answer": "BC"}
_KEYS = r"[A-Z](?:(?: ?(?:[,、;/&+]|and|和|与|及) ?)?[A-Z])*"
_LEAD = re.compile(rf"[(\[]?({_KEYS})(?:[.:、)\]]|$| (?=[\u4e00-\u9fff]))")
"""A line that begins with keys. A key before a word (`A patient`, `B超`) is none."""
_MARK = re.compile(
    r"(?:(?i:\b(?:answers?|choice)\b)|答案|正确选项|选项(?=是|为|应|:)|选择|选)"
    r"(?:\s|:|(?i:is|are|option)|应该|应|是|为|选项|[(\[\"“*])*"
    rf"({_KEYS})(?![A-Za-z])"
)
"""Keys after `answer is`, `答案：` and the like."""


def asked(gold: dict[str, Any]) -> list[str]:
    """What the instruction asks for: every option with its key."""
    return [f"{key}. {text}" for key, text in sorted(gold["options"].items())]


def render(gold: dict[str, Any], language: str) -> str:
    """The answer: the right options in the order of their keys, a line each."""
    return "\n".join(normal(f"{key}. {text}") for key, text in sorted(gold["options"].items()) if key in gold["answer"])


def parse(text: str, language: str) -> dict[str, Any]:
    """The keys of an answer, sorted, empty where there are none; keys are single capital letters.

    They are read where every line begins with one, else after the last `answer is`, else at the beginning. A key counts
    and not the text after it. An option's bare text says no key: that needs the options.
    """
    lines = [normal(line) for line in unicodedata.normalize("NFKC", text).splitlines() if line.strip()]
    leads = [match for line in lines if (match := _LEAD.match(line))]
    marks = list(_MARK.finditer("\n".join(lines)))
    if len(leads) < len(lines):
        leads = marks[-1:] or ([first] if (first := _LEAD.match(lines[0])) else [])
    return {"answer": "".join(sorted({char for match in leads for char in match[1] if "A" <= char <= "Z"}))}


def restrict(gold: dict[str, Any], context: str) -> dict[str, Any]:
    """The gold of a context that was cut to its beginning: the right option stays."""
    return gold
