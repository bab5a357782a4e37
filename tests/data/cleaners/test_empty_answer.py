"""Empty answers go, except where the gold is the answer."""

from medtrain.data.cleaners.empty_answer import Config, reasons
from medtrain.records import Record, Turn, to_arrow


def test_an_empty_answer_goes_unless_there_is_gold() -> None:
    def row(*answers: str, gold: dict[str, object] | None = None) -> Record:
        turns = [turn for a in answers for turn in (Turn("user", query="q"), Turn("assistant", text=a, trained=True))]
        return Record("x:1", "x:1", "x", "general", "QA", "en", "train", tuple(turns), gold=gold)

    rows = [row("a"), row(" \n"), row("", gold={"entities": []}), row("a", "", "b")]
    assert reasons(to_arrow(rows), Config(cleaner="empty_answer")) == [
        None,
        "turn 2 is an empty answer",
        None,
        "turn 4 is an empty answer",
    ]
