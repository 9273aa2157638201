"""Starts processes by forking one that has imported everything: `collegium up` starts dozens in the time of one.

A fork is sound only of a process that has one thread, no event loop, no open connection and no secret yet. So the
zygote is a fresh interpreter that imports and then does nothing but this; it refuses to fork once it has two threads.
What it forks gets a signal to die when it dies, and it gets one when the process that started it dies: whatever
happens, nothing is left running. Randomness for keys comes from the operating system on every call, OpenSSL seeds its
own again after a fork, and so does Python's `random`.

Requests and replies are lines of JSON on a socket:

    {"start": 3, "arguments": ["config.toml"], "log": "validator-03.log"}   ->  {"started": 3, "pid": 4711}
    {"signal": 15, "pid": 4711}
                                                                            ->  {"ended": 4711, "code": -15}
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from collegium.errors import CollegiumError

__all__ = ["Ended", "Zygote", "ZygoteError", "serve"]

PR_SET_PDEATHSIG: Final = 1
LINE_BYTES_MAX: Final = 1 << 16
READY_TIMEOUT_S: Final = 3600.0  # imports, and compiling for the first time, on a busy machine
STOP_TIMEOUT_S: Final = 10.0
CODE_BUG: Final = 70
TASKS: Final = Path("/proc/self/task")
# Libraries that start threads when they are imported, told not to: numpy's algebra, and pyarrow's allocator.
ONE_THREAD: Final = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
UNSHARED: Final = frozenset({"COLLEGIUM_CHAIN_KEY"})  # whoever founds pays with it; no process needs it

Target = Callable[[Sequence[str]], int]


class ZygoteError(CollegiumError):
    """A process cannot be started: the zygote is gone, or the system refuses."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that ended: with its exit code, or minus the number of the signal that ended it."""

    pid: int
    code: int


# ------------------------------------------------------------------------------------------------ who asks


