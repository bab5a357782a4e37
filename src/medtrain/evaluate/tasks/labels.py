"""Labels: an answer's `label; label` against the record's labels."""

from medtrain.evaluate.cases import Answer, Case, one_blank
from medtrain.tokens.wording import labels

METRICS = ("label_f1",)


def case(answer: Answer) -> Case:
    """Labels of both sides, blanks as answers hold them.

    Any text reads as labels, so an answer counts as unparsed where none of its labels was among those asked for.
    """
    gold = answer.gold or labels.parse(answer.reference, answer.language)
    predicted = labels.parse(answer.text, answer.language)
    known = {one_blank(label) for label in gold.get("label_set") or gold["labels"]}
    parsed = bool(known & set(predicted["labels"])) or answer.text.strip() in labels.NONE.values()
    wanted = {"labels": [one_blank(label) for label in gold["labels"]]}
    return Case(answer.document_id, answer.context, wanted, predicted, parsed)
