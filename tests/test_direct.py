"""Direct I/O: any size and any parts, from the medium, and through the cache where there is no such access."""

import errno
import fcntl
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


def test_the_cache_has_nothing_of_it(tmp_path: Path) -> None:
    path = tmp_path / "x"
    try:
        os.close(os.open(path, os.O_CREAT | os.O_DIRECT))
    except OSError:
        pytest.skip("this file system has no direct access")
    content = [os.urandom(1 << 20), b"rest"]
    direct.write(path, content)
    assert direct.same(path, content)
    with path.open("rb") as file, pytest.raises(BlockingIOError):
        os.preadv(file.fileno(), [bytearray(PAGE)], 0, os.RWF_NOWAIT)  # which reads the cache alone


def test_a_refusal_is_raised(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        direct.write(tmp_path / "absent" / "x", [b"x"])
    with pytest.raises(FileNotFoundError):
        direct.same(tmp_path / "x", [b"x"])
