"""medtrain.artifacts: whole or absent, made from what the identity says, refused with the difference otherwise."""

import contextlib
import json
from pathlib import Path

import pytest

from medtrain import artifacts
from medtrain.artifacts import Artifact, Build, Identity, Policy
from medtrain.errors import ConfigError, CorruptArtifact, IdentityMismatch, MissingArtifact
from medtrain.storage import Store

IDENTITY = Identity({"seed": 1, "sources": ["a"]}, {"raw": "abc"}, "code1")


def make(store: Store, identity: Identity = IDENTITY, name: str = "demo") -> Artifact:
    build = artifacts.begin(store, "data", name, identity, Policy())
    assert isinstance(build, Build)
    build.store.write("shards/0.bin", b"12345")
    return build.finish({"rows": 5})


def test_an_artifact_is_found_again(store: Store) -> None:
    made = make(store)
    found = artifacts.locate(store, "data", "demo")
    assert (found.facts, found.fingerprint) == ({"rows": 5}, made.fingerprint)
    assert found.manifest["files"] == {"shards/0.bin": 5}
    assert isinstance(artifacts.begin(store, "data", "demo", IDENTITY, Policy()), Artifact)


@pytest.mark.parametrize("name", ["data", "tokens", "stage1", "stage2"])
def test_a_missing_input_says_which_job_makes_it(store: Store, name: str) -> None:
    with pytest.raises(MissingArtifact, match=rf"{name}/demo does not exist under .*; jobs/\w+\.py makes it"):
        artifacts.locate(store, name, "demo")


def test_every_maker_is_a_job() -> None:
    project = Path(artifacts.__file__).parents[2]
    assert [job for job in artifacts.MADE_BY.values() if not (project / job).is_file()] == []


def test_an_unfinished_one_is_no_input_and_is_gone_on_with(store: Store) -> None:
    build = artifacts.begin(store, "data", "demo", IDENTITY, Policy())
    assert isinstance(build, Build) and not build.resumed
    build.store.write("shards/0.bin", b"1")
    with pytest.raises(MissingArtifact, match="is unfinished"):
        artifacts.locate(store, "data", "demo")
    again = artifacts.begin(store, "data", "demo", IDENTITY, Policy())
    assert isinstance(again, Build) and again.resumed
    assert again.store.read("shards/0.bin") == b"1"


def test_another_identity_is_refused_with_the_difference(store: Store) -> None:
    make(store)
    other = Identity({"seed": 2, "sources": ["a"]}, {"raw": "xyz"}, "code1")
    with pytest.raises(IdentityMismatch, match="config.seed: 1 -> 2") as refused:
        artifacts.begin(store, "data", "demo", other, Policy())
    assert 'inputs.raw: "abc" -> "xyz"' in str(refused.value)
    assert artifacts.locate(store, "data", "demo").facts == {"rows": 5}


def test_an_unfinished_one_of_another_identity_is_refused_too(store: Store) -> None:
    artifacts.begin(store, "data", "demo", IDENTITY, Policy())
    with pytest.raises(IdentityMismatch):
        artifacts.begin(store, "data", "demo", Identity({}, {}, "code1"), Policy())


def test_other_code_makes_it_again_and_says_so(store: Store) -> None:
    make(store)
    newer = Identity(IDENTITY.config, IDENTITY.inputs, "code2")
    build = artifacts.begin(store, "data", "demo", newer, Policy())
    assert isinstance(build, Build) and not build.resumed
    assert "made by other code" in build.notes[0]
    assert not build.store.exists("shards/0.bin")


def test_keep_stale_keeps_it(store: Store) -> None:
    made = make(store)
    newer = Identity(IDENTITY.config, IDENTITY.inputs, "code2")
    kept = artifacts.begin(store, "data", "demo", newer, Policy(keep_stale=True))
    assert isinstance(kept, Artifact) and kept.fingerprint == made.fingerprint


def test_keep_stale_goes_on_with_an_unfinished_one_under_its_own_identity(store: Store) -> None:
    artifacts.begin(store, "data", "demo", IDENTITY, Policy())
    newer = Identity(IDENTITY.config, IDENTITY.inputs, "code2")
    build = artifacts.begin(store, "data", "demo", newer, Policy(keep_stale=True))
    assert isinstance(build, Build) and build.resumed and build.identity.code == "code1"


def test_again_replaces_even_another_identity(store: Store) -> None:
    make(store)
    build = artifacts.begin(store, "data", "demo", Identity({}, {}, "x"), Policy(again=True))
    assert isinstance(build, Build) and build.store.files() == ["identity.json"]


@pytest.mark.parametrize(("content", "what"), [(b"123", "has 3 bytes"), (None, "is absent")])
def test_a_damaged_file_is_seen(store: Store, content: bytes | None, what: str) -> None:
    made = make(store)
    if content is None:
        made.store.delete("shards/0.bin")
    else:
        made.store.write("shards/0.bin", content)
    with pytest.raises(CorruptArtifact, match=rf"shards/0.bin {what}, its manifest says 5; delete .*prepare_data"):
        artifacts.locate(store, "data", "demo")
    with pytest.raises(CorruptArtifact):
        artifacts.begin(store, "data", "demo", IDENTITY, Policy())


@pytest.mark.parametrize("cut", [0, 1, 40])
def test_a_manifest_cut_while_written_is_none(store: Store, cut: int) -> None:
    made = make(store)
    made.store.write("manifest.json", made.store.read("manifest.json")[:cut])
    with pytest.raises(MissingArtifact, match="is unfinished"):
        artifacts.locate(store, "data", "demo")
    build = artifacts.begin(store, "data", "demo", IDENTITY, Policy())
    assert isinstance(build, Build) and build.resumed


