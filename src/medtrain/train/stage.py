"""A training stage's config, and what a run's artifact is made from."""

import functools
import hashlib
import threading
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from medtrain import artifacts, plugins
from medtrain.artifacts import Artifact, Identity
from medtrain.config import fingerprint, identity
from medtrain.errors import ConfigError
from medtrain.storage import Store
from medtrain.tokens.tokenizer import FOLDER, vocabulary
from medtrain.train.recipe import fill
from medtrain.train.settings import TrainConfig

ASIDE = ("command", "estimate", "exhausted", "footprint", "propose", "show")
"""Files of the room that only say or estimate something: a run is not made anew for their sake."""
_READING = threading.Lock()


class StageConfig(TrainConfig):
    """One stage of a two-stage fine-tune."""

    stage: Literal[1, 2]
    """1: comprehension, 2: comprehension and generation."""
    recipe: str | None = None
    """A paper's settings as defaults: bioqwen."""
    mode: Literal["paper", "released"] = "paper"
    """Where paper and released code differ, which to follow."""

    @property
    def kind(self) -> str:
        """The kind of artifact that the stage leaves."""
        return f"stage{self.stage}"

    @model_validator(mode="before")
    @classmethod
    def _recipe_under_given(cls, given: Any) -> Any:
        return fill(given, given["stage"]) if isinstance(given, dict) and given.get("stage") in (1, 2) else given


def base_reference(root: Store, config: TrainConfig, tokens: Artifact) -> str:
    """The model reference that the stage's adapter sits on.

    Merged weights are an artifact named after the stage they come from; an adapter that is gone on with keeps its base.

    Raises:
        ConfigError: the config names another base than the stage that it goes on from has.
    """
    begun = _begun(config)
    if begun is None:
        return config.model.base or str(tokens.facts["base"])
    base = str(_stage(root, begun).facts["base"])
    if config.model.base not in (None, base):
        raise ConfigError(f"model.base={config.model.base}: {begun} is over {base}; leave it out, or begin elsewhere")
    return f"artifact:merged/{begun.replace('/', '-')}" if config.merge_from else base


def check_tokens(root: Store, config: TrainConfig, tokens: Artifact) -> None:
    """See that the tokenizer of what a stage begins from gives the ids that its tokens have.

    Raises:
        ConfigError: it gives others: to the model every row would be another text.
    """
    begun, base = _begun(config), config.model.base
    if begun is None and base in (None, tokens.facts["base"]):
        return
    path = stage_adapter(root, begun) if begun is not None else artifacts.model_path(root, str(base))
    named = (
        f"{'merge_from' if config.merge_from else 'init_from'}={begun}" if begun is not None else f"model.base={base}"
    )
    ours, theirs = vocabulary(str(tokens.store.local(FOLDER))), vocabulary(path)
    if ours is None or theirs is None:
        print(f"{named}: no tokenizer.json there that tokens/{tokens.name} could be compared with", flush=True)
    elif not ours.items() <= theirs.items():
        raise ConfigError(
            f"{named}: its tokenizer gives other ids than tokens/{tokens.name}, made for {tokens.facts['base']}; build "
            "tokens for it, or take what they were made for"
        )


def identity_of(root: Store, config: TrainConfig, tokens: Artifact) -> Identity:
    """What the stage is made from: config, tokens, base or earlier stage, and the training code.

    Raises:
        MissingArtifact: an input does not exist; the message names the job that makes it.
    """
    inputs = {f"tokens/{tokens.name}": tokens.fingerprint}
    if (begun := _begun(config)) is not None:
        inputs[begun] = _stage(root, begun).fingerprint
    if not config.merge_from:
        inputs["base"] = _base_fingerprint(root, base_reference(root, config, tokens))
    kind = plugins.source_of("train", "adapters", config.adapter["kind"])
    return Identity(identity(config), inputs, artifacts.code_hash([*code(), kind]))


def code() -> list[Path]:
    """The files that a run's weights depend on, beside its adapter's own."""
    files = artifacts.room_code("train", "train/lanes", "tokens/shards.py")
    return [path for path in files if path.stem not in ASIDE]


def _begun(config: TrainConfig) -> str | None:
    """The stage that a stage goes on from, None where it begins with a base or an adapter's folder."""
    begun = config.merge_from or config.init_from
    return begun if begun and not begun.startswith("/") else None


def _stage(root: Store, run: str) -> Artifact:
    kind, _, name = run.partition("/")
    if kind not in ("stage1", "stage2") or not name:
        raise ConfigError(f"stage {run!r}: write stage1/<name> or stage2/<name>")
    return artifacts.locate(root, kind, name)


def stage_adapter(root: Store, run: str) -> str:
    """The adapter folder of a finished stage, or the folder itself where a path is given."""
    return run if run.startswith("/") else str(_stage(root, run).store.local("adapter"))


def _base_fingerprint(root: Store, reference: str) -> str:
    """An artifact's fingerprint, else one of a local model's files, wherever they lie, else of the hub id."""
    if reference.startswith("artifact:"):
        kind, _, name = reference.removeprefix("artifact:").partition("/")
        return artifacts.locate(root, kind, name).fingerprint

    folder = Path(artifacts.model_path(root, reference))
    if not folder.is_dir():
        return fingerprint([reference])
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return fingerprint([[path.name, _digest(path)] for path in files])


def _digest(path: Path) -> str:
    """SHA-256 of a file, read once in a process as long as it has the same size and time."""
    known = path.stat()
    with _READING:
        return _digest_of(path, known.st_size, known.st_mtime_ns)


@functools.cache
def _digest_of(path: Path, size_bytes: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
