"""Several Ray nodes on this machine, each a family of processes: a cluster to rehearse on.

A head without CPUs holds the driver; nodes are added, and lost as a spot machine is, without a word.
"""

import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import contained
import local_head
import psutil

OBJECT_STORE_BYTES, START_S = 100_000_000, 120.0


@dataclass
class Node:
    """One Ray node and all that runs on it."""

    keeper: "subprocess.Popen[bytes]"
    """The process that ends the node's processes when it is asked to end."""

    def processes(self, word: str) -> list[psutil.Process]:
        """The node's living processes whose command line has a word in it, the oldest first."""
        found = []
        for process in psutil.Process(self.keeper.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if word in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return sorted(found, key=lambda process: process.create_time())

    def lose(self) -> None:
        """Kill every process of the node at once, as a machine that loses its power."""
        with contextlib.suppress(psutil.Error):
            while family := psutil.Process(self.keeper.pid).children(recursive=True):
                for process in family:
                    with contextlib.suppress(psutil.Error):
                        process.kill()
                if all(process.status() == psutil.STATUS_ZOMBIE for process in family if process.is_running()):
                    break
        self.keeper.kill()
        self.keeper.wait()


@dataclass
class Cluster:
    """A head and its nodes."""

    folder: Path
    address: str
    environment: dict[str, str]
    """Variables of whoever joins it, a token of its own among them."""
    head: Node
    nodes: list[Node] = field(default_factory=list)
    started: int = 0

    def add(self) -> Node:
        """Start a node of one CPU and wait until it has joined.

        Raises:
            SystemExit: it did not join.
        """
        self.started += 1
        agent, metrics = local_head.free_ports(2)
        command = [
            *("ray", "start", "--block", "--disable-usage-stats", f"--address={self.address}", "--num-cpus=1"),
            *(f"--dashboard-agent-listen-port={agent}", f"--metrics-export-port={metrics}"),
            *("--min-worker-port=0", "--max-worker-port=0", f"--object-store-memory={OBJECT_STORE_BYTES}"),
            "--include-log-monitor=false",  # the head's reads the folder that all of them share
        ]
        log = self.folder / f"node-{self.started}.log"
        node = _start(command, log, self.environment)
        self.nodes.append(node)
        deadline = time.monotonic() + START_S  # one after another: two that start at once take the same socket
        while "Ray runtime started" not in log.read_text():
            if node.keeper.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"cluster/several.py: a node did not join:\n{log.read_text()[-3000:]}")
            time.sleep(0.05)
        return node

    def lose(self, node: Node) -> None:
        """Lose a node without warning."""
        self.nodes.remove(node)
        node.lose()

    def processes(self, word: str) -> list[psutil.Process]:
        """The processes of all nodes whose command line has a word in it, the oldest first."""
        found = [process for node in self.nodes for process in node.processes(word)]
        return sorted(found, key=lambda process: process.create_time())


def _start(command: list[str], log: Path, environment: dict[str, str]) -> Node:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with log.open("wb") as output:
        keeper = subprocess.Popen(
            [sys.executable, contained.__file__, *command],
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=contained.end_with_parent,
            env={**os.environ, **environment, "PATH": path},
        )
    return Node(keeper)


@contextlib.contextmanager
def cluster(count: int) -> Iterator[Cluster]:
    """A head without CPUs and `count` nodes of one CPU each, ended at the end.

    Raises:
        SystemExit: the head died, or does not ask for the token.
    """
    with local_head.short_folder() as folder:
        dashboard, log = local_head.free_ports(1)[0], folder / "head.log"
        command = local_head.head_command(folder, dashboard, cpus=0)
        port = next(part.partition("=")[2] for part in command if part.startswith("--port="))
        address = f"127.0.0.1:{port}"
        environment = {
            "RAY_ADDRESS": address,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_health_check_period_ms": "1000",  # as cluster/env.sh has it
        }
        started = Cluster(folder, address, environment, _start(command, log, environment))
        try:
            local_head.wait_until_up(started.head.keeper, f"http://127.0.0.1:{dashboard}", log)
            for _ in range(count):
                started.add()
            yield started
        finally:
            living = [*started.nodes, started.head]
            for node in living:
                node.keeper.terminate()
            for node in living:
                node.keeper.wait(60)
