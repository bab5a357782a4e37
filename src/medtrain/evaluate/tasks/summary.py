"""Summaries: free text, compared by characters."""

from medtrain.evaluate.cases import Answer, Case
from medtrain.tokens.wording import summary

METRICS = ("rouge_char",)


def case(answer: Answer) -> Case:
    """Both texts without outer blanks; an empty answer counts as unparsed."""
    gold = answer.gold or summary.parse(answer.reference, answer.language)
    text: str = summary.parse(answer.text, answer.language)["summary"]
    return Case(answer.document_id, answer.context, gold["summary"].strip(), text, bool(text))
