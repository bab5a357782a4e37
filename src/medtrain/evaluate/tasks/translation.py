"""Translation: free text, compared by characters."""

from medtrain.evaluate.cases import Answer, Case, text_case

METRICS = ("bleu_char", "gleu_char", "rouge_char")


def case(answer: Answer) -> Case:
    """Both texts without outer blanks; an empty answer counts as unparsed."""
    return text_case(answer)
