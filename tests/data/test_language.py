"""The language rule, at its borders."""

import pytest

from medtrain.data.language import choose, detect


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("", "en"),
        ("发热", "zh"),
        ("热a", "en"),
        ("热热a", "zh"),
        ("热AB", "en"),
        ("热，。１２３é", "zh"),
        ("123", "en"),
        ("\u4dff\ua000", "en"),
        ("\u4e00\u9fff", "zh"),
    ],
)
def test_more_chinese_characters_than_letters(text: str, language: str) -> None:
    assert detect(text) == language


def test_the_query_decides_before_the_context() -> None:
    assert choose("auto", "Translate.", "发热发热发热") == "en"
    assert choose("auto", "", "发热") == "zh"
    assert choose("zh", "Translate.", "") == "zh"
