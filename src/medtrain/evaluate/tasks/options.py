"""Multiple choice: the keys of an answer against the right ones, all of them or nothing."""

from medtrain.evaluate.cases import Answer, Case, one_blank
from medtrain.tokens.wording import options

METRICS = ("accuracy",)


def case(answer: Answer) -> Case:
    """The keys that the answer gives, sorted; unparsed where there are none, or one that no option has."""
    gold = answer.gold or options.parse(answer.reference, answer.language)
    predicted = keys(answer.text, answer.language, gold.get("options"))
    return Case(answer.document_id, answer.context, {"label": gold["answer"]}, {"label": predicted}, bool(predicted))


def keys(text: str, language: str, given: dict[str, str] | None) -> str:
    """The keys that an answer stands for; where the options are known, the bare text of one of them is its key."""
    found: str = options.parse(text, language)["answer"]
    if given is None:
        return found
    bare = one_blank(text).rstrip(".。").casefold()
    same = [key for key, option in given.items() if bare and one_blank(option).rstrip(".。").casefold() == bare]
    if len(same) == 1 and bare.upper() not in given:
        return same[0]
    return found if set(found) <= set(given) else ""
