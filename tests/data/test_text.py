"""Bytes to text: damage is mended by rule and counted."""

from medtrain.data.text import decode, mend


def test_whole_text_is_left_alone() -> None:
    text = "患者 α\u2028\ufffd 🙂\r"
    assert decode(text.encode(), "here:1") == (text, [])


def test_damage_is_mended_and_counted() -> None:
    text, problems = decode(b"\xef\xbb\xbfa\0b\0\xff\xe6\x82z\xef\xbf\xbd", "here:1")
    assert text == "a b \ufffd\ufffdz\ufffd"
    assert [(p.position, p.rule, p.detail, p.action) for p in problems] == [
        ("here:1", "byte_order_mark", "taken off", "changed"),
        ("here:1", "nul_bytes", "2 replaced by blanks", "changed"),
        ("here:1", "bad_bytes", "2 replaced by U+FFFD", "changed"),
    ]


def test_values_that_cannot_be_written_are_mended_in_depth() -> None:
    value = {"a\ud800": ["\udcff", {"b": "x\0\U0001f642"}], "n": 1, "none": None}
    assert mend(value) == {"a\ufffd": ["\ufffd", {"b": "x \U0001f642"}], "n": 1, "none": None}
