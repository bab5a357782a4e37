"""Starts this machine's Ray node in the background, after ending the one that it started before, and nothing else.

python cluster/node.py ray start --block --address=10.0.0.1:6379      (a node of cluster/lab.yaml)
python cluster/node.py                                                (only ends it)
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import contained
import psutil

FOLDER = Path.home() / ".medtrain-node"
END_S = 30.0


def running() -> psutil.Process | None:
    """The keeper that an earlier call started, if it lives: same number, same start time."""
    try:
        number, began = (FOLDER / "keeper").read_text().split()
        process = psutil.Process(int(number))
        return process if str(process.create_time()) == began else None
    except (OSError, ValueError, psutil.Error):
        return None


def end() -> None:
    """End the earlier node with all that came of it: its keeper does so when it is asked to end.

    Raises:
        SystemExit: it still lives after `END_S`.
    """
    keeper = running()
    if keeper is None:
        return
    keeper.terminate()
    try:
        keeper.wait(END_S)
    except psutil.TimeoutExpired:
        sys.exit(f"cluster/node.py: process {keeper.pid} does not end; look at {FOLDER / 'node.log'}")


def main(command: Sequence[str]) -> None:
    """End the earlier node and start a command in its place; fails if it ends within seconds."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    end()
    if not command:
        return
    with (FOLDER / "node.log").open("wb") as log:
        keeper = subprocess.Popen(
            [sys.executable, contained.__file__, *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    (FOLDER / "keeper").write_text(f"{keeper.pid} {psutil.Process(keeper.pid).create_time()}")
    time.sleep(5)
    if keeper.poll() is not None:
        sys.exit(f"cluster/node.py: it ended with {keeper.returncode}:\n{(FOLDER / 'node.log').read_text()[-3000:]}")


if __name__ == "__main__":
    main(sys.argv[1:])
