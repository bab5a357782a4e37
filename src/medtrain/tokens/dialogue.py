"""A record's turns as a dialogue of exchanges, with the words that structured tasks leave to the wording filled in."""

from collections.abc import Sequence
from dataclasses import dataclass

from medtrain.records import Record, Turn
from medtrain.tokens import words
from medtrain.tokens.template import Exchange


@dataclass(frozen=True)
class Dialogue:
    """`system` is the record's own system text or empty; `answered` is false where a user speaks last."""

    system: str
    exchanges: tuple[Exchange, ...]
    answered: bool


@dataclass(frozen=True)
class Unusable:
    """Why a record is no dialogue to learn from or to answer, as a ledger rule and its detail."""

    rule: str
    detail: str


def read(record: Record, seed: int) -> Dialogue | Unusable:
    """Pair up the turns; the first query, and answers that are empty, are worded by the record's task and gold."""
    turns = list(record.turns)
    system = turns.pop(0) if turns and turns[0].role == "system" else Turn("system")
    roles = [turn.role for turn in turns]
    answered = len(turns) % 2 == 0
    if not turns or roles != (["user", "assistant"] * len(turns))[: len(turns)]:
        return Unusable("turn-order", f"roles are {', '.join(roles) or 'none'}; user and assistant must take turns")
    exchanges: list[Exchange] = []
    for number in range(0, len(turns), 2):
        user, reply = turns[number], turns[number + 1] if number + 1 < len(turns) else Turn("assistant")
        query = user.query if number else words.question(record, user.query, seed)
        if not (query.strip() or user.context.strip()):
            return Unusable("empty-question", f"turn {number + 1} has neither query nor context")
        text = reply.text if reply.text.strip() or not words.is_structured(record) else words.answer(record)
        exchanges.append(Exchange(query, user.context, text, reply.trained))
    return Dialogue((system.text or system.query).strip(), tuple(exchanges), answered)


def check_answers(dialogue: Dialogue) -> Unusable | None:
    """What keeps a dialogue from training: a missing or empty answer, or none that is to be learnt."""
    answered: Sequence[Exchange] = dialogue.exchanges if dialogue.answered else dialogue.exchanges[:-1]
    if not answered:
        return Unusable("no-answer", "the record has no answer")
    if not all(exchange.answer.strip() for exchange in answered):
        return Unusable("empty-answer", "an answer has no text and there is no gold to write it from")
    if not any(exchange.trained for exchange in answered):
        return Unusable("nothing-trained", "no answer is marked as trained")
    return None
