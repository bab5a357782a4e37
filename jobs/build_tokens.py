#!/usr/bin/env python
"""Records become token shards: one artifact for each of the sets in the config."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from collections.abc import Sequence

from medtrain import artifacts, job, runtime
from medtrain.config import Config
from medtrain.errors import ConfigError, MissingArtifact
from medtrain.runtime import RuntimeConfig
from medtrain.storage import StorageConfig, Store
from medtrain.tokens import pipeline, tokenizer
from medtrain.tokens.config import BaseConfig, TokensConfig


class Job(Config):
    """What to make, and where."""

    storage: StorageConfig = StorageConfig()
    """Where artifacts lie."""
    runtime: RuntimeConfig = RuntimeConfig()
    """How the job meets its cluster."""
    sets: list[TokensConfig]
    """The token artifacts to make, in order."""


def base_is_demo(base: BaseConfig) -> bool:
    """Whether the demo base is taken: asked for, or as the fallback of a folder that is absent."""
    if base.path == "demo":
        return True
    absent = tokenizer.is_local_path(base.path) and not Path(base.path).expanduser().is_dir()
    if absent and base.fallback is None:
        raise ConfigError(f"base.path={base.path}: no such folder; name one that exists, or set base.fallback=demo")
    return absent


def reference(root: Store, config: TokensConfig) -> str:
    """The model reference of a set's base; the demo base is made first if need be."""
    if base_is_demo(config.base):
        from medtrain.demo import base

        if config.base.path != "demo":
            print(f"base.path={config.base.path}: no such folder; base.fallback: the demo base stands in", flush=True)
        return base.ensure(root, config.data)
    path = Path(config.base.path).expanduser()
    return str(path.resolve()) if tokenizer.is_local_path(config.base.path) else config.base.path


def plan(root: Store, config: TokensConfig) -> str:
    """One line on what would be made from what."""
    base = f"demo base of data/{config.data}" if base_is_demo(config.base) else config.base.path
    try:
        rows = f"{artifacts.locate(root, 'data', config.data).facts['rows']} rows"
    except MissingArtifact as error:
        rows = str(error)
    return f"tokens/{config.name} <- data/{config.data} ({rows}), base: {base}, {config.context_tokens} tokens a sample"


def main(argv: Sequence[str] | None = None) -> None:
    """Make every set that is not there yet."""
    call = job.parse(Job, Path(__file__), __doc__ or "", argv)
    root = Store(call.config.storage.root)
    if call.dry_run:
        print(job.show(call.config), *(plan(root, config) for config in call.config.sets), sep="\n")
        return
    runtime.connect()
    runtime.check_cluster(root)
    for config in call.config.sets:
        made = pipeline.build(root, config, reference(root, config), call.policy)
        facts = made.facts
        counts = f"{facts['rows']} samples, {facts['tokens']} tokens, {facts['trained_tokens']} of them trained"
        print(f"tokens/{made.name}: {counts}; base {facts['base']}; fingerprint {made.fingerprint}", flush=True)


if __name__ == "__main__":
    job.run(main)
