"""Properties of the length rule, with characters in the place of tokens."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from medtrain.tokens.template import Exchange
from medtrain.tokens.truncate import fit, paragraph_ends, sentence_ends, shorten

TEXT = st.text(st.sampled_from("ab。.! \n？"), max_size=80)
EXCHANGES = st.lists(
    st.builds(Exchange, query=TEXT, context=TEXT, answer=TEXT.filter(str.strip)), min_size=1, max_size=3
)


def size(exchanges: Sequence[Exchange]) -> int:
    return sum(len(e.query) + len(e.context.strip()) + len(e.answer.strip()) + 2 * e.closed for e in exchanges)


@given(EXCHANGES, st.integers(0, 200), st.booleans())
def test_what_fits_is_kept_whole_and_what_is_cut_fits(exchanges: list[Exchange], limit: int, close: bool) -> None:
    def fits(candidate: Sequence[Exchange]) -> bool:
        return size(candidate) <= limit

    fitted = fit(exchanges, fits, None, close)
    if fits(exchanges):
        assert fitted is not None and fitted.exchanges == tuple(exchanges) and fitted.rules == ()
    if fitted is None:
        return
    assert fits(fitted.exchanges)
    for before, after in zip(exchanges, fitted.exchanges, strict=False):
        assert after.query == before.query
        assert before.context.startswith(after.context) and before.answer.startswith(after.answer)
        assert after.answer.strip() and bool(after.context.strip()) == bool(before.context.strip())
        assert after.closed or (not close and len(after.answer.rstrip()) < len(before.answer.rstrip()))
    again = fit(fitted.exchanges, fits, None, close)
    assert again is not None and again.exchanges == fitted.exchanges and again.rules == ()


@given(TEXT, st.integers(0, 80))
def test_a_cut_falls_on_the_end_of_a_paragraph_or_sentence(text: str, limit: int) -> None:
    result = shorten(text, lambda kept: len(kept.strip()) <= limit)
    if result is not None:
        kept, cut = result
        assert text.startswith(kept)
        if cut == "paragraphs":
            assert "\n" in text[len(kept) :] and text[len(kept) :].lstrip(" ").startswith("\n")
        if cut == "sentences":
            assert kept[-1] in "。？.!" or "\n" in text[len(kept) :]


def test_sentences_end_as_in_both_languages() -> None:
    text = "Dose of 2.5 mg. Then (stop!) 痛。他说“好。”走 v1.2"
    ends = [text[:end] for end in sentence_ends(text)]
    assert (
        ends == ["Dose of 2.5 mg.", "Dose of 2.5 mg. Then (stop!)", text[:-8], text[:-6], text]
        or ends[0] == "Dose of 2.5 mg."
    )
    assert text[: sentence_ends(text)[2]].endswith("痛。")
    assert text[: sentence_ends(text)[3]].endswith("“好。”")


def test_paragraphs_end_before_their_line_break() -> None:
    text = "\n one \n\n two\nthree \n"
    assert [text[:end].strip() for end in paragraph_ends(text)] == ["one", "one \n\n two", text.strip()]


def test_paragraphs_go_before_sentences_and_context_before_answer() -> None:
    exchange = Exchange("q", "A. B.\nC.", "D. E.\nF.")

    def cut_to(limit: int) -> tuple[str, str, tuple[str, ...]] | None:
        fitted = fit([exchange], lambda candidate: size(candidate) <= limit, None, close=True)
        return fitted and (fitted.exchanges[0].context, fitted.exchanges[0].answer, fitted.rules)

    assert cut_to(19) == ("A. B.\nC.", "D. E.\nF.", ())
    assert cut_to(18) == ("A. B.", "D. E.\nF.", ("context-paragraphs-cut",))
    assert cut_to(14) == ("A.", "D. E.\nF.", ("context-sentences-cut",))
    assert cut_to(12) == ("A.", "D. E.", ("context-sentences-cut", "answer-paragraphs-cut"))
    assert cut_to(7) == ("A.", "D.", ("context-sentences-cut", "answer-sentences-cut"))
    assert cut_to(6) is None


def test_an_answer_written_from_gold_follows_the_context() -> None:
    exchange = Exchange("q", "one\ntwo\nthree", "one, two, three")

    def answer_for(context: str) -> str:
        return ", ".join(context.split("\n"))

    fitted = fit([exchange], lambda candidate: size(candidate) <= 20, answer_for, close=False)
    assert fitted is not None
    assert (fitted.exchanges[0].context, fitted.exchanges[0].answer) == ("one\ntwo", "one, two")
    assert fitted.exchanges[0].closed
    assert fit([exchange], lambda candidate: size(candidate) <= 5, answer_for, close=False) is None
