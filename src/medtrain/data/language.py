"""Which of the two languages a text is in: the rule of BioQwen's released scripts."""

import re
from typing import Literal

from medtrain.records import Language

LanguageChoice = Literal["auto", "en", "zh"]
_CHINESE = re.compile(r"[\u4e00-\u9fff]")
_LATIN = re.compile(r"[a-z]")


def detect(text: str) -> Language:
    """Chinese if it has more characters of U+4E00..9FFF than letters a-z (case folded), else English."""
    return "zh" if len(_CHINESE.findall(text)) > len(_LATIN.findall(text.casefold())) else "en"


def choose(choice: LanguageChoice, query: str, context: str) -> Language:
    """The language that a config fixes, or else that of the instruction; of the context where there is none."""
    return detect(query or context) if choice == "auto" else choice
