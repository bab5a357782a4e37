"""The length rule: what an over-long dialogue loses, and in which order.

Whole exchanges from the end, all but the first; then paragraphs of the context from its end, then sentences of its
first paragraph; then paragraphs of the answer, then sentences. Never the query, never characters, never the whole
context or answer. What is kept is a beginning of what there was, so offsets into a context stay right.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from medtrain.tokens.template import Exchange

Fits = Callable[[Sequence[Exchange]], bool]
Cut = Literal["", "paragraphs", "sentences"]

_PARAGRAPH_END = re.compile(r"\s*\n\s*")
_SENTENCE_END = re.compile(r"[。！？]+[”’」』）]*|[.!?]+[\"')\]”’]*(?=\s)")


@dataclass(frozen=True)
class Fitted:
    """A dialogue that fits, and the rules that cut it, in order."""

    exchanges: tuple[Exchange, ...]
    rules: tuple[str, ...] = ()


def paragraph_ends(text: str) -> list[int]:
    """Where paragraphs end, as lengths of beginnings; the whole text is the last."""
    whole = len(text.rstrip())
    first = whole - len(text.strip())
    return [m.start() for m in _PARAGRAPH_END.finditer(text, first, whole)] + [whole]


def sentence_ends(text: str) -> list[int]:
    """Where sentences end (。！？ or .!? before a blank), as lengths of beginnings; the whole text is the last."""
    whole = len(text.rstrip())
    return [m.end() for m in _SENTENCE_END.finditer(text, 0, whole) if m.end() < whole] + [whole]


def shorten(text: str, fits: Callable[[str], bool]) -> tuple[str, Cut] | None:
    """The longest beginning of whole paragraphs that fits, else of sentences of the first paragraph, else None."""
    if fits(text):
        return text, ""
    ends = paragraph_ends(text)
    kept = _longest(text, ends[:-1], fits)
    if kept is not None:
        return kept, "paragraphs"
    first = text[: ends[0]]
    kept = _longest(first, sentence_ends(first), fits)
    return None if kept is None else (kept, "sentences")


def _longest(text: str, ends: list[int], fits: Callable[[str], bool]) -> str | None:
    """By bisection: more text never takes fewer tokens, and what is returned was tried."""
    low, high = -1, len(ends)
    while high - low > 1:
        middle = (low + high) // 2
        if fits(text[: ends[middle]]):
            low = middle
        else:
            high = middle
    return text[: ends[low]] if low >= 0 else None


def fit(
    exchanges: Sequence[Exchange], fits: Fits, answer_for: Callable[[str], str] | None, close: bool
) -> Fitted | None:
    """A dialogue cut until it fits, or None where no cut makes it fit.

    `answer_for` writes the answer to a shorter context (structured tasks; such an answer itself is never cut); `close`
    says whether an answer that was cut still gets its end.
    """
    if fits(exchanges):
        return Fitted(tuple(exchanges))
    rules = ("exchanges-cut",) if len(exchanges) > 1 else ()
    for count in range(len(exchanges) - 1, 0, -1):
        if fits(exchanges[:count]):
            return Fitted(tuple(exchanges[:count]), rules)
    first = exchanges[0]

    def with_context(context: str) -> Exchange:
        return replace(first, context=context, answer=answer_for(context) if answer_for else first.answer)

    context = shorten(first.context, lambda kept: fits([with_context(kept)])) if first.context.strip() else None
    if context is not None:
        return Fitted((with_context(context[0]),), (*rules, *_rules("context", context[1])))
    if answer_for is not None:
        return None
    return _cut_answer(replace(first, context=_least(first.context)), first.context, rules, fits, close)


def _least(context: str) -> str:
    """The shortest beginning that the rule leaves of a context: its first sentence."""
    return context[: sentence_ends(context[: paragraph_ends(context)[0]])[0]]


def _cut_answer(least: Exchange, context: str, rules: tuple[str, ...], fits: Fits, close: bool) -> Fitted | None:
    def with_answer(text: str) -> Exchange:
        whole = len(text.rstrip()) == len(least.answer.rstrip())
        return replace(least, answer=text, closed=least.closed and (whole or close))

    answer = shorten(least.answer, lambda kept: fits([with_answer(kept)]))
    if answer is None:
        return None
    context_rules = _rules("context", "sentences" if least.context.strip() != context.strip() else "")
    return Fitted((with_answer(answer[0]),), (*rules, *context_rules, *_rules("answer", answer[1])))


def _rules(part: str, cut: Cut) -> tuple[str, ...]:
    """The ledger's name of a cut."""
    return (f"{part}-{cut}-cut",) if cut else ()
