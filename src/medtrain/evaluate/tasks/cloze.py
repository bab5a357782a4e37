"""Gaps: an answer's words against every answer that the record takes for right."""

from medtrain.evaluate.cases import Answer, Case
from medtrain.tokens.wording import cloze

METRICS = ("squad_f1",)


def case(answer: Answer) -> Case:
    """All right answers and the one given; an empty answer counts as unparsed."""
    gold = answer.gold or cloze.parse(answer.reference, answer.language)
    predicted = cloze.parse(answer.text, answer.language)
    wanted = {"answers": list(gold["answers"])}
    return Case(answer.document_id, answer.context, wanted, predicted, bool(predicted["answers"]))
