"""The few path operations there are, the same on a local disk, a shared one and an object store."""

import os
import posixpath
from pathlib import Path

import numpy as np
import pyarrow.fs as pafs
from pydantic import field_validator

from medtrain import direct
from medtrain.config import Config, knob
from medtrain.errors import ConfigError

READ_BYTES = 1 << 22
"""How much of a file is held at a time where it need not be held whole."""


def default_root() -> str:
    """`$MEDTRAIN_HOME`, else `~/medtrain`."""
    return os.environ.get("MEDTRAIN_HOME") or str(Path.home() / "medtrain")


class StorageConfig(Config):
    """Where artifacts lie."""

    root: str = knob(default_factory=default_root, validate_default=True)
    """An absolute path or a URI (s3://, gs://), the same on every node; default $MEDTRAIN_HOME, else ~/medtrain."""

    @field_validator("root")
    @classmethod
    def _absolute(cls, root: str) -> str:
        if "://" not in root and not Path(root).is_absolute():
            raise ValueError(
                "a relative root means another folder on every node and under every job; give an absolute path or a URI"
            )
        return root


class Store:
    """Files under one root, by relative path; no path leaves the root.

    Raises (all methods):
        ConfigError: a path is absolute or climbs out of the root.
        OSError: the file system refuses.
    """

    def __init__(self, root: str):
        self.root = root.rstrip("/") or "/"
        self._fs, self._base = pafs.FileSystem.from_uri(self.root if "://" in self.root else Path(self.root).as_uri())

    def __reduce__(self) -> tuple[type["Store"], tuple[str]]:
        return Store, (self.root,)

    @property
    def is_local(self) -> bool:
        """Whether the root is a folder that this machine can open by path."""
        return isinstance(self._fs, pafs.LocalFileSystem)

    def _full(self, path: str) -> str:
        if path.startswith("/") or ".." in path.split("/") or "\\" in path:
            raise ConfigError(f"path {path!r}: leaves the storage root {self.root}; use a relative path without '..'")
        return posixpath.join(self._base, path) if path else self._base

    def sub(self, path: str) -> "Store":
        """The store whose root is a folder of this one."""
        self._full(path)
        return Store(f"{self.root}/{path}")

    def local(self, path: str = "") -> Path:
        """The path as a local `Path`, for libraries that open files by name.

        Raises:
            ConfigError: the root is remote.
        """
        if not self.is_local:
            raise ConfigError(
                f"storage.root={self.root}: {path} must be opened as a local file; use a shared local folder"
            )
        return Path(self._full(path))

    def exists(self, path: str) -> bool:
        return bool(self._fs.get_file_info(self._full(path)).type != pafs.FileType.NotFound)

    def size_bytes(self, path: str) -> int:
        """The size of a file, -1 if there is none."""
        info = self._fs.get_file_info(self._full(path))
        return int(info.size) if info.type == pafs.FileType.File else -1

    def read(self, path: str) -> bytes:
        with self._fs.open_input_stream(self._full(path)) as stream:
            content: bytes = stream.read()
        return content

    def write(self, path: str, *content: bytes | memoryview) -> None:
        """Write a whole file, making its folders; `content` is what stands in it, part after part."""
        full = self._full(path)
        self._fs.create_dir(posixpath.dirname(full), recursive=True)
        with self._fs.open_output_stream(full) as stream:
            for part in content:
                stream.write(part)

    def replace(self, path: str, content: bytes) -> None:
        """Write a file that may be there: who is killed here leaves the old one or the new one, and none cut short."""
        if not self.is_local:  # an object store does so by itself
            self.write(path, content)
            return
        self.write(f"{path}.new", content)
        self.local(f"{path}.new").replace(self.local(path))

    def write_through(self, path: str, *content: bytes | memoryview) -> None:
        """As `write`, and out of this machine's memory, past its cache where there is direct access."""
        if not self.is_local:
            self.write(path, *content)
            return
        self._fs.create_dir(posixpath.dirname(self._full(path)), recursive=True)
        direct.write(self.local(path), content)

    def holds(self, path: str, *content: bytes | memoryview) -> bool:
        """Whether a file is what stands in `content`, part after part, read past the cache and not whole in memory."""
        if self.size_bytes(path) != sum(len(part) for part in content):
            return False
        if self.is_local:
            return direct.same(self.local(path), content)
        with self._fs.open_input_stream(self._full(path)) as stream:
            for part in content:
                rest = np.frombuffer(part, np.uint8)
                while len(rest):
                    read = np.frombuffer(stream.read(min(len(rest), READ_BYTES)), np.uint8)
                    if len(read) == 0 or not np.array_equal(read, rest[: len(read)]):
                        return False
                    rest = rest[len(read) :]
        return True

    def files(self, folder: str = "") -> list[str]:
        """Every file below a folder, as sorted paths relative to the root; empty if there is no such folder."""
        selector = pafs.FileSelector(self._full(folder), recursive=True, allow_not_found=True)
        base = self._base.rstrip("/") + "/"
        return sorted(
            info.path.removeprefix(base) for info in self._fs.get_file_info(selector) if info.type == pafs.FileType.File
        )

    def folders(self, folder: str = "") -> list[str]:
        """The names of the folders right below a folder, sorted."""
        selector = pafs.FileSelector(self._full(folder), recursive=False, allow_not_found=True)
        infos = self._fs.get_file_info(selector)
        return sorted(info.base_name for info in infos if info.type == pafs.FileType.Directory)

    def delete(self, path: str) -> None:
        """Delete a file or a whole folder, if it is there."""
        kind = self._fs.get_file_info(self._full(path)).type
        if kind == pafs.FileType.Directory:
            self._fs.delete_dir(self._full(path))
        elif kind == pafs.FileType.File:
            self._fs.delete_file(self._full(path))
