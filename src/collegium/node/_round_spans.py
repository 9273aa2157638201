"""A node's rounds as OpenTelemetry spans: one trace a round, the same on every node of the task.

Without the extra `telemetry`, or without a place to write to, every call does nothing. Attributes are public: numbers,
names and digests' beginnings, never a key, a row or an update.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any, Final

from collegium.consensus import RoundState
from collegium.crypto import Digest, hash_fields

__all__ = ["ROUND_STEPS", "RoundSpans", "SpanWriter", "step_of"]

ROUND_STEPS: Final = ("admit", "close", "release", "open", "certify", "finish")
_SCOPE: Final = "collegium.round"


def step_of(state: RoundState, trainers: int) -> str:
    """Return the step that a validator's round is in, as it can tell from what is here; docs/spec/round.md names them.

    Args:
        trainers: how many are registered: when all their reports are here, the round waits for its close.
    """
    if state.close is None:
        return "close" if len(state.reports) >= trainers else "admit"
    if state.certified is not None:
        return "finish"
    if state.own is not None or state.heard:
        return "certify"
    return "open" if set(state.close.seats) <= set(state.sums_for(state.close.digest)) else "release"


class SpanWriter:
    """Writes finished spans to a file, one JSON object a line; None of it where the SDK is not installed."""

    def __init__(self, path: Path) -> None:
        self.provider: Any = None
        self._file: IO[str] | None = None
        try:
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
        except ImportError:
            return
        self._file = path.open("a", encoding="utf-8")
        exporter = ConsoleSpanExporter(out=self._file, formatter=lambda span: span.to_json(indent=None) + "\n")
        self.provider = TracerProvider(resource=Resource({"service.name": "collegium"}), shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(exporter))

    def close(self) -> None:
        """Write what is left."""
        if self.provider is not None:
            self.provider.shutdown()
        if self._file is not None:
            self._file.close()


class RoundSpans:
    """The spans of one node: a round, and within it the steps of ROUND_STEPS, each until the next begins.

    Args:
        provider: OpenTelemetry's TracerProvider, e.g. a `SpanWriter`'s; None: nothing is recorded.
    """

    def __init__(self, task: Digest, role: str, index: int, provider: Any = None) -> None:
        self._task = task
        self._place = {"collegium.task": task.hex()[:16], "collegium.role": role, "collegium.index": index}
        self._tracer: Any = None if provider is None else provider.get_tracer(_SCOPE)
        self._round: Any = None
        self._step: Any = None
        self._present = (-1, "")

    def begin(self, round_number: int) -> None:
        """Begin a round, whose first step is to admit; a round that did not finish ends here."""
        if self._tracer is None:
            return
        self.finish("unfinished")
        attributes = {**self._place, "collegium.round": round_number}
        self._present = (round_number, "")
        self._round = self._tracer.start_span("round", self._parent(round_number), attributes=attributes)
        self.step("admit")

    def at(self, round_number: int, name: str, **attributes: str | int | float | bool) -> None:
        """Note where a round is: begins the round, or the step, unless it is the present one."""
        if self._tracer is None or (round_number, name) == self._present:
            return
        if round_number != self._present[0]:
            self.begin(round_number)
        if name != self._present[1]:
            self.step(name, **attributes)

    def step(self, name: str, **attributes: str | int | float | bool) -> None:
        """Begin the next step of the present round; attributes say what it begins with."""
        if self._round is None:
            return
        from opentelemetry import trace

        self._end_step()
        self._present = (self._present[0], name)
        self._step = self._tracer.start_span(
            name, trace.set_span_in_context(self._round), attributes=_prefixed(attributes)
        )

    def note(self, **attributes: str | int | float | bool) -> None:
        """Add attributes to the present step."""
        if self._step is not None:
            self._step.set_attributes(_prefixed(attributes))

    def finish(self, outcome: str, **attributes: str | int | float | bool) -> None:
        """End the present round, if there is one."""
        if self._round is None:
            return
        self._end_step()
        self._round.set_attributes({"collegium.outcome": outcome, **_prefixed(attributes)})
        self._round.end()
        self._round = None

    def _end_step(self) -> None:
        if self._step is not None:
            self._step.end()
        self._step = None

    def _parent(self, round_number: int) -> Any:
        """Return the context of a round, which no node records itself: all nodes' spans of it share its trace."""
        from opentelemetry import trace

        name = hash_fields("trace", self._task, round_number)
        context = trace.SpanContext(
            trace_id=int.from_bytes(name[:16], "big"),
            span_id=int.from_bytes(name[16:24], "big"),
            is_remote=True,
            trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
        )
        return trace.set_span_in_context(trace.NonRecordingSpan(context))


def _prefixed(attributes: dict[str, str | int | float | bool]) -> dict[str, str | int | float | bool]:
    return {f"collegium.{name}": value for name, value in attributes.items()}
