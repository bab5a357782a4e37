"""Multiple choice: keys and texts in the answer, and keys read from answers as models write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtrain.tokens.wording import options

TEXT = st.lists(st.sampled_from([*"ABC abc1;,:.()[]是药选\n", "answer: "]), max_size=12).map("".join)
GOLD = {"options": {"B": "two\r\n lines", "A": "one; {x}", "C": "E. coli"}, "answer": "B"}


def test_options_stand_by_key_in_one_line_each() -> None:
    assert options.asked(GOLD) == ["A. one; {x}", "B. two\r\n lines", "C. E. coli"]
    assert options.render(GOLD, "en") == "B. two lines"
    assert options.render({**GOLD, "answer": "AC"}, "zh") == "A. one; {x}\nC. E. coli"


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("B", "B"),
        ("B.", "B"),
        ("(B)", "B"),
        ("Ｂ．甲", "B"),
        ("B、甲", "B"),
        ("B 甲", "B"),
        ("B. text", "B"),
        ("Answer: B", "B"),
        ("答案：B", "B"),
        ("The correct answer is (B).", "B"),
        ("The best choice is option B, because A is rare.", "B"),
        ("**Answer: B. text**", "B"),
        ("正确的选项是B。", "B"),
        ("故选B", "B"),
        ("B. text\nIt is the usual cause.", "B"),
        ("A. is rare\nB. is not\nAnswer: B", "B"),
        ("CA", "AC"),
        ("A, C and D", "ACD"),
        ("A、C", "AC"),
        ("答案是A、C。", "AC"),
        ("A. one\nC. three", "AC"),
        ("A patient with B cells", ""),
        ("B超检查", ""),
        ("The answer is Benign.", ""),
        ("vitamin C", ""),
        ("", ""),
    ],
)
def test_keys_are_read_from_answers_of_models(text: str, keys: str) -> None:
    assert options.parse(text, "en") == {"answer": keys}


@given(st.dictionaries(st.sampled_from("ABCDE"), TEXT, min_size=1), st.data(), st.sampled_from(["en", "zh"]))
def test_what_is_written_is_read(texts: dict[str, str], data: st.DataObject, language: str) -> None:
    keys = "".join(sorted(data.draw(st.sets(st.sampled_from(sorted(texts)), min_size=1))))
    answer = options.render({"options": texts, "answer": keys}, language)
    assert options.parse(answer, language) == {"answer": keys}
