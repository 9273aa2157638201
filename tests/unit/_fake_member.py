"""What tests of supervision start in place of a member: it does what its one argument says."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

PRELOADED = []


def preload() -> None:
    """Note who imported this."""
    PRELOADED.append(os.getpid())


def main(arguments: Sequence[str]) -> int:
    """Exit, raise, wait to be killed, or write what a member writes."""
    what, *more = Path(arguments[0]).read_text().split() if Path(arguments[0]).is_file() else list(arguments)
    match what:
        case "exit":
            return int(more[0])
        case "raise":
            raise RuntimeError("our bug")
        case "where":
            print(os.getppid(), PRELOADED[0], os.getpgid(0), flush=True)
        case "environment":
            print(*sorted(name for name in os.environ if name.startswith("COLLEGIUM_")), "end", flush=True)
        case "say":
            print(json.dumps({"event": more[0], "round": int(more[1])}), file=sys.stderr, flush=True)
        case "wait":
            wait(stubborn=False)
        case "stubborn":
            wait(stubborn=True)
    return 0


def wait(*, stubborn: bool) -> None:
    """Say that one is ready, and wait for the signal to stop; whoever is stubborn does not stop."""
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: None if stubborn else stop.append(1))
    print(json.dumps({"event": "ready"}), file=sys.stderr, flush=True)
    while not stop:
        time.sleep(0.01)


def threaded() -> None:
    """Start a thread that never ends, as an import might."""
    threading.Thread(target=threading.Event().wait, daemon=True).start()
