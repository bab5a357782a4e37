"""Writing and reading the lists inside answers: names joined by `; `, quoted only where a name would break the list."""

import json
import re

ITEM_END = re.compile(r"\s*;(?=\s|$)\s*|\s*；\s*")
"""Between two names of a list: a semicolon with a blank after it, or a full-width one."""
HEAD_END = re.compile(r"\s*,\s+|\s*，\s*")
"""Between the head and the tail of a pair."""
PAIR_END = re.compile(r"\s*\](?=\s*(?:[;；]|$))")
"""The bracket that closes a pair: one that a separator or the end of the line follows."""
TYPE_END = re.compile(r"\s*:(?=\s)\s*|\s*：\s*|\s*:$")
"""Between a type and its names."""
NOTHING = frozenset({"", "none", "n/a", "无", "没有"})
"""What models write for a type that they found nothing of; the name itself is written in quotes."""


def normal(name: str) -> str:
    """A name as answers hold it: outer blanks gone, runs of blanks and line breaks one blank."""
    return " ".join(name.split())


def write_name(name: str, *ends: re.Pattern[str]) -> str:
    """A name as it stands in a list whose parts end as `ends` say; as a JSON string where it would be misread."""
    name = normal(name)
    misread = name.startswith('"') or name.lower() in NOTHING or name[-1:] in ",;:" or any(e.search(name) for e in ends)
    return json.dumps(name, ensure_ascii=False) if misread else name


def read_name(text: str, start: int, end: re.Pattern[str]) -> tuple[str | None, int, bool]:
    """The name at `start` (None where it says nothing), where reading goes on, and whether its end was found."""
    if text.startswith('"', start):
        try:
            name, stop = json.JSONDecoder(strict=False).raw_decode(text, start)
        except ValueError:
            name, stop = None, start
        match = end.match(text, stop)
        if isinstance(name, str) and (match or not text[stop:].strip()):
            return normal(name) or None, match.end() if match else len(text), match is not None
    match = end.search(text, start)
    name = normal(text[start : match.start() if match else len(text)])
    return None if name.lower() in NOTHING else name, match.end() if match else len(text), match is not None


def read_names(text: str) -> list[str]:
    """The names of a `; ` list, each once, in order; any text is read somehow and none is an error."""
    names: list[str] = []
    place = 0
    while place < len(text):
        name, place, _ = read_name(text, place, ITEM_END)
        if name is not None and name not in names:
            names.append(name)
    return names


def read_type(line: str) -> tuple[str, str] | None:
    """A line `Type: rest` as (type, rest), or None where it is no such line."""
    name, place, found = read_name(line.strip(), 0, TYPE_END)
    return (name, line.strip()[place:]) if found and name is not None else None


def pick(choices: dict[str, tuple[str, ...]], language: str) -> tuple[str, ...]:
    """The phrasings of a language; English where there are none."""
    return choices.get(language) or choices["en"]


def enumerate_names(names: list[str], language: str) -> str:
    """Types or labels as an instruction names them."""
    return ("、" if language == "zh" else ", ").join(normal(name) for name in names)
