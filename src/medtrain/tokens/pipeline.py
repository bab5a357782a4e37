"""A data artifact becomes a token artifact: one Ray task for each data shard, resumed from the whole ones."""

import functools
from typing import Any

import ray

from medtrain import artifacts, config, plugins
from medtrain.artifacts import Artifact, Build, Identity, Policy
from medtrain.errors import ConfigError, DataError
from medtrain.storage import Store
from medtrain.tokens import convert, template, tokenizer
from medtrain.tokens.config import TokensConfig
from medtrain.tokens.convert import Counts
from medtrain.tokens.recipe import rules
from medtrain.tokens.render import Renderer
from medtrain.tokens.words import KIND, ROOM
from medtrain.tracking import Progress

__all__ = ["TokensConfig", "build"]


def build(root: Store, settings: TokensConfig, reference: str, policy: Policy) -> Artifact:
    """Make tokens/<name> from data/<data> for the base that `reference` names, or open it if it is there.

    Raises:
        MissingArtifact: there are no such data, or no such base.
        ConfigError: the base's tokenizer does not suit, or the tokens are there, made over another base.
        DataError: no record of the data gives a sample.
    """
    data = artifacts.locate(root, "data", settings.data)
    base = artifacts.model_path(root, reference)
    loaded = tokenizer.open_base(base, settings.pad_token, rules(settings).pad)
    inputs = {f"data/{settings.data}": data.fingerprint, "tokenizer": tokenizer.identity(loaded)}
    made = artifacts.begin(root, "tokens", settings.name, Identity(config.identity(settings), inputs, _code()), policy)
    if isinstance(made, Artifact):
        _check_base(made, reference)
        return made
    for note in made.notes:
        print(note, flush=True)
    tokenizer.save(loaded, made.store)
    counts = _convert_all(data.store, made, settings)
    if counts.rows == 0:
        raise DataError(
            f"tokens/{settings.name}: none of the records of data/{settings.data} gives a sample "
            f"(categories: {settings.categories or 'all'}; ledger: {counts.ledger}); choose other categories or data"
        )
    return made.finish(_facts(settings, reference, counts, loaded))


def _check_base(made: Artifact, reference: str) -> None:
    """Tokens do not change with the base where its tokenizer stays, but what is trained on them does."""
    if made.facts["base"] != reference:
        raise ConfigError(
            f"base={reference}: tokens/{made.name} are there, made over {made.facts['base']}, and so is what was "
            "trained on them; give these another name (experts: their plan), name that base, or delete "
            f"{made.store.root}, which is made anew then"
        )


def _code() -> str:
    """The code that decides what comes out, plug-ins included."""
    own = [plugins.source_of(ROOM, KIND, name) for name in plugins.files(ROOM, KIND)]
    return artifacts.code_hash([*artifacts.room_code("records.py", "tokens", "tokens/wording/_lines.py"), *own])


def _convert_all(data: Store, made: Build, settings: TokensConfig) -> Counts:
    """Convert every shard that is not whole yet; the sum of the counts does not depend on which those were."""
    paths = convert.data_shards(data)
    done = {index: counts for index in range(len(paths)) if (counts := convert.whole(made.store, index)) is not None}
    task = ray.remote(num_cpus=1, max_retries=3)(_convert_one)
    content = settings.model_dump(mode="json")
    pending = {
        task.remote(data.root, path, made.store.root, index, content): index
        for index, path in enumerate(paths)
        if index not in done
    }
    progress = Progress(f"tokens/{made.name}", len(paths), done=len(done), unit="shard")
    while pending:
        ready, _ = ray.wait(list(pending), num_returns=1)
        done[pending.pop(ready[0])] = ray.get(ready[0])
        progress.advance()
    total = Counts()
    for index in sorted(done):
        total.add(done[index])
    return total


def _convert_one(data_root: str, path: str, out_root: str, index: int, content: dict[str, Any]) -> Counts:
    """A worker's part; a worker that converts several shards opens the tokenizer once."""
    settings = config.parse(TokensConfig, content)
    return convert.convert(Store(data_root), path, Store(out_root), index, _renderer(out_root, settings))


@functools.lru_cache(maxsize=4)
def _renderer(out_root: str, settings: TokensConfig) -> Renderer:
    return Renderer(tokenizer.load(Store(out_root)), settings)


def _facts(settings: TokensConfig, reference: str, counts: Counts, loaded: Any) -> dict[str, Any]:
    """What the manifest says: counts, and all that a reader of the shards must know of base and template."""
    vocabulary = loaded.get_vocab()
    chosen = rules(settings)
    by_action: dict[str, dict[str, int]] = {"dropped": {}, "changed": {}}
    for key, number in sorted(counts.ledger.items()):
        by_action[key.rpartition("/")[2]][key] = number
    return {
        "rows": counts.rows,
        "tokens": counts.tokens,
        "trained_tokens": counts.trained_tokens,
        "by_source": {
            source: {
                split: dict(zip(("rows", "tokens", "trained_tokens"), numbers, strict=True))
                for split, numbers in sorted(splits.items())
            }
            for source, splits in sorted(counts.by_source.items())
        },
        **by_action,
        "base": reference,
        "data": settings.data,
        "context_tokens": settings.context_tokens,
        "template": {
            "recipe": f"{settings.recipe}/{settings.mode}",
            "stage": settings.stage,
            "join": chosen.join,
            "cut": chosen.cut,
            "close_cut_answers": settings.close_cut_answers or chosen.cut == "script",
        },
        "stop_tokens": {token: vocabulary[token] for token in template.STOP},
        "pad_token": {
            "text": loaded.pad_token,
            "id": loaded.pad_token_id,
            "is_stop": loaded.pad_token in template.STOP,
        },
    }
