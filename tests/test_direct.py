"""Direct I/O: any size and any parts, from the medium, and through the cache where there is no such access."""

import errno
import fcntl
import functools
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medtrain import direct

PAGE = mmap.PAGESIZE


def in_parts(content: bytes) -> list[bytes | memoryview]:
    return [content[:3], b"", memoryview(content)[3:5000], content[5000:]]


@pytest.fixture(params=["", "open", "write"])
def file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has direct access, or refuses it as a file is opened, or as it is used."""

    def refusing(name: str, direct_access: Callable[..., int]) -> None:
        plain = getattr(os, name)

        def refuse(file: Any, *given: Any) -> Any:
            if direct_access(file, *given) & os.O_DIRECT:
                raise OSError(errno.EINVAL, "Invalid argument")
            return plain(file, *given)

        monkeypatch.setattr(os, name, refuse)

    if request.param == "open":
        refusing("open", lambda path, flags, mode: flags)
    elif request.param == "write":
        refusing("write", lambda file, block: fcntl.fcntl(file, fcntl.F_GETFL))
        refusing("readv", lambda file, blocks: fcntl.fcntl(file, fcntl.F_GETFL))


@pytest.mark.usefixtures("file_system")
@pytest.mark.parametrize("size", [0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 3 * PAGE, 5 * PAGE + 7])
def test_what_was_written_is_there_and_nothing_else_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(direct, "BLOCK_BYTES", 2 * PAGE)
    path, content = tmp_path / "x", bytes(number * 7 % 251 for number in range(size))
    direct.write(path, [b"longer" * PAGE])
    direct.write(path, in_parts(content))
    assert path.read_bytes() == content
    assert direct.same(path, [content]) and direct.same(path, in_parts(content))
    for place in {0, size // 2, size - 1} if size else ():
        wrong = bytearray(content)
        wrong[place] ^= 1
        assert not direct.same(path, [bytes(wrong)])
    assert not direct.same(path, [content, b"x"]) and not (size and direct.same(path, [content[:-1]]))


def cached(path: Path) -> bool | None:
    """Whether the system has a file's first page in memory; None where it does not tell."""
    with path.open("rb") as file:
        try:
            return os.preadv(file.fileno(), [bytearray(PAGE)], 0, os.RWF_NOWAIT) > 0
        except BlockingIOError:
            return False
        except OSError:
            return None


def test_the_cache_has_nothing_of_it(tmp_path: Path) -> None:
    plain, path = tmp_path / "plain", tmp_path / "x"
    content = [os.urandom(1 << 20), b"rest"]
    with plain.open("wb") as file:
        file.writelines(content)
        os.fsync(file.fileno())
    told = [cached(plain)]
    with plain.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_DIRECT))
    except OSError:
        pytest.skip("this file system has no direct access")
    if [*told, cached(plain)] != [True, False]:
        pytest.skip("this file system does not tell what is cached, or is nothing but memory")
    direct.write(path, content)
    assert direct.same(path, content) and cached(path) is False


def test_all_is_written_and_then_forced_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a system that takes a page at a time."""
    done, content = list[str](), os.urandom(3 * PAGE + 5)
    plain = {name: getattr(os, name) for name in ("write", "ftruncate", "fsync")}

    def noted(name: str, *given: Any) -> Any:
        done.append(name)
        return plain[name](*given)

    monkeypatch.setattr(os, "write", lambda file, block: noted("write", file, block[:PAGE]))
    for name in ("ftruncate", "fsync"):
        monkeypatch.setattr(os, name, functools.partial(noted, name))
    direct.write(tmp_path / "x", [content])
    assert (tmp_path / "x").read_bytes() == content
    assert done.count("write") >= 4 and done[-1] == "fsync"


def test_a_refusal_is_raised(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        direct.write(tmp_path / "absent" / "x", [b"x"])
    with pytest.raises(FileNotFoundError):
        direct.same(tmp_path / "x", [b"x"])
