"""One label of a set: an answer's first line against the record's label."""

from collections.abc import Sequence

from medtrain.evaluate.cases import Answer, Case, one_blank
from medtrain.tokens.wording import choice

METRICS = ("accuracy", "macro_f1")
AROUND = " .,;:!?*\"'`()[]。，；：！？、“”‘’（）【】"
"""What may stand around a label, and what must follow one that an explanation comes after."""


def case(answer: Answer) -> Case:
    """The label that the answer names; unparsed where it names none of the set."""
    gold = answer.gold or choice.parse(answer.reference, answer.language)
    labels = [one_blank(label) for label in gold.get("label_set") or [gold["label"]]]
    predicted = named(labels, choice.parse(answer.text, answer.language)["label"])
    return Case(
        answer.document_id, answer.context, {"label": one_blank(gold["label"])}, {"label": predicted}, bool(predicted)
    )


def named(labels: Sequence[str], text: str) -> str:
    """The label that a line is or begins with (`Yes, because …`), the longest such, in any case; empty for none."""
    if text in labels:
        return text
    plain = text.strip(AROUND).casefold()
    for label in sorted(labels, key=len, reverse=True):
        bare = label.strip(AROUND).casefold()
        rest = plain[len(bare) :] if bare and plain.startswith(bare) else None
        if rest is not None and (not rest or (rest[0] in AROUND and rest[0] != " ")):
            return label
    return ""
