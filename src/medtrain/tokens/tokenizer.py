"""Tokenizers: opening one, seeing that it suits ChatML, choosing its padding token, keeping it with the shards."""

import functools
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medtrain.config import fingerprint
from medtrain.errors import ConfigError
from medtrain.storage import Store
from medtrain.tokens.template import CONTROL, STOP

FOLDER = "tokenizer"
OWN_PAD = "<|padoftext|>"
"""The padding token that the released scripts add; it takes a spare row of the embedding."""


def is_local_path(path: str) -> bool:
    """Whether a base is named by a path: no hub id, `name` or `owner/name`, and no `artifact:<kind>/<name>`."""
    if path.startswith("artifact:"):
        return False
    return Path(path).exists() or path.startswith((".", "/", "~")) or re.fullmatch(r"[\w.-]+(/[\w.-]+)?", path) is None


def open_base(path: str, pad_token: str | None, pad_rule: str) -> Any:
    """The tokenizer of a base, checked, with its padding token set.

    Raises:
        ConfigError: there is none, it lacks a ChatML token or the padding token, or it joins text over a line break.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"base.path={path}: no tokenizer opens there ({error}); give a model folder or a hub id"
        ) from None
    check(tokenizer, path)
    set_padding(tokenizer, path, pad_token, pad_rule)
    return tokenizer


def check(tokenizer: Any, path: str) -> None:
    """See that a tokenizer is fast, has ChatML's tokens, and does not join a header's line break with an answer."""
    if not getattr(tokenizer, "is_fast", False):
        raise ConfigError(f"base.path={path}: its tokenizer has no tokenizer.json; take a base with a fast tokenizer")
    known = tokenizer.get_vocab()
    absent = [token for token in CONTROL if token not in known]
    if absent:
        raise ConfigError(
            f"base.path={path}: its tokenizer lacks {', '.join(absent)}, which ChatML needs; take a base that has them "
            "(Qwen2 and its kin do)"
        )
    encode = encoder(tokenizer)
    for answer in ("Answer", "答", "1", "- a", "(a)"):
        if encode("assistant\n" + answer) != encode("assistant\n") + encode(answer):
            raise ConfigError(
                f"base.path={path}: its tokenizer joins text over the line break before an answer ({answer!r}), so "
                "that a prompt would not be a beginning of its sample; take a base with a byte-level tokenizer"
            )


def set_padding(tokenizer: Any, path: str, pad_token: str | None, rule: str) -> None:
    """Set the padding token by its text, never by a number.

    Asked for by name it must exist. Rule `tokenizer` takes the tokenizer's. Rule `own` takes it too unless it is a stop
    token; then `<|padoftext|>`, added where the embedding has a spare row; only where it has none, the stop token.
    Padding carries no loss in any case: masks go by place.
    """
    known, candidates = tokenizer.get_vocab(), ", ".join(sorted(tokenizer.all_special_tokens))
    if pad_token is not None and pad_token not in known:
        raise ConfigError(f"pad_token={pad_token!r}: not in the tokenizer of {path}; it has: {candidates}")
    chosen = pad_token or tokenizer.pad_token
    wants_own = pad_token is None and rule == "own" and (chosen is None or chosen in STOP)
    if wants_own and (OWN_PAD in known or len(tokenizer) < _embedding_rows(path)):
        chosen = OWN_PAD
    if chosen is None:
        raise ConfigError(f"pad_token: the tokenizer of {path} has none; name one of: {candidates}")
    tokenizer.add_special_tokens({"pad_token": chosen})


def _embedding_rows(path: str) -> int:
    """Rows of the base's embedding, 0 where it has no config."""
    from transformers import AutoConfig

    try:
        return int(AutoConfig.from_pretrained(path, trust_remote_code=False).vocab_size)
    except (OSError, ValueError, AttributeError):
        return 0


def encoder(tokenizer: Any) -> Callable[[str], tuple[int, ...]]:
    """Text to ids, with the texts of control tokens read as plain text; works on a copy, so nobody's state changes."""
    own = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
    own.encode_special_tokens = True
    own.no_truncation()
    own.no_padding()

    @functools.lru_cache(maxsize=256)
    def encode(text: str) -> tuple[int, ...]:
        return tuple(own.encode(text, add_special_tokens=False).ids)

    return encode


def vocabulary(path: str) -> dict[str, int] | None:
    """Every token's id, but for the padding token that we add; None where there is no `tokenizer.json`.

    Args:
        path: a folder or a hub id.
    """
    from tokenizers import Tokenizer

    try:
        core = Tokenizer.from_file(f"{path}/tokenizer.json") if is_local_path(path) else Tokenizer.from_pretrained(path)
    except Exception:  # the library has no class of its own for it
        return None
    return {token: number for token, number in core.get_vocab().items() if token != OWN_PAD}


def identity(tokenizer: Any) -> str:
    """A fingerprint of what a tokenizer does, wherever it came from."""
    return fingerprint([tokenizer.backend_tokenizer.to_str(), tokenizer.pad_token])


def save(tokenizer: Any, store: Store) -> None:
    """Write a tokenizer's files into an artifact."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        for file in sorted(Path(folder).iterdir()):
            store.write(f"{FOLDER}/{file.name}", file.read_bytes())


def load(store: Store) -> Any:
    """The tokenizer of an artifact."""
    from transformers import AutoTokenizer

    if store.is_local:
        return AutoTokenizer.from_pretrained(str(store.local(FOLDER)), trust_remote_code=False)
    with tempfile.TemporaryDirectory() as folder:
        for path in store.files(FOLDER):
            (Path(folder) / Path(path).name).write_bytes(store.read(path))
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
