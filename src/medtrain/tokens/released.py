"""The length rule of the released BioQwen scripts, kept bit by bit for comparison (`mode: released`).

The script (`script_stage1.py`, `tokenize_chatml`) cuts the rendered text at its last line break while it is over the
limit and that line break's *character* offset is above the prompt's *token* count; else it keeps as many characters as
the limit has tokens. It closes the text again, adds the end token (untested against the limit), and its collator keeps
the last tokens. Where a cut reaches into the prompt the script's mask does not match its tokens: such a row here has no
trained token, and is dropped.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from medtrain.tokens.template import END_OF_TEXT, IM_END, Piece, text_of

CLOSING = f"{IM_END}\n"


def cut(
    pieces: Sequence[Piece], prompt: Sequence[Piece], limit: int, count: Callable[[Sequence[Piece]], int]
) -> list[Piece]:
    """The script's cut of a dialogue (`pieces`, `<|endoftext|>` included); `prompt` is all before the last answer."""
    body = list(pieces[:-1])
    text, least = text_of(body), count(prompt)
    length = len(text)
    while count(beginning(body, length)) > limit:
        last = text.rfind("\n", 0, length)
        if last <= least:
            length = min(length, limit)
            break
        length = last
    body = beginning(body, length)
    trained = pieces[-1].trained and length >= len(text_of(prompt))
    if not text_of(body).endswith(CLOSING):
        body += [Piece(IM_END, control=True, trained=trained), Piece("\n", trained=trained)]
    return [*body, Piece(END_OF_TEXT, control=True, trained=trained)]


def beginning(pieces: Sequence[Piece], length: int) -> list[Piece]:
    """The first `length` characters; a control token that is torn is plain text from then on."""
    kept: list[Piece] = []
    for piece in pieces:
        if length <= 0:
            break
        torn = length < len(piece.text)
        kept.append(replace(piece, text=piece.text[:length], control=piece.control and not torn))
        length -= len(piece.text)
    return kept
