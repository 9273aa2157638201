"""What a node tells its operator: metrics for Prometheus, and a log of JSON lines. Neither holds a secret.

Raw bytes and large integers never reach the log: of a key one sees its length, of a public digest the caller gives
`short(digest)`.
Spans of rounds are `_round_spans`' business. Nothing here is needed for the protocol.
"""

from __future__ import annotations

import collections
import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final, TextIO

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from collegium.crypto import Digest

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

__all__ = ["LABELS_MAX", "NodeMetrics", "forward_library_logs", "logger", "short"]

LABELS_MAX: Final = 64
STEP_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_DEPTH_MAX: Final = 4
_TEXT_LENGTH_MAX: Final = 2048


class NodeMetrics:
    """A node's metrics, in a registry of their own. A label takes at most LABELS_MAX values, then `other`."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._seen: dict[str, set[str]] = {}
        self._sent_so_far, self._cut_so_far = 0, collections.Counter[str]()
        counter, gauge = self._counter, self._gauge
        self._rounds = counter("rounds", "Rounds that became final here.", "outcome")
        self._round = gauge("round", "The round that this node is in.")
        self._epoch = gauge("epoch", "The epoch that this node is in.")
        self._member = gauge("member", "1: this validator has a place in the epoch's set. 0: it follows without one.")
        self._member.set(1)
        self._view = gauge("view", "The view that ordering is in.")
        self._view_changes = counter("view_changes", "Views that were given up.")
        self._peers = gauge("peers_connected", "Other validators that this one is connected to.")
        self._queues = gauge("queue_length", "What waits.", "queue")
        self._refused = counter("refused", "What was refused, by the name of the error.", "what", "reason")
        self._cut_offs = counter("cut_offs", "Connections that were cut off.", "reason")
        self._uploads = counter("uploads", "Uploads that ended, by what became of them.", "outcome")
        self._records = counter("records", "Stewards' records that were brought, by what became of them.", "outcome")
        self._uploads_open = gauge("uploads_open", "Uploads under way.")
        self._upload_bytes = counter("upload_bytes", "Bytes that trainers uploaded.")
        self._persisted_bytes = counter("persisted_bytes", "Bytes that the journal wrote.")
        self._sent_bytes = counter("sent_bytes", "Bytes sent to other validators.")
        self._step_seconds = Histogram(
            "collegium_step_seconds",
            "Seconds that a step of the state machine took, by kind of message.",
            ["message"],
            registry=self.registry,
            buckets=STEP_SECONDS,
        )

    # -------------------------------------------------------------------------------------------- rounds and order

    def entered(self, round_number: int) -> None:
        """Note the round that begins."""
        self._round.set(round_number)

    def in_epoch(self, epoch: int, *, member: bool) -> None:
        """Note the epoch that begins, and whether this validator has a place in it."""
        self._epoch.set(epoch)
        self._member.set(int(member))

    def finished(self, outcome: str) -> None:
        """Count a final round."""
        self._rounds.labels(self._label("outcome", outcome)).inc()

    def in_view(self, view: int) -> None:
        """Note the view."""
        self._view.set(view)

    def view_changed(self, count: int = 1) -> None:
        """Count views that were given up."""
        self._view_changes.inc(count)

    def stepped(self, message: str, took_s: float) -> None:
        """Note how long one step of the state machine took, by the message's kind."""
        self._step_seconds.labels(self._label("message", message)).observe(took_s)

    def persisted(self, count: int) -> None:
        """Count bytes that the journal wrote."""
        self._persisted_bytes.inc(count)

    # -------------------------------------------------------------------------------------------- network

    def set_peers(self, connected: int) -> None:
        """Note how many other validators are connected."""
        self._peers.set(connected)

    def set_queue(self, queue: str, length: int) -> None:
        """Note how long a queue is."""
        self._queues.labels(self._label("queue", queue)).set(length)

    def peers_so_far(self, sent_bytes: int, cut_offs: Mapping[str, int]) -> None:
        """Count what the transport has sent to other validators, and the peers that it has cut off, since last told.

        Args:
            sent_bytes, cut_offs: in all since the process began; the latter by reason.
        """
        self._sent_bytes.inc(sent_bytes - self._sent_so_far)
        for reason, count in (collections.Counter(cut_offs) - self._cut_so_far).items():
            self._cut_offs.labels(self._label("cut-off", reason)).inc(count)
        self._sent_so_far, self._cut_so_far = sent_bytes, collections.Counter(cut_offs)

    def refused(self, what: str, reason: str) -> None:
        """Count a refusal by the name of its error."""
        self._refused.labels(self._label("what", what), self._label("reason", reason)).inc()

    def cut_off(self, reason: str) -> None:
        """Count a connection that was cut off."""
        self._cut_offs.labels(self._label("cut-off", reason)).inc()

    # -------------------------------------------------------------------------------------------- uploads

    def uploads(self, outcome: str, count: int = 1) -> None:
        """Count uploads that ended."""
        self._uploads.labels(self._label("upload", outcome)).inc(count)

    def records(self, outcome: str) -> None:
        """Count a steward's record that was brought."""
        self._records.labels(self._label("record", outcome)).inc()

    def set_uploads_open(self, count: int) -> None:
        """Note how many uploads are under way."""
        self._uploads_open.set(count)

    def upload_bytes(self, count: int) -> None:
        """Count bytes that trainers uploaded."""
        self._upload_bytes.inc(count)

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"collegium_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"collegium_{name}", text, labels, registry=self.registry)

    def _label(self, kind: str, value: str) -> str:
        """Return a label's value; whoever sends ever new names cannot make the registry grow."""
        seen = self._seen.setdefault(kind, set())
        if value not in seen and len(seen) >= LABELS_MAX:
            return "other"
        seen.add(value)
        return value


