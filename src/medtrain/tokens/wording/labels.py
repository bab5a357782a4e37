"""Labels of a text: `label; label` out of a named set."""

from typing import Any

from medtrain.tokens.wording._lines import ITEM_END, normal, read_names, write_name

INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "en": (
        "Which of these labels apply to the text? Labels: {types}.",
        "Classify the following text. Choose all labels that fit from: {types}.",
        "Assign labels to the text below. Possible labels: {types}.",
        "Read the text and name every label that it deserves ({types}).",
    ),
    "zh": (
        "下面的文本属于哪些类别？可选类别：{types}。",
        "请对以下文本进行分类，从这些类别中选出所有合适的：{types}。",
        "为文本选择标签。可选标签：{types}。",
        "阅读文本，写出它所属的全部类别（{types}）。",
    ),
}
EXAMPLE: dict[str, Any] = {"labels": ["b", "a"], "label_set": ["a", "b", "c"]}
NONE = {"en": "None of these labels applies.", "zh": "以上类别都不适用。"}


def asked(gold: dict[str, Any]) -> list[str]:
    """What the instruction asks for: the label set."""
    return list(gold["label_set"])


def render(gold: dict[str, Any], language: str) -> str:
    """The answer: the labels in the order of the gold, each once."""
    labels = dict.fromkeys(write_name(label, ITEM_END) for label in gold["labels"] if normal(label))
    return "; ".join(labels) or NONE.get(language, NONE["en"])


def parse(text: str, language: str) -> dict[str, Any]:
    """The labels of an answer's lines, each once; the sentence for none of them gives none."""
    names = [
        name for line in text.splitlines() if line.strip() not in NONE.values() for name in read_names(line.strip())
    ]
    return {"labels": list(dict.fromkeys(names))}


def restrict(gold: dict[str, Any], context: str) -> dict[str, Any]:
    """The gold of a context that was cut to its beginning: labels have no place in the text, so all stay."""
    return gold
