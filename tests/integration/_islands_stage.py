"""Hosts in network namespaces of their own, on islands between which nothing passes, and processes that live there.

Every host is joined by a pair of virtual cables to one of two bridges, its island. The bridges stand in a namespace of
their own too: this machine's interfaces are never touched. Needs `ip` of iproute2 and the right to make namespaces.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar

CLONE_NEWNET = 0x40000000
NAMESPACES = Path("/run/netns")  # where iproute2 keeps them by name
NAMESPACE = "namespace"  # a file beside a member's settings: where its process lives
NETWORK = "10.98.0"
ISLANDS = ("island0", "island1")

T = TypeVar("T")


class IslandsError(Exception):
    """The system refused what `ip` asked of it."""


@dataclass
class Islands:
    """Hosts by name, all of them on one island until `cut` puts some on another.

    Entering makes all of it, leaving removes all of it, also when half of it could not be made.
    """

    hosts: Sequence[str]
    tag: str = field(default_factory=lambda: f"collegium-{os.getpid()}-{secrets.token_hex(3)}")
    _made: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def namespace(self, host: str) -> str:
        return f"{self.tag}-{host}"

    def address(self, host: str) -> str:
        return f"{NETWORK}.{1 + self.hosts.index(host)}"

    def cut(self, *hosts: str) -> None:
        """Put these hosts on an island of their own: packets to and from the others vanish without a word."""
        for host in self.hosts:
            island = ISLANDS[host in hosts]
            ip("-n", self._hub, "link", "set", self._port(host), "master", island)

    def heal(self) -> None:
        """Put all hosts on one island again."""
        self.cut()

    def visit(self, host: str, work: Callable[[], T]) -> T:
        """Return what `work` returns in a thread whose sockets are the host's."""

        def there() -> T:
            enter(self.namespace(host))
            return work()

        with ThreadPoolExecutor(1) as thread:  # the thread ends with it, so nobody else is left in the namespace
            return thread.submit(there).result()

    @property
    def _hub(self) -> str:
        return self.namespace("hub")

    def _port(self, host: str) -> str:
        return f"port{self.hosts.index(host)}"

    def _make(self) -> None:
        self._add(self._hub)
        for island in ISLANDS:
            ip("-n", self._hub, "link", "add", island, "type", "bridge")
            ip("-n", self._hub, "link", "set", island, "up")
        for host in self.hosts:
            own, port = self.namespace(host), self._port(host)
            self._add(own)
            ip("-n", self._hub, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", own)
            ip("-n", self._hub, "link", "set", port, "master", ISLANDS[0], "up")
            ip("-n", own, "address", "add", f"{self.address(host)}/24", "dev", "eth0")
            for interface in ("lo", "eth0"):
                ip("-n", own, "link", "set", interface, "up")

    def _add(self, namespace: str) -> None:
        ip("netns", "add", namespace)
        self._made.append(namespace)

    def _remove(self) -> None:
        while self._made:
            with suppress(IslandsError):  # the others are to go all the same
                ip("netns", "delete", self._made.pop())


def ip(*words: str) -> None:
    """Run `ip`."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise IslandsError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def enter(namespace: str) -> None:
    """Move the calling thread into a namespace: the sockets that it opens from now on are there."""
    descriptor = os.open(NAMESPACES / namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "cannot enter a network namespace", namespace)
    finally:
        os.close(descriptor)


# ------------------------------------------------------------------------------------------------ in a zygote


def preload() -> None:
    """Import what every role needs, before the first fork."""
    from collegium.apps._member import preload as preload_member

    preload_member()


def main(arguments: Sequence[str]) -> int:
    """Run the member whose settings file is the one argument, in the namespace that the file beside it names."""
    from collegium.apps._member import main as run_member

    enter((Path(arguments[0]).parent / NAMESPACE).read_text())
    return run_member(arguments)
