"""A gap `@placeholder` in a sentence, to be filled from a passage: the words that belong there."""

from typing import Any

from medtrain.tokens.wording._lines import normal

INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "en": (
        "Which words belong in place of @placeholder in the text below?",
        "Fill the gap @placeholder in the following text.",
        "Which words belong in place of @placeholder in this sentence, by the text below? {query}",
        "Fill the gap @placeholder by what the following text says. {query}",
        "{query}\nRead the text and write what @placeholder stands for.",
    ),
    "zh": (
        "下面文本中的@placeholder处应填什么？",
        "填写以下文本中的空缺@placeholder。",
        "根据下面的文本，这句话中的@placeholder处应填什么？{query}",
        "根据下文填写空缺@placeholder。{query}",
        "{query}\n阅读文本，写出@placeholder代表的内容。",
    ),
}
EXAMPLE: dict[str, Any] = {"answers": ["heart failure", "cardiac failure"]}


def asked(gold: dict[str, Any]) -> list[str]:
    """Nothing is named in an instruction."""
    return []


def render(gold: dict[str, Any], language: str) -> str:
    """The answer: the first of the gold's answers."""
    return normal(gold["answers"][0])


def parse(text: str, language: str) -> dict[str, Any]:
    """The answer's words, blanks as answers hold them; none where there is no text."""
    words = normal(text)
    return {"answers": [words] if words else []}


def restrict(gold: dict[str, Any], context: str) -> dict[str, Any]:
    """The gold of a context that was cut to its beginning: the answer need not stand in the text, so it stays."""
    return gold
