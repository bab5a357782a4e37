"""Relations: `RELATION: [head, tail]; [head, tail]`, a line for each that occurs (the shape of Taiyi's answers)."""

import re
from typing import Any

from medtrain.tokens.wording._lines import HEAD_END, PAIR_END, normal, read_name, write_name

INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "en": (
        "Find every pair of entities in the text that stands in one of these relations: {types}.",
        "Extract the relations {types} from the following text as [head, tail] pairs.",
        "Which entities of the text below are related? Relations: {types}.",
        "List the [head, tail] pairs of the text by relation ({types}).",
    ),
    "zh": (
        "找出下面文本中具有这些关系的实体对：{types}。",
        "请从以下文本中抽取关系，写成[头实体, 尾实体]的形式。关系类型：{types}。",
        "下面文本中哪些实体之间存在关系？关系类型：{types}。",
        "阅读文本，按关系（{types}）列出[头实体, 尾实体]。",
    ),
}
EXAMPLE: dict[str, Any] = {
    "relations": [
        {"type": "treats", "head": "aspirin", "tail": "fever"},
        {"type": "CPR:4", "head": "1,2-diol, cis", "tail": "kinase [a]"},
    ],
    "types": ["treats", "CPR:4"],
}
NONE = {"en": "There is no pair in these relations.", "zh": "文中没有这些关系的实体对。"}
_TYPE = re.compile(r"\s*[:：]\s*(?=\[)")


def asked(gold: dict[str, Any]) -> list[str]:
    """What the instruction asks for: the relations."""
    return list(gold["types"])


def render(gold: dict[str, Any], language: str) -> str:
    """The answer: relations in the order in which the gold first has them, each pair once per relation."""
    lines: dict[str, dict[str, None]] = {}
    for relation in gold["relations"]:
        head, tail = (write_name(relation[end], HEAD_END, PAIR_END) for end in ("head", "tail"))
        if normal(relation["head"]) and normal(relation["tail"]) and normal(relation["type"]):
            lines.setdefault(normal(relation["type"]), {})[f"[{head}, {tail}]"] = None
    colon = "：" if language == "zh" else ": "
    shown = [f"{write_name(kind, _TYPE)}{colon}{'; '.join(pairs)}" for kind, pairs in lines.items()]
    return "\n".join(shown) or NONE.get(language, NONE["en"])


def parse(text: str, language: str) -> dict[str, Any]:
    """The relations of an answer, each (type, head, tail) once; what is no pair is passed over.

    A comma inside an unquoted name makes a pair ambiguous: the first one with a blank after it divides head from tail.
    """
    found: dict[tuple[str, str, str], None] = {}
    for line in text.splitlines():
        kind, place, is_relation = read_name(line.strip(), 0, _TYPE)
        if is_relation and kind is not None:
            found.update({(kind, head, tail): None for head, tail in _pairs(line.strip()[place:])})
    return {"relations": [{"type": kind, "head": head, "tail": tail} for kind, head, tail in found]}


def _pairs(text: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    place = text.find("[")
    while place >= 0:
        head, middle, divided = read_name(text, place + 1, HEAD_END)
        tail, place, closed = read_name(text, middle, PAIR_END)
        if divided and closed and head is not None and tail is not None:
            pairs.append((head, tail))
        place = text.find("[", place)
    return pairs


def restrict(gold: dict[str, Any], context: str) -> dict[str, Any]:
    """The gold of a context that was cut to its beginning: relations of which both ends occur in it."""
    kept = [r for r in gold["relations"] if r["head"] in context and r["tail"] in context]
    return {**gold, "relations": kept}
