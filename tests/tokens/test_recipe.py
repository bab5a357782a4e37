"""The recipe's rules are a pure function of the config."""

import pytest

from medtrain.tokens.config import TokensConfig
from medtrain.tokens.recipe import language_of, rules


def config(**fields: object) -> TokensConfig:
    return TokensConfig.model_validate({"name": "t", "data": "d", **fields})


@pytest.mark.parametrize(
    ("fields", "join", "cut", "pad"),
    [
        ({"mode": "paper", "stage": 1}, "\n", "paragraphs", "own"),
        ({"mode": "paper", "stage": 2}, "\n", "paragraphs", "own"),
        ({"mode": "released", "stage": 1}, " ", "script", "tokenizer"),
        ({"mode": "released", "stage": 2}, "", "script", "tokenizer"),
        ({"mode": "released", "stage": 2, "join": "|"}, "|", "script", "tokenizer"),
    ],
)
def test_rules(fields: dict[str, object], join: str, cut: str, pad: str) -> None:
    chosen = rules(config(**fields))
    assert (chosen.join, chosen.cut, chosen.pad) == (join, cut, pad)


@pytest.mark.parametrize(
    ("text", "language"), [("病a", "en"), ("病病a", "zh"), ("", "en"), ("Äé病", "zh"), ("K病", "en")]
)
def test_language_of_an_instruction(text: str, language: str) -> None:
    assert language_of(text) == language