@dataclass(eq=False)
class Zygote:
    """The asking side. Entering it starts the fork server; leaving it ends that and everything it forked.

    Args:
        target: `module:function` to call in each process with its arguments; it returns the exit code. The module's
            `preload`, if it has one, is called once before the first fork.
        environment: what the processes find in their environment beside what this one has.
    """

    target: str
    environment: dict[str, str] = field(default_factory=dict)
    _server: subprocess.Popen[bytes] | None = None
    _socket: socket.socket | None = None
    _pending: bytearray = field(default_factory=bytearray)
    _ended: list[Ended] = field(default_factory=list)
    _ready: bool = False

    def __enter__(self) -> Self:
        own, theirs = socket.socketpair()
        command = [sys.executable, "-m", "collegium.apps._zygote", self.target, str(theirs.fileno()), str(os.getpid())]
        shared = {name: value for name, value in os.environ.items() if name not in UNSHARED}
        with theirs:
            # A session of its own: Ctrl-C in the terminal is for the supervisor, which stops the others in order.
            self._server = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**shared, **ONE_THREAD, **self.environment},
                start_new_session=True,
            )
        self._socket = own
        return self

    def __exit__(self, *_: object) -> None:
        """End the server, and so everything that still runs."""
        if self._socket is not None:
            self._socket.close()  # the server kills its processes and ends
        if self._server is not None:
            if not self._ready:
                self._server.kill()  # it has forked nothing yet, and would import to the end before it looks
            try:
                self._server.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._server.kill()  # what it forked dies with it
                self._server.wait()

    def start(self, arguments: Sequence[str], log: Path) -> int:
        """Fork a process whose output is appended to `log`, and return its pid.

        Raises:
            ZygoteError: the server is gone, or cannot fork.
        """
        self._say({"start": 0, "arguments": list(arguments), "log": str(log)})
        reply = self._await("started")
        if "pid" not in reply:
            raise ZygoteError(f"a process could not be started: {reply.get('error', 'no reason given')}")
        return int(reply["pid"])

    def wait_until_ready(self) -> None:
        """Return when everything is imported.

        Raises:
            ZygoteError: the server ended, or did not get there.
        """
        if not self._ready:
            reply = self._await("ready")
            if reply["ready"] is not True:
                raise ZygoteError(f"processes cannot be started: {reply.get('error', 'no reason given')}")
            self._ready = True

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to a process that was started here; nothing happens if it ended."""
        with suppress(ZygoteError):
            self._say({"signal": number, "pid": pid})

    def ended(self, timeout_s: float) -> list[Ended]:
        """Return what ended since the last call, after waiting at most so long for something to end.

        Raises:
            ZygoteError: the server itself ended.
        """
        self._read(0.0 if self._ended else timeout_s)
        ended, self._ended = self._ended, []
        return ended

    @property
    def _control(self) -> socket.socket:
        if self._socket is None:
            raise ZygoteError("nothing starts processes yet: enter the zygote first")
        return self._socket

    def _say(self, request: dict[str, object]) -> None:
        self.wait_until_ready()
        try:
            self._control.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise ZygoteError(f"the process that starts others is gone: {error}") from error

    def _await(self, key: str) -> dict[str, Any]:
        found = self._read(READY_TIMEOUT_S, until=key)
        if found is None:
            raise ZygoteError(f"the process that starts others gave no answer in {READY_TIMEOUT_S:.0f} s")
        return found

    def _read(self, timeout_s: float, until: str | None = None) -> dict[str, Any] | None:
        """Read replies for at most so long; note what ended, and return the first reply that has the key `until`."""
        found: dict[str, Any] | None = None
        while found is None:
            line, newline, rest = self._pending.partition(b"\n")
            if newline:
                self._pending = rest
                reply: dict[str, Any] = json.loads(line)
                if "ended" in reply:
                    self._ended.append(Ended(int(reply["ended"]), int(reply["code"])))
                elif until is not None and until in reply:
                    found = reply
                continue
            if (until is None and self._ended) or not select.select([self._control], [], [], timeout_s)[0]:
                break
            data = self._control.recv(LINE_BYTES_MAX)
            if not data:
                raise ZygoteError("the process that starts others ended; see its messages above")
            self._pending += data
        return found


# ------------------------------------------------------------------------------------------------ who forks


def serve(target_name: str, descriptor: int, parent: int) -> None:
    """Import the target and fork as asked until the socket closes; then kill what was forked."""
    _die_with(parent)
    control = socket.socket(fileno=descriptor)
    try:
        gc.disable()  # what imports leave is not garbage
        target = _load(target_name)
        gc.enable()
        gc.collect()
        gc.freeze()  # what is here now is never collected, so its pages stay shared
        _check_threads()
    except Exception as error:
        traceback.print_exc()
        _reply(control, {"ready": False, "error": f"{type(error).__name__}: {error}"})
        return
    _reply(control, {"ready": True})
    _Server(control, target).run()


class ThreadsRunningError(RuntimeError):
    """The zygote has more than one thread: a fork would copy locks that nobody releases."""


@dataclass(eq=False)
class _Server:
    control: socket.socket
    target: Target
    children: set[int] = field(default_factory=set)

    def run(self) -> None:
        """Serve requests and report ends, in one thread, until the socket closes."""
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        pending = bytearray()
        while True:
            ready, _, _ = select.select([self.control.fileno(), read_end], [], [])
            if read_end in ready:
                os.read(read_end, LINE_BYTES_MAX)
                self._reap()
            if self.control.fileno() in ready:
                data = self.control.recv(LINE_BYTES_MAX)
                if not data:
                    break
                pending += data
                *lines, rest = pending.split(b"\n")
                pending = bytearray(rest)
                for line in lines:
                    self._obey(json.loads(line))
        for pid in self.children:
            os.kill(pid, signal.SIGKILL)  # not reaped yet: the pid is nobody else's
        for pid in self.children:
            os.waitpid(pid, 0)

    def _obey(self, request: dict[str, Any]) -> None:
        if "signal" in request:
            if request["pid"] in self.children:  # not reaped yet: the pid is nobody else's
                os.kill(request["pid"], request["signal"])
            return
        try:
            _check_threads()
            pid = self._fork(request["arguments"], request["log"])
        except (OSError, ThreadsRunningError) as error:
            _reply(self.control, {"started": request["start"], "error": str(error)})
            return
        self.children.add(pid)
        _reply(self.control, {"started": request["start"], "pid": pid})

    def _fork(self, arguments: list[str], log: str) -> int:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        own = os.getpid()
        pid = os.fork()
        if pid:
            os.close(output)
            return pid
        code = CODE_BUG
        try:
            _die_with(own)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.control.close()
            os.dup2(output, sys.stdout.fileno())
            os.dup2(output, sys.stderr.fileno())
            code = self.target(arguments)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else CODE_BUG
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        while self.children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            self.children.discard(pid)
            _reply(self.control, {"ended": pid, "code": os.waitstatus_to_exitcode(status)})


def _load(name: str) -> Target:
    module_name, _, function = name.partition(":")
    module = importlib.import_module(module_name)
    preload = getattr(module, "preload", None)
    if preload is not None:
        preload()
    target: Target = getattr(module, function)
    return target


def _reply(control: socket.socket, reply: dict[str, object]) -> None:
    with suppress(OSError):  # nobody listens any more: the next read says so
        control.sendall(json.dumps(reply).encode() + b"\n")


def _check_threads() -> None:
    count = len(os.listdir(TASKS)) if TASKS.is_dir() else 1
    if count != 1:
        raise ThreadsRunningError(f"{count} threads run in the process that forks, expected 1")


def _die_with(parent: int) -> None:
    """Have the system kill this process when its parent ends; on Linux alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before that took effect
        os._exit(CODE_BUG)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
