"""The settings of one token artifact."""

from typing import Literal

from pydantic import Field

from medtrain.config import Config, knob


class BaseConfig(Config):
    """Which base model the tokens are for. Not identity: the fingerprint of its tokenizer is."""

    path: str = knob("demo")
    """A local folder (relative to the current one), a Hugging Face id, `artifact:<kind>/<name>` for one in the storage
    root, or `demo`: the base made on the spot."""
    fallback: Literal["demo"] | None = knob(None)
    """What to take when `path` is a local folder that does not exist; null makes that an error."""


class TokensConfig(Config):
    """One set of token shards: which records, by which recipe, for which base."""

    name: str = Field(pattern=r"^[\w.-]+$")
    """The artifact's name: tokens/<name>."""
    data: str
    """The data artifact whose records are taken."""
    base: BaseConfig = BaseConfig()
    """The model whose tokenizer is used."""
    recipe: Literal["bioqwen"] = "bioqwen"
    """Where the settings come from that are left null here."""
    mode: Literal["paper", "released"] = "paper"
    """Which side to take where the recipe's paper and its released code differ."""
    stage: Literal[1, 2] = 2
    """The training stage; the released code joins instruction and input by stage."""
    context_tokens: int = Field(1024, ge=32)
    """The longest sample, end tokens included, in tokens."""
    categories: tuple[str, ...] | None = None
    """Only records of these categories (NER, RE, TC, MT, QA, GENERAL, SELF); null takes all."""
    join: str | None = None
    """What stands between a user's query and context; null takes the recipe's."""
    close_cut_answers: bool = False
    """Whether an answer that was cut still gets its end tokens, which teaches the model to stop in mid-thought."""
    pad_token: str | None = None
    """The padding token, by its text; null takes the recipe's rule. It must be in the tokenizer."""
    seed: int = 42
    """Chooses each record's phrasing, together with its id."""
