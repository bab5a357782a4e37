"""A head of the tests' own, started by hand in the project folder as a new user with an empty home would."""

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import contained
import local_head
import pytest

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Head:
    """A running head: its dashboard's address and the environment of its user."""

    address: str
    environment: dict[str, str]
    token: str

    def get(self, path: str, token: str | None) -> int:
        """The HTTP status of a request."""
        request = urllib.request.Request(self.address + path)
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def submit(self, command: str, folder: Path = PROJECT) -> "subprocess.CompletedProcess[str]":
        """Run `ray job submit <command>` in a folder, as the head's user, with stderr in stdout."""
        return subprocess.run(
            ["bash", "-c", f"source {PROJECT}/cluster/env.sh && ray job submit {command}"],
            cwd=folder,
            env={**self.environment, "RAY_API_SERVER_ADDRESS": self.address},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=280,
            check=False,
        )


@pytest.fixture(scope="session")
def user(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment variables of a new user: an empty home, no Ray settings, this Python's environment."""
    home = tmp_path_factory.mktemp("home")
    dropped = re.compile(r"RAY_[A-Z]|MEDTRAIN_|VIRTUAL_ENV|PYTHON")  # RAY_agent_… are the tests' patience
    kept = {k: v for k, v in os.environ.items() if not dropped.match(k)}
    own = {"HOME": str(home), "MEDTRAIN_VENV": sys.prefix, "MEDTRAIN_HOME": str(home / "medtrain")}
    return {**kept, **own, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def head(user: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """`source cluster/env.sh && ray start --head` in the project folder, with ports and a folder of its own."""
    log = tmp_path_factory.mktemp("head") / "head.log"
    dashboard = local_head.free_ports(1)[0]
    with local_head.short_folder() as folder, log.open("wb") as output:
        command = " ".join(local_head.head_command(folder, dashboard)).replace(" --block", "")
        # `ray start` leaves the head running when it returns, so the shell stays until it is ended.
        script = f"source cluster/env.sh && {command} && exec sleep infinity"
        shell = subprocess.Popen(
            [sys.executable, "cluster/contained.py", "bash", "-c", script],
            cwd=PROJECT,
            env=user,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=contained.end_with_parent,
        )
        try:
            address = f"http://127.0.0.1:{dashboard}"
            _wait_until_up(shell, address, log)
            yield Head(address, user, (Path(user["HOME"]) / ".ray" / "auth_token").read_text().strip())
        finally:
            shell.terminate()
            shell.wait(60)


def _wait_until_up(shell: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline and shell.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/api/version", timeout=5).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"no head: {log.read_text()[-3000:]}")
