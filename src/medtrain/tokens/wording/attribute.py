"""One attribute of a named thing, of a knowledge graph: its values as a list `value; value`."""

from typing import Any

from medtrain.tokens.wording._lines import ITEM_END, normal, read_names, write_name

INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "en": (
        "Explain the following attribute of what the text names: {types}.",
        "Name this attribute of what the text below is about: {types}.",
        "Explain the following attribute of {query}: {types}.",
        "What is known of {query}? Attribute: {types}.",
        "Name the following of {query}: {types}.",
    ),
    "zh": (
        "解释下文所述对象的以下属性：{types}。",
        "写出下面文本所述对象的这一属性：{types}。",
        "解释{query}的以下属性：{types}。",
        "关于{query}，请写出：{types}。",
        "{query}的{types}是什么？",
    ),
}
EXAMPLE: dict[str, Any] = {"attribute": "synonyms", "values": ["high temperature", "pyrexia; febris"]}
NONE = {"en": "Nothing is known of it.", "zh": "没有已知内容。"}


def asked(gold: dict[str, Any]) -> list[str]:
    """What the instruction asks for: the attribute."""
    return [gold["attribute"]]


def render(gold: dict[str, Any], language: str) -> str:
    """The answer: the values in the order of the gold, each once."""
    values = dict.fromkeys(write_name(value, ITEM_END) for value in gold["values"] if normal(value))
    return "; ".join(values) or NONE.get(language, NONE["en"])


def parse(text: str, language: str) -> dict[str, Any]:
    """The values of an answer's lines, each once; the sentence for none gives none."""
    lines = [line.strip() for line in text.splitlines() if line.strip() not in NONE.values()]
    return {"values": list(dict.fromkeys(value for line in lines for value in read_names(line)))}


def restrict(gold: dict[str, Any], context: str) -> dict[str, Any]:
    """The gold of a context that was cut to its beginning: what is known of a thing does not stand in the text."""
    return gold
