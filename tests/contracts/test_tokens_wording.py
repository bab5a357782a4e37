"""What every wording must do, the package's and the user's: ask in both languages, write its gold, read anything."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtrain import plugins
from medtrain.tokens.wording._lines import enumerate_names

NAMES = sorted(plugins.files("tokens", "wording"))
LANGUAGES = ("en", "zh")
PIECES = st.lists(
    st.sampled_from(list('[]:：;；,，" \n\\{}ab药') + ["; ", ", ", "]; [", '"a"', "None", "Type: "]), max_size=30
)


@pytest.mark.parametrize("name", NAMES)
def test_it_asks_in_both_languages_or_in_none(name: str) -> None:
    wording = plugins.load("tokens", "wording", name)
    assert set(wording.INSTRUCTIONS) >= set(LANGUAGES)
    counts = {len(wording.INSTRUCTIONS[language]) for language in LANGUAGES}
    assert counts == {0} or min(counts) > 1
    for language in LANGUAGES:
        named = enumerate_names(wording.asked(wording.EXAMPLE), language)
        for phrasing in wording.INSTRUCTIONS[language]:
            assert named and named in phrasing.format(types=named)


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