# ---------------------------------------------------------------------------------------------------- log


def short(digest: Digest) -> str:
    """Return the first 16 hexadecimal digits of something public."""
    return digest[:8].hex()


def logger(
    role: str, index: int | None = None, stream: TextIO | None = None, level: str = "info"
) -> FilteringBoundLogger:
    """Return a log of JSON lines: `logger("validator", 3).info("round-finished", round=7)`.

    Args:
        role, index: who speaks, in every line.
        stream: where to; standard error if None.
        level: the least that is written.
    """
    import structlog

    bound: FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(stream or sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _without_secrets,
            structlog.processors.JSONRenderer(sort_keys=False, ensure_ascii=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        cache_logger_on_first_use=True,
    )
    place = {"role": role} if index is None else {"role": role, "index": index}
    return bound.bind(**place)


def _without_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Make every value one that JSON holds and that cannot be a key: of bytes only their number is left."""
    return {str(name): _plain(value) for name, value in event.items()}


def _plain(value: object, depth: int = 0) -> object:
    plain: object = f"<{type(value).__name__}>"
    match value:
        case None | bool() | float():
            plain = value
        case int():
            plain = value if value.bit_length() < 64 else f"<{value.bit_length()} bits>"
        case bytes() | bytearray() | memoryview():
            plain = f"<{len(value)} bytes>"
        case BaseException():
            plain = f"{type(value).__name__}: {value}"[:_TEXT_LENGTH_MAX]
        case str():
            plain = value[:_TEXT_LENGTH_MAX]
        case Mapping() if depth < _DEPTH_MAX:
            plain = {str(name): _plain(item, depth + 1) for name, item in value.items()}
        case list() | tuple() | set() | frozenset() if depth < _DEPTH_MAX:
            plain = [_plain(item, depth + 1) for item in value]
    return plain


class _Forward(logging.Handler):
    """Hands the lines of a library's log on to ours."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line: the library's name, its text, and of an error its kind."""
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        fields = {"library": record.name, "text": record.getMessage()} | ({"error": kind} if kind else {})
        self._log.log(record.levelno, "library", **fields)


def forward_library_logs(log: FilteringBoundLogger, names: tuple[str, ...] = ("uvicorn", "asyncio")) -> None:
    """Send what these libraries log to `log`, and nowhere else; a second call replaces the first."""
    for name in names:
        library = logging.getLogger(name)
        library.handlers = [_Forward(log)]
        library.propagate = False
