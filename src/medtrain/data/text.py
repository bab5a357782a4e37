"""Bytes to text: what is damaged is mended by a fixed rule and reported, never dropped in silence."""

from typing import Any

from medtrain.data.source import Problem

BOM = b"\xef\xbb\xbf"


def decode(raw: bytes, position: str) -> tuple[str, list[Problem]]:
    """UTF-8 as text: a byte order mark is taken off, a NUL becomes a blank, an undecodable byte becomes U+FFFD."""
    problems: list[Problem] = []
    if raw.startswith(BOM):
        raw = raw[len(BOM) :]
        problems.append(Problem(position, "byte_order_mark", "taken off", action="changed"))
    nuls = raw.count(b"\0")
    if nuls:
        raw = raw.replace(b"\0", b" ")
        problems.append(Problem(position, "nul_bytes", f"{nuls} replaced by blanks", action="changed"))
    try:
        return raw.decode("utf-8"), problems
    except UnicodeDecodeError:
        text = raw.decode("utf-8", errors="replace")
        count = text.count("\ufffd") - raw.count("\ufffd".encode())
        problems.append(Problem(position, "bad_bytes", f"{count} replaced by U+FFFD", action="changed"))
        return text, problems


def mend(value: Any) -> Any:
    """A JSON value whose strings can all be written: lone surrogates become U+FFFD, NULs become blanks."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", " ")
    if isinstance(value, list):
        return [mend(item) for item in value]
    if isinstance(value, dict):
        return {mend(key): mend(item) for key, item in value.items()}
    return value
