"""A training stage's config, and what a run's artifact is made from."""

from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from medtrain import artifacts, plugins
from medtrain.artifacts import Artifact, Identity
from medtrain.config import fingerprint, identity
from medtrain.errors import ConfigError
from medtrain.storage import Store
from medtrain.train.recipe import fill
from medtrain.train.settings import TrainConfig

ASIDE = ("command", "estimate", "exhausted", "footprint", "propose", "show")
"""Files of the room that only say or estimate something: a run is not made anew for their sake."""


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
    """
    if config.merge_from:
        return f"artifact:merged/{config.merge_from.replace('/', '-')}"
    if config.init_from and not config.init_from.startswith("/"):
        return str(_stage(root, config.init_from).facts["base"])
    return config.model.base or str(tokens.facts["base"])


def identity_of(root: Store, config: TrainConfig, tokens: Artifact) -> Identity:
    """What the stage is made from: config, tokens, base or earlier stage, and the training code.

    Raises:
        MissingArtifact: an input does not exist; the message names the job that makes it.
    """
    inputs = {f"tokens/{tokens.name}": tokens.fingerprint}
    for start in (config.merge_from, config.init_from):
        if start and not start.startswith("/"):
            inputs[start] = _stage(root, start).fingerprint
    if not config.merge_from:
        inputs["base"] = _base_fingerprint(root, base_reference(root, config, tokens))
    kind = plugins.source_of("train", "adapters", config.adapter["kind"])
    return Identity(identity(config), inputs, artifacts.code_hash([*code(), kind]))


def code() -> list[Path]:
    """The files that a run's weights depend on, beside its adapter's own."""
    files = artifacts.room_code("train", "train/lanes", "tokens/shards.py")
    return [path for path in files if path.stem not in ASIDE]


def _stage(root: Store, run: str) -> Artifact:
    kind, _, name = run.partition("/")
    if kind not in ("stage1", "stage2") or not name:
        raise ConfigError(f"stage {run!r}: write stage1/<name> or stage2/<name>")
    return artifacts.locate(root, kind, name)


def stage_adapter(root: Store, run: str) -> str:
    """The adapter folder of a finished stage, or the folder itself where a path is given."""
    return run if run.startswith("/") else str(_stage(root, run).store.local("adapter"))


def _base_fingerprint(root: Store, reference: str) -> str:
    """An artifact's fingerprint, else one of a local model's sizes, else of the hub id."""
    if reference.startswith("artifact:"):
        kind, _, name = reference.removeprefix("artifact:").partition("/")
        return artifacts.locate(root, kind, name).fingerprint

    folder = Path(artifacts.model_path(root, reference))
    files = sorted(folder.glob("*")) if folder.is_dir() else []
    return fingerprint([reference.rsplit("/", 1)[-1], *([path.name, path.stat().st_size] for path in files)])
