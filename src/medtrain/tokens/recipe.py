"""What the published recipe says about text and tokens: a pure mapping from (recipe, mode, stage) to rules."""

from dataclasses import dataclass
from typing import Literal

from medtrain.tokens.config import TokensConfig

SYSTEM_PROMPTS = {
    "en": "You are BIO-QWEN, an advanced AI specializing in the field of biology.",
    "zh": "你是千问生物智能助手，一个专注于生物领域的先进人工智能。",
}
"""The system prompts of the training scripts, verbatim (the released demo uses others)."""


@dataclass(frozen=True)
class Rules:
    """How text is put together and cut."""

    join: str
    """Between query and context."""
    join_empty: bool
    """Whether the join is written even where one side is empty."""
    language_from: Literal["record", "instruction"]
    """Whose language picks the system prompt."""
    cut: Literal["paragraphs", "script"]
    """By whole paragraphs, then sentences; or as the released scripts do, characters included."""
    pad: Literal["own", "tokenizer"]
    """A padding token that nothing is trained on; or whatever the tokenizer has."""


def rules(config: TokensConfig) -> Rules:
    """The rules of a config: the recipe's, with the settings that the config gives itself.

    paper: the paper names no join, so a line break stands between query and context (our decision).
    released: `script_stage1.py` joins with a blank, `script_stage2.py` with nothing, empty inputs too.
    """
    if config.mode == "paper":
        join = "\n" if config.join is None else config.join
        return Rules(join, join_empty=False, language_from="record", cut="paragraphs", pad="own")
    by_stage = " " if config.stage == 1 else ""
    join = by_stage if config.join is None else config.join
    return Rules(join, join_empty=True, language_from="instruction", cut="script", pad="tokenizer")


def language_of(text: str) -> str:
    """The scripts' rule: zh if there are more of U+4E00..U+9FFF than of a-z (case-folded), else en; a tie is en."""
    chinese = sum("\u4e00" <= char <= "\u9fff" for char in text)
    english = sum("a" <= char.lower() <= "z" for char in text)
    return "zh" if chinese > english else "en"