@pytest.mark.parametrize("left", ["identity.json", "identity.json.new"])
def test_an_identity_cut_while_written_begins_anew(store: Store, left: str) -> None:
    store.write(f"data/demo/{left}", b'{"config"')
    build = artifacts.begin(store, "data", "demo", IDENTITY, Policy())
    assert isinstance(build, Build) and not build.resumed
    assert build.store.files() == ["identity.json"]


@pytest.mark.parametrize("identity", [None, b'{"config"'])
def test_files_of_nobody_knows_what_are_not_deleted_unasked(store: Store, identity: bytes | None) -> None:
    store.write("stage1/mine/adapter/adapter_model.safetensors", b"1")
    if identity is not None:
        store.write("stage1/mine/identity.json", identity)
    with pytest.raises(
        IdentityMismatch, match=r"holds 1 file\(s\), such as adapter/adapter_model.safetensors, .*--again"
    ):
        artifacts.begin(store, "stage1", "mine", IDENTITY, Policy())
    assert store.exists("stage1/mine/adapter/adapter_model.safetensors")
    build = artifacts.begin(store, "stage1", "mine", IDENTITY, Policy(again=True))
    assert isinstance(build, Build) and build.store.files() == ["identity.json"]


@pytest.mark.parametrize("killed_after", range(4))
def test_who_is_killed_while_it_deletes_leaves_what_can_be_begun_again(
    store: Store, killed_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(store)
    deleted: list[str] = []
    delete = Store.delete

    def dies(self: Store, path: str) -> None:
        if len(deleted) == killed_after:
            raise KeyboardInterrupt
        deleted.append(path)
        delete(self, path)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "delete", dies)
        with contextlib.suppress(KeyboardInterrupt):
            artifacts.begin(store, "data", "demo", IDENTITY, Policy(again=True))
    assert made.store.exists("manifest.json") == (killed_after == 0)
    build = artifacts.begin(store, "data", "demo", IDENTITY, Policy(again=True))
    assert isinstance(build, Build) and not build.resumed and build.store.files() == ["identity.json"]
    assert isinstance(artifacts.begin(store, "data", "demo", IDENTITY, Policy()), Build)


def test_a_config_of_tuples_equals_itself_read_back(store: Store) -> None:
    """JSON has no tuples: an identity that holds one must still match what it wrote."""
    identity = Identity({"sources": ("a", "b")}, {}, "code1")
    make(store, identity)
    assert isinstance(artifacts.begin(store, "data", "demo", identity, Policy()), Artifact)


def test_a_manifest_says_how_it_was_made(store: Store) -> None:
    manifest = json.loads(make(store).store.read("manifest.json"))
    assert manifest["identity"] == {"config": {"seed": 1, "sources": ["a"]}, "inputs": {"raw": "abc"}, "code": "code1"}
    assert {"medtrain", "finished", "fingerprint"} <= manifest.keys()


def test_code_hash_sees_names_and_content(tmp_path: Path) -> None:
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text("a = 1")
    two.write_text("b = 1")
    before = artifacts.code_hash([one, two])
    assert artifacts.code_hash([two, one, one]) == before
    two.write_text("b = 2")
    assert artifacts.code_hash([one, two]) != before


def test_room_code_of_an_absent_part_is_our_bug() -> None:
    assert Path(artifacts.__file__) in artifacts.room_code("artifacts.py")
    assert all(path.suffix == ".py" for path in artifacts.room_code("data", "config.py"))


def test_difference_names_every_leaf() -> None:
    assert artifacts.difference({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": "é"}) == [
        "a.c: 2 -> 3",
        'd: null -> "é"',
    ]
    assert artifacts.difference({"code": "x"}, {"code": "x"}) == []


def test_a_model_reference_is_a_path_a_hub_id_or_an_artifact(store: Store) -> None:
    assert artifacts.model_path(store, "Qwen/Qwen2-0.5B") == "Qwen/Qwen2-0.5B"
    with pytest.raises(MissingArtifact, match="bases/demo does not exist"):
        artifacts.model_path(store, "artifact:bases/demo")
    with pytest.raises(ConfigError, match=r"write artifact:<kind>/<name>"):
        artifacts.model_path(store, "artifact:bases")


def test_a_cache_that_was_made_from_something_else_is_replaced_with_a_note(store: Store) -> None:
    made = artifacts.begin(store, "merged", "x", IDENTITY, Policy())
    assert isinstance(made, Build)
    made.finish({})
    assert isinstance(artifacts.begin_cache(store, "merged", "x", IDENTITY, Policy()), Artifact)
    other = Identity({"seed": 2}, IDENTITY.inputs, IDENTITY.code)
    build = artifacts.begin_cache(store, "merged", "x", other, Policy())
    assert isinstance(build, Build) and build.identity == other
    assert build.notes == ["merged/x: what it was made from has changed, so it is made again"]


def test_what_another_job_has_begun_anew_is_not_finished(store: Store) -> None:
    mine = artifacts.begin(store, "data", "x", Identity({"a": 1}, {}, "old code"), Policy())
    assert isinstance(mine, Build)
    theirs = artifacts.begin(store, "data", "x", Identity({"a": 1}, {}, "new code"), Policy())
    assert isinstance(theirs, Build)
    with pytest.raises(IdentityMismatch, match="data/x: another job has begun it anew"):
        mine.finish({})
    assert not store.exists("data/x/manifest.json")
    theirs.finish({})
