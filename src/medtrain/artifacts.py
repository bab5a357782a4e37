"""Artifacts: the folders at which rooms meet, whole or absent, each with a manifest that says how it was made.

`<root>/<kind>/<name>/` holds the files, `identity.json` (written first: what is being made) and `manifest.json`
(written last: it is whole). Identity is config without knobs, the fingerprints of the inputs, and a hash of the code.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import medtrain
from medtrain.config import fingerprint
from medtrain.errors import ConfigError, CorruptArtifact, IdentityMismatch, MissingArtifact
from medtrain.storage import Store

MANIFEST, IDENTITY = "manifest.json", "identity.json"
MADE_BY = {
    "data": "jobs/prepare_data.py",
    "tokens": "jobs/build_tokens.py",
    "bases": "jobs/build_tokens.py",
    "stage1": "jobs/stage1.py",
    "stage2": "jobs/stage2.py",
    "expert": "jobs/train_experts.py",
    "library": "jobs/train_experts.py",
    "router": "jobs/fit_router.py",
    "routing": "jobs/fit_router.py",
    "evaluations": "jobs/evaluate_model.py",
    "predictions": "jobs/predict.py",
}


@dataclass(frozen=True)
class Identity:
    """What an artifact is made from: `config` without knobs, `inputs` by name -> fingerprint, `code` a hash."""

    config: dict[str, Any]
    inputs: dict[str, str]
    code: str

    @property
    def fingerprint(self) -> str:
        return fingerprint(asdict(self))


@dataclass(frozen=True)
class Artifact:
    """A whole artifact; `store` is rooted in its folder."""

    kind: str
    name: str
    store: Store
    manifest: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        return str(self.manifest["fingerprint"])

    @property
    def facts(self) -> dict[str, Any]:
        """The counts and results that its job wrote into the manifest."""
        return dict(self.manifest["facts"])


@dataclass(frozen=True)
class Policy:
    """What to do with an artifact that exists already."""

    keep_stale: bool = False
    """Use an artifact made by other code instead of making it again."""
    again: bool = False
    """Make it again even if it is whole and the same."""


@dataclass(frozen=True)
class Build:
    """An artifact in the making; `resumed` says that an unfinished one of the same identity was found."""

    kind: str
    name: str
    store: Store
    identity: Identity
    resumed: bool
    notes: list[str] = field(default_factory=list)

    def finish(self, facts: dict[str, Any]) -> Artifact:
        """Write the manifest over every file there is: from now on the artifact is whole.

        Raises:
            IdentityMismatch: another job has begun it anew meanwhile, from something else.
        """
        if _read_json(self.store, IDENTITY) != json.loads(json.dumps(asdict(self.identity))):
            raise IdentityMismatch(f"{self.kind}/{self.name}: another job has begun it anew; end one of the two")
        files = {p: self.store.size_bytes(p) for p in self.store.files() if p not in (MANIFEST, IDENTITY)}
        manifest = {
            "kind": self.kind,
            "name": self.name,
            "fingerprint": self.identity.fingerprint,
            "identity": asdict(self.identity),
            "facts": facts,
            "files": files,
            "medtrain": medtrain.__version__,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self.store.write(MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False).encode("utf-8"))
        return Artifact(self.kind, self.name, self.store, manifest)


def code_hash(files: Iterable[Path]) -> str:
    """A hash of source files, by name and content."""
    lines = sorted(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in set(files))
    return fingerprint(lines)


def room_code(*parts: str) -> list[Path]:
    """The Python files of the package by relative path; a folder stands for the files right in it, not its plug-ins."""
    package = Path(__file__).parent
    found: list[Path] = []
    for part in parts:
        path = package / part
        found.extend(sorted(path.glob("*.py")) if path.is_dir() else [path])
    return found


def model_path(root: Store, reference: str) -> str:
    """What `from_pretrained` takes for a model reference: `artifact:<kind>/<name>`, a local path or a hub id.

    Raises:
        MissingArtifact: the reference names an artifact that does not exist.
        ConfigError: the reference is malformed.
    """
    if not reference.startswith("artifact:"):
        return reference
    kind, _, name = reference.removeprefix("artifact:").partition("/")
    if not kind or not name:
        raise ConfigError(f"model reference {reference!r}: write artifact:<kind>/<name>")
    return str(locate(root, kind, name).store.local())


def locate(root: Store, kind: str, name: str) -> Artifact:
    """Open a whole artifact and check its files' sizes.

    Raises:
        MissingArtifact: there is none, or it is unfinished; the message names the job that makes it.
        CorruptArtifact: a file is absent or has another size than the manifest says.
    """
    store = root.sub(f"{kind}/{name}")
    manifest = _read_json(store, MANIFEST)
    if manifest is None:
        state = "is unfinished" if store.exists(IDENTITY) else "does not exist"
        raise MissingArtifact(
            f"artifact {kind}/{name} {state} under {root.root}; {MADE_BY.get(kind, 'its job')} makes it: run that first"
        )
    for path, size in manifest["files"].items():
        found = store.size_bytes(path)
        if found != size:
            what = "is absent" if found < 0 else f"has {found} bytes"
            raise CorruptArtifact(
                f"artifact {kind}/{name}: {path} {what}, its manifest says {size}; "
                f"delete {store.root} and run {MADE_BY.get(kind, 'its job')} again"
            )
    return Artifact(kind, name, store, manifest)


def begin(root: Store, kind: str, name: str, identity: Identity, policy: Policy) -> Artifact | Build:
    """The artifact if it is there and the same, else a build to fill.

    An artifact that differs by code only is made again with a note (or kept, by policy); an unfinished one of the same
    identity is gone on with.

    Raises:
        IdentityMismatch: an artifact of this name was made from something else, or files are there and no identity.
        CorruptArtifact: the artifact is there and damaged.
    """
    store = root.sub(f"{kind}/{name}")
    if policy.again:
        _clear(store)
    known = _read_json(store, IDENTITY)
    if known is None:
        if unknown := [path for path in store.files() if path not in (IDENTITY, f"{IDENTITY}.new")]:
            raise IdentityMismatch(
                f"{store.root} holds {len(unknown)} file(s), such as {unknown[0]}, and no whole {IDENTITY} says what "
                f"they are; move them away, give {kind}/{name} another name, or pass --again to delete them"
            )
        store.replace(IDENTITY, json.dumps(asdict(identity), indent=1, ensure_ascii=False).encode("utf-8"))
        return Build(kind, name, store, identity, resumed=False)
    differences = difference(known, json.loads(json.dumps(asdict(identity))))  # as it is read back: JSON has no tuples
    code_only = [line for line in differences if not line.startswith("code:")] == []
    if differences and not code_only:
        raise IdentityMismatch(
            f"artifact {kind}/{name} under {root.root} was made from something else:\n  "
            + "\n  ".join(differences)
            + "\ngive this one another name, delete that one, or pass --again to replace it"
        )
    whole = _read_json(store, MANIFEST) is not None
    if differences and not policy.keep_stale:
        _clear(store)
        build = begin(root, kind, name, identity, Policy())
        assert isinstance(build, Build)
        build.notes.append(f"{kind}/{name}: made by other code, so it is made again (--keep-stale keeps it)")
        return build
    if whole:
        return locate(root, kind, name)
    return Build(kind, name, store, Identity(**known), resumed=True)


def begin_cache(root: Store, kind: str, name: str, identity: Identity, policy: Policy) -> Artifact | Build:
    """As `begin`, for what nobody asked for by name: an artifact made from something else is replaced with a note."""
    try:
        return begin(root, kind, name, identity, policy)
    except IdentityMismatch:
        build = begin(root, kind, name, identity, Policy(again=True))
        assert isinstance(build, Build)
        build.notes.append(f"{kind}/{name}: what it was made from has changed, so it is made again")
        return build


def difference(old: Any, new: Any, path: str = "") -> list[str]:
    """Every leaf at which two JSON values differ, as `path: old -> new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        lines: list[str] = []
        for key in sorted(old.keys() | new.keys()):
            lines += difference(old.get(key), new.get(key), f"{path}.{key}" if path else key)
        return lines
    if old == new:
        return []
    return [f"{path}: {json.dumps(old, ensure_ascii=False)} -> {json.dumps(new, ensure_ascii=False)}"]


def _clear(store: Store) -> None:
    """Delete an artifact or a build: who is killed here leaves one that is unfinished and still says what it was."""
    store.delete(MANIFEST)
    for path in store.files():
        if path != IDENTITY:
            store.delete(path)
    store.delete("")


def _read_json(store: Store, path: str) -> dict[str, Any] | None:
    """A JSON file, or None where it is absent or was cut while it was written."""
    if not store.exists(path):
        return None
    try:
        content = json.loads(store.read(path))
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
