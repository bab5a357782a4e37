"""medtrain.storage: relative paths under one absolute root, and nothing outside it."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from medtrain import direct, storage
from medtrain.config import parse
from medtrain.errors import ConfigError
from medtrain.storage import StorageConfig, Store


@pytest.mark.parametrize("root", ["runs", "./runs", "", "~/runs", "../x"])
def test_a_relative_root_is_refused(root: str) -> None:
    with pytest.raises(ConfigError, match="storage|root.*a relative root means another folder on every node"):
        parse(StorageConfig, {"root": root})


def test_the_default_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEDTRAIN_HOME", str(tmp_path))
    assert StorageConfig().root == str(tmp_path)
    monkeypatch.setenv("MEDTRAIN_HOME", "here")
    with pytest.raises(ConfigError, match="a relative root"):
        parse(StorageConfig, {})
    monkeypatch.delenv("MEDTRAIN_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert StorageConfig().root == str(tmp_path / "medtrain")


def test_write_read_list_delete(store: Store) -> None:
    store.write("a/b/c.txt", b"one")
    store.write("a/d.txt", b"")
    store.write("a/b/c.txt", "zwei 二".encode())
    assert store.read("a/b/c.txt").decode() == "zwei 二"
    assert store.files() == ["a/b/c.txt", "a/d.txt"]
    assert store.files("a/b") == ["a/b/c.txt"]
    assert store.folders("a") == ["b"]
    assert (store.size_bytes("a/d.txt"), store.size_bytes("a"), store.size_bytes("x")) == (0, -1, -1)
    assert store.exists("a") and not store.exists("x")
    store.delete("a/b")
    store.delete("x")
    assert store.files() == ["a/d.txt"]
    assert store.files("none") == [] and store.folders("none") == []


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a\\..\\x"])
def test_no_path_leaves_the_root(store: Store, path: str) -> None:
    for operation in (store.read, store.exists, store.delete, store.size_bytes, store.files, store.sub, store.local):
        with pytest.raises(ConfigError, match="leaves the storage root"):
            operation(path)


def test_who_is_killed_while_a_file_is_replaced_leaves_the_old_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.replace("a/b.json", b"old")

    def killed(*paths: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as kill:
        kill.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            store.replace("a/b.json", b"new")
    assert store.read("a/b.json") == b"old"
    store.replace("a/b.json", b"new")
    assert store.read("a/b.json") == b"new" and store.files() == ["a/b.json"]


@pytest.mark.parametrize("local", [True, False])
def test_a_file_is_written_through_and_compared_part_by_part(
    store: Store, monkeypatch: pytest.MonkeyPatch, local: bool
) -> None:
    """On an object store by its streams."""
    past_the_cache, same = list[Path](), direct.same

    def noted(path: Path, parts: Any) -> bool:
        past_the_cache.append(path)
        return same(path, parts)

    monkeypatch.setattr(direct, "same", noted)
    monkeypatch.setattr(Store, "is_local", local)
    monkeypatch.setattr(storage, "READ_BYTES", 4)
    parts = (b"header", memoryview(b"0123456789"), b"")
    store.write_through("in/a", *parts)
    assert store.read("in/a") == b"header0123456789"
    store.write_through("a", *parts)
    assert store.holds("a", *parts)
    for wrong in ((b"header", b"0123456780"), (b"header", b"012345678"), (b"Header", b"0123456789"), (b"",)):
        assert not store.holds("a", *wrong)
    assert not store.holds("absent", *parts)
    assert bool(past_the_cache) == local


def test_a_sub_store_is_the_same_files(store: Store) -> None:
    store.write("k/n/f", b"1")
    assert store.sub("k/n").read("f") == b"1"
    assert store.sub("k").sub("n").files() == ["f"]
    assert store.local("k/n/f").read_bytes() == b"1"


def test_strange_names_are_only_names(tmp_path: Path) -> None:
    """A blank, a percent sign or Chinese in the root is no URI escape."""
    store = Store(str(tmp_path / "a b%20c#数据"))
    store.write("x y/%41.txt", b"1")
    assert store.files() == ["x y/%41.txt"]
    assert (tmp_path / "a b%20c#数据" / "x y" / "%41.txt").read_bytes() == b"1"


def test_a_store_travels_to_a_worker(store: Store) -> None:
    store.write("f", b"1")
    again = pickle.loads(pickle.dumps(store))  # noqa: S301 (made in the line itself)
    assert again.root == store.root and again.read("f") == b"1"


def test_a_remote_root_has_no_local_path() -> None:
    store = Store("mock://bucket/root")
    store.write("a/b", b"1")
    assert not store.is_local
    with pytest.raises(ConfigError, match="must be opened as a local file"):
        store.local("a/b")


def test_the_file_scheme_is_a_local_root(tmp_path: Path) -> None:
    store = Store(tmp_path.as_uri())
    store.write("a", b"1")
    assert store.is_local and (tmp_path / "a").read_bytes() == b"1"
    assert store.files() == ["a"]
