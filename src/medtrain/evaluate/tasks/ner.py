"""Named entities: an answer's `Type: name; name` lines against the record's entities."""

from medtrain.evaluate.cases import Answer, Case, one_blank
from medtrain.tokens.wording import ner

METRICS = ("entity_f1", "entity_f1_filter")


def case(answer: Answer) -> Case:
    """Entities of both sides, blanks as answers hold them; unparsed where nothing is read and nothing is not said."""
    gold = answer.gold or ner.parse(answer.reference, answer.language)
    predicted = ner.parse(answer.text, answer.language)
    wanted = [{key: one_blank(entity[key]) for key in ("type", "text")} for entity in gold["entities"]]
    parsed = bool(predicted["entities"]) or answer.text.strip() in ner.NONE.values()
    return Case(answer.document_id, one_blank(answer.context or answer.query), {"entities": wanted}, predicted, parsed)
