"""Members that learn nothing: each says what its role says in a log, as its settings file tells it apart.

A file `fate` beside the settings decides otherwise, once: `crash` ends it by SIGKILL, `refuse` with an error.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROUNDS = 2


def main(arguments: Sequence[str]) -> int:
    """Play the member whose settings file is given."""
    config = Path(arguments[0])
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    fate = config.with_name("fate")
    if fate.exists():
        what = fate.read_text()
        fate.unlink()
        if what == "refuse":
            print("error: its settings are refused", file=sys.stderr, flush=True)
            return 2
        os.kill(os.getpid(), signal.SIGKILL)
    say("ready", round=0)
    role = tomllib.loads(config.read_text())["node"]["role"]
    for number in range(ROUNDS + 1):
        match role:
            case "validator":
                say("round_final", round=number, outcome="opened", reports=6, view=number)
            case "trainer":
                say("upload_sent", round=number, bytes=1000)
            case "evaluator" if number:
                say("evaluation", round=number, auc=0.5 + number / 10, accuracy=0.75, loss=0.25)
    if role == "relayer":
        say("checkpoint", first_round=0, last_round=ROUNDS, gas=160_000, calldata_bytes=200, digest="ab" * 32)
    while role == "validator" and not stop:
        time.sleep(0.01)
    say("finished")
    return 0


def say(event: str, **fields: object) -> None:
    """Write a line of the log."""
    print(json.dumps({"event": event, **fields}), file=sys.stderr, flush=True)
