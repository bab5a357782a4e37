"""How a study begins: what it is of, written down and compared each time, and the trials of earlier studies."""

import json

from medtrain import artifacts
from medtrain.artifacts import Policy
from medtrain.config import identity
from medtrain.errors import IdentityMismatch, MissingArtifact
from medtrain.search import trials
from medtrain.search.settings import StudySettings
from medtrain.search.space import Space, assignments
from medtrain.search.told import Told, read
from medtrain.storage import Store

KIND, FILE = "studies", "study.json"


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
    config = {"metric": settings.metric, "trial": identity(trying), "base": of.config}
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


def earlier(root: Store, names: tuple[str, ...]) -> list[Told]:
    """The trials of other studies.

    Raises:
        MissingArtifact: there is no such study.
    """
    found: list[Told] = []
    for name in names:
        store = folder(root, name)
        if not store.exists(FILE):
            raise MissingArtifact(f"study.earlier: there is no study {name} at {store.root}; leave it out")
        found += read(store)
    return found
