"""Named entities: `Type: name; name`, one line for each type that occurs (the shape of Taiyi's answers)."""

from typing import Any

from medtrain.tokens.wording._lines import ITEM_END, TYPE_END, normal, read_names, read_type, write_name

INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "en": (
        "Find every entity of these types in the text: {types}.",
        "List all {types} entities that the following text mentions, one line per type.",
        "Extract the named entities from the text below. Types: {types}.",
        "Which entities of the types {types} occur in this text?",
        "Read the text and write down its entities by type ({types}).",
    ),
    "zh": (
        "找出下面文本中的实体，类型包括：{types}。",
        "请从以下文本中抽取{types}实体，每种类型一行。",
        "识别文本中出现的命名实体。实体类型：{types}。",
        "下面这段文字里有哪些实体？需要的类型：{types}。",
        "阅读文本，按类型（{types}）写出其中的全部实体。",
    ),
}
EXAMPLE: dict[str, Any] = {
    "entities": [
        {"type": "Disease", "text": "ulcer", "start": 21, "end": 26},
        {"type": "Drug", "text": "aspirin", "start": 0, "end": 7},
    ],
    "types": ["Disease", "Drug", "Symptom"],
}
NONE = {"en": "There is no entity of these types.", "zh": "文中没有这些类型的实体。"}


def asked(gold: dict[str, Any]) -> list[str]:
    """What the instruction asks for: the types."""
    return list(gold["types"])


def render(gold: dict[str, Any], language: str) -> str:
    """The answer: types and names in the order in which they first appear in the text, each name once per type."""
    entities = [e for e in gold["entities"] if normal(e["text"]) and normal(e["type"])]
    if all(e.get("start") is not None for e in entities):
        entities.sort(key=lambda e: (e["start"], e["end"]))
    lines: dict[str, dict[str, None]] = {}
    for entity in entities:
        lines.setdefault(normal(entity["type"]), {})[write_name(entity["text"], ITEM_END)] = None
    colon = "：" if language == "zh" else ": "
    shown = [f"{write_name(kind, TYPE_END)}{colon}{'; '.join(names)}" for kind, names in lines.items()]
    return "\n".join(shown) or NONE.get(language, NONE["en"])


def parse(text: str, language: str) -> dict[str, Any]:
    """The entities of an answer without offsets, each (type, text) once; what is no entity line is passed over."""
    found: dict[tuple[str, str], None] = {}
    for line in text.splitlines():
        parts = read_type(line)
        if parts is not None:
            found.update({(parts[0], name): None for name in read_names(parts[1])})
    return {"entities": [{"type": kind, "text": name, "start": None, "end": None} for kind, name in found]}


def restrict(gold: dict[str, Any], context: str) -> dict[str, Any]:
    """The gold of a context that was cut to its beginning: entities that lie in it whole."""

    def kept(entity: dict[str, Any]) -> bool:
        end = entity.get("end")
        return end <= len(context) if end is not None else entity["text"] in context

    return {**gold, "entities": [entity for entity in gold["entities"] if kept(entity)]}
