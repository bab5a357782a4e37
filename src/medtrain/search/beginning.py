"""How a study begins: what it is of, written down and compared each time, and the trials of earlier studies."""

import json
from collections.abc import Iterator
from typing import Any

from medtrain import artifacts
from medtrain.artifacts import Policy
from medtrain.config import identity
from medtrain.errors import ConfigError, IdentityMismatch, MissingArtifact
from medtrain.search import trials
from medtrain.search.settings import StudySettings
from medtrain.search.space import Space, assignments
from medtrain.search.told import Told, read
from medtrain.storage import Store

KIND, FILE = "studies", "study.json"
COMPARED = ("metric", "mode")
"""What values must have in common to teach a search anything."""
SAME = ("trial", "base")
"""What they must have in common, with the inputs, to be compared with each other."""


def folder(root: Store, name: str) -> Store:
    """A study's folder."""
    return root.sub(f"{KIND}/{name}")


def begin(root: Store, settings: StudySettings, policy: Policy) -> Store:
    """The study's folder, of which it is certain that it is this study's.

    Values of other code are gone on with only where somebody says so (`--keep-stale`), and never deleted unasked.

    Raises:
        ConfigError: the space does not go with the trial's base config.
        IdentityMismatch: a study of this name is of something else, or was made by other code.
        MissingArtifact: an input of the trials does not exist.
    """
    store, trying, space = folder(root, settings.name), settings.trying, Space(settings.space)
    trials.identity(trying, root, assignments(space.values([0.5] * len(space.coordinates))))  # a typo is an error now
    of = trials.identity(trying, root, [])
    config: dict[str, Any] = {"metric": settings.metric, "mode": settings.searching.mode, "earlier": settings.earlier}
    config |= {"trial": identity(trying), "base": of.config}
    made = json.loads(json.dumps({"config": config, "inputs": of.inputs, "code": of.code}))
    if policy.again:
        store.delete("")
    known = json.loads(store.read(FILE)) if store.exists(FILE) else None
    if known is None:
        store.write(FILE, json.dumps(made, indent=1, ensure_ascii=False).encode("utf-8"))
        return store
    differences = artifacts.difference(known, made)
    if differences and not (policy.keep_stale and all(line.startswith("code:") for line in differences)):
        raise IdentityMismatch(
            f"study {settings.name} under {root.root} is of something else:\n  "
            + "\n  ".join(differences)
            + "\ngive this one another name, pass --again to begin anew, or, where the code alone differs, "
            "--keep-stale to go on with the values of the other code"
        )
    return store


def earlier(root: Store, settings: StudySettings) -> Iterator[tuple[Told, bool]]:
    """The trials of the studies that a study begins with, and whether their values compare with its own.

    They do where the two studies' trials differ in the space alone; else they say where to look, and none is the best.

    Raises:
        ConfigError: such a study's values are of another metric, or good the other way round.
        MissingArtifact: there is no such study.
    """
    own = _about(folder(root, settings.name))
    for name in settings.earlier:
        store = folder(root, name)
        if not store.exists(FILE):
            raise MissingArtifact(f"study.earlier: there is no study {name} at {store.root}; leave it out")
        other = _about(store)
        for key in COMPARED:
            mine, theirs = own["config"][key], other["config"].get(key)
            if mine != theirs:
                raise ConfigError(f"study.earlier={name}: its {key} is {theirs} and this study's {mine}; leave it out")
        compares = all(own["config"][key] == other["config"][key] for key in SAME) and own["inputs"] == other["inputs"]
        for told in read(store):
            yield told, compares


def _about(store: Store) -> dict[str, Any]:
    about: dict[str, Any] = json.loads(store.read(FILE))
    return about
