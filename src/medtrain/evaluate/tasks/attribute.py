"""An attribute of a knowledge graph: an answer's `value; value` against the record's values."""

from medtrain.evaluate.cases import Answer, Case, one_blank
from medtrain.tokens.wording import attribute

METRICS = ("value_f1",)


def case(answer: Answer) -> Case:
    """Values of both sides, blanks as answers hold them; unparsed where nothing is read and nothing is not said."""
    gold = answer.gold or attribute.parse(answer.reference, answer.language)
    predicted = attribute.parse(answer.text, answer.language)
    wanted = {"attribute": gold.get("attribute", ""), "values": [one_blank(value) for value in gold["values"]]}
    parsed = bool(predicted["values"]) or answer.text.strip() in attribute.NONE.values()
    return Case(answer.document_id, answer.context, wanted, predicted, parsed)
