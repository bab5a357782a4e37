"""What every wording must do, the package's and the user's: ask in both languages, write its gold, read anything."""

from string import Formatter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtrain import plugins
from medtrain.records import Language, Record
from medtrain.tokens import words
from medtrain.tokens.wording._lines import normal

NAMES = sorted(plugins.files("tokens", "wording"))
LANGUAGES = ("en", "zh")
PIECES = st.lists(
    st.sampled_from(list('[]:：;；,，" \n\\{}ab药') + ["; ", ", ", "]; [", '"a"', "None", "Type: "]), max_size=30
)


def fields(phrasing: str) -> list[str]:
    """The `{…}` of a phrasing, in order."""
    return [field for _, field, _, _ in Formatter().parse(phrasing) if field is not None]


@pytest.mark.parametrize("name", NAMES)
def test_it_asks_in_both_languages_or_in_none(name: str) -> None:
    """Each phrasing names all that is asked for, once; several need no query, and where some hold one, several do."""
    wording = plugins.load("tokens", "wording", name)
    assert set(wording.INSTRUCTIONS) >= set(LANGUAGES)
    counts = {len(wording.INSTRUCTIONS[language]) for language in LANGUAGES}
    assert counts == {0} or min(counts) > 1
    names = wording.asked(wording.EXAMPLE)
    assert all(name.strip() for name in names)
    for language in LANGUAGES:
        phrasings = wording.INSTRUCTIONS[language]
        for phrasing in phrasings:
            held = fields(phrasing)
            assert set(held) <= {"query", "types", "lines"} and len(set(held)) == len(held)
            assert len({"types", "lines"} & set(held)) == bool(names)
        wraps = sum("query" in fields(phrasing) for phrasing in phrasings)
        assert wraps != 1 and (len(phrasings) - wraps > 1 or not phrasings)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", NAMES)
def test_a_question_holds_the_query_and_all_that_is_asked_for(name: str, language: Language) -> None:
    """Braces in a query are text. A wording that wraps no query leaves it as it is."""
    wording = plugins.load("tokens", "wording", name)
    names = [normal(asked) for asked in wording.asked(wording.EXAMPLE)]
    wraps = any("query" in fields(phrasing) for phrasing in wording.INSTRUCTIONS[language])
    for number in range(40):
        record = Record(f"s:{number}", "s", "s", name, "C", language, "train", (), gold=wording.EXAMPLE)
        alone, asked = words.question(record, " ", 1), words.question(record, " Why {types}} {0}? ", 1)
        assert alone.strip() or not wording.INSTRUCTIONS[language]
        assert "{" not in alone and all(part in alone for part in names if alone.strip())
        assert "Why {types}} {0}?" in asked
        assert all(part in asked for part in names) if wraps else asked == " Why {types}} {0}? "


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", NAMES)
def test_it_reads_what_it_writes(name: str, language: str) -> None:
    wording = plugins.load("tokens", "wording", name)
    text = wording.render(wording.EXAMPLE, language)
    assert text.strip() == text != ""
    assert wording.render({**wording.EXAMPLE, **wording.parse(text, language)}, language) == text


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", NAMES)
def test_an_empty_context_leaves_an_answer_in_words(name: str, language: str) -> None:
    wording = plugins.load("tokens", "wording", name)
    rest = wording.restrict(wording.EXAMPLE, "")
    text = wording.render(rest, language)
    assert text.strip()
    assert wording.render({**rest, **wording.parse(text, language)}, language) == text


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(text=st.one_of(st.text(max_size=60), PIECES.map("".join)))
def test_it_reads_any_text_without_an_error(name: str, text: str) -> None:
    wording = plugins.load("tokens", "wording", name)
    for language in LANGUAGES:
        assert set(wording.parse(text, language)) <= set(wording.EXAMPLE)
