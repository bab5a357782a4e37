"""Relations: an answer's `TYPE: [head, tail]` lines against the record's relations."""

from medtrain.evaluate.cases import Answer, Case, one_blank
from medtrain.tokens.wording import relations

METRICS = ("relation_f1",)


def case(answer: Answer) -> Case:
    """Triples of both sides, blanks as answers hold them; unparsed where nothing is read and nothing is not said."""
    gold = answer.gold or relations.parse(answer.reference, answer.language)
    predicted = relations.parse(answer.text, answer.language)
    wanted = [{key: one_blank(row[key]) for key in ("type", "head", "tail")} for row in gold["relations"]]
    parsed = bool(predicted["relations"]) or answer.text.strip() in relations.NONE.values()
    return Case(answer.document_id, answer.context, {"relations": wanted}, predicted, parsed)
