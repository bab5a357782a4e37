"""ChatML: a dialogue as pieces of text, each of them a control token or plain, with loss or without.

Pieces and not one string: a control token's text in a corpus row (`<|im_end|>` in an answer) stays text, and the mask
is known before anything is tokenised. For rows without such text the ids are those of the whole string, because a
tokenizer splits at control tokens first, and at the line break before an answer (`tokenizer.check` sees to it).
"""

from collections.abc import Sequence
from dataclasses import dataclass

IM_START, IM_END, END_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
CONTROL = (IM_START, IM_END, END_OF_TEXT)
STOP = (IM_END, END_OF_TEXT)
"""Both end a generated answer: the first ends a turn, the second a dialogue."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A user's turn, in parts, and the answer to it; `closed` says whether the answer's end is written."""

    query: str
    context: str
    answer: str
    trained: bool = True
    closed: bool = True


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the rendered text."""

    text: str
    control: bool = False
    trained: bool = False


def user_text(exchange: Exchange, join: str, join_empty: bool = False) -> str:
    """A user's turn: query, join, context, each without outer blanks; no join beside an empty part unless asked for."""
    query, context = exchange.query.strip(), exchange.context.strip()
    return query + (join if join_empty or (query and context) else "") + context


def head(system: str) -> list[Piece]:
    """The system turn."""
    return [Piece(IM_START, control=True), Piece(f"system\n{system.strip()}"), Piece(IM_END, control=True), Piece("\n")]


def question(user: str) -> list[Piece]:
    """A user's turn and the header of the answer to it: a prompt ends here."""
    return [
        Piece(IM_START, control=True),
        Piece(f"user\n{user}"),
        Piece(IM_END, control=True),
        Piece("\n"),
        Piece(IM_START, control=True),
        Piece("assistant\n"),
    ]


def reply(exchange: Exchange) -> list[Piece]:
    """An answer and its end: exactly `text<|im_end|>` and a line break carry loss."""
    text = [Piece(exchange.answer.strip(), trained=exchange.trained)]
    if not exchange.closed:
        return text
    return [*text, Piece(IM_END, control=True, trained=exchange.trained), Piece("\n", trained=exchange.trained)]


def chat(system: str, exchanges: Sequence[Exchange], join: str, join_empty: bool = False) -> list[Piece]:
    """A whole dialogue; after the last answer, if it is closed, also `<|endoftext|>`."""
    pieces = head(system)
    for exchange in exchanges:
        pieces += question(user_text(exchange, join, join_empty)) + reply(exchange)
    last = exchanges[-1]
    return [*pieces, Piece(END_OF_TEXT, control=True, trained=last.trained)] if last.closed else pieces


def text_of(pieces: Sequence[Piece]) -> str:
    """The rendered text."""
    return "".join(piece.text for piece in pieces)
