"""Scores as lines of text for a terminal."""

from collections.abc import Sequence
from typing import Any

WIDTH = 24


def lines(groups: Sequence[dict[str, Any]]) -> list[str]:
    """A block for each task and split: headline metrics by system with 95 % intervals, then paired differences."""
    shown: list[str] = []
    for group in groups:
        if group["source"] is None:
            shown += _group(group)
    return shown


def _group(group: dict[str, Any]) -> list[str]:
    systems: dict[str, Any] = group["systems"]
    left = max([len(name) for name in group["headlines"]] + [28])
    title = f"{group['task']}, {group['split']}: {group['rows']} rows of {group['documents']} documents"
    shown = ["", title, " " * left + "".join(f"{name[: WIDTH - 2]:>{WIDTH}}" for name in systems)]
    for metric in group["headlines"]:
        cells = [cell(found["scores"].get(metric)) for found in systems.values()]
        shown.append(f"{metric:<{left}}" + "".join(f"{text:>{WIDTH}}" for text in cells))
    for key, title in (("unparsed", "answers that do not parse"), ("length_hits", "answers cut by length")):
        cells = [f"{100 * found[key]:.1f} %" for found in systems.values()]
        shown.append(f"{title:<{left}}" + "".join(f"{text:>{WIDTH}}" for text in cells))
    for pair in group["differences"]:
        shown.append(f"  {pair['to']} - {pair['from']}:")
        for metric in group["headlines"]:
            found = pair["scores"].get(metric)
            shown.append(f"  {metric:<{left - 2}}{cell(found, signed=True):>{WIDTH}}  {verdict(found)}")
    return shown


def cell(interval: dict[str, float] | None, *, signed: bool = False) -> str:
    """`value [low, high]`, three digits below 1 and one above (scores of 0 to 1, and of 0 to 100)."""
    if interval is None:
        return "-"
    digits = 3 if max(abs(value) for value in interval.values()) <= 1 else 2
    plus = "+" if signed else ""
    return f"{interval['value']:{plus}.{digits}f} [{interval['low']:.{digits}f}, {interval['high']:.{digits}f}]"


def verdict(interval: dict[str, float] | None) -> str:
    """What a paired difference says: whether its interval leaves 0 out."""
    if interval is None:
        return ""
    if interval["low"] > 0:
        return "better"
    return "worse" if interval["high"] < 0 else "no difference shown"
