"""What a relayer counts, as a text file that Prometheus' node exporter collects: a relayer serves nothing."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

__all__ = ["RelayMetrics"]


class RelayMetrics:
    """A relayer's metrics, by the place of the chain: 0 is home."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._steps = self._gauge("steps", "Checkpoints and openings of epochs that the chain has taken.")
        self._behind = self._gauge("behind", "Certified steps that the chain has not taken yet.")
        self._last_round = self._gauge("last_round", "The last round that a checkpoint on the chain covers.")
        self._gas = self._counter("gas", "Gas that this relayer's transactions took.")
        self._lost = self._counter("lost_steps", "Steps that a reorganisation took back.")
        self._replaced = self._counter("replaced", "Transactions that were replaced by one that offers more.")
        self._waits = Counter("collegium_relay_waits", "Waits, by reason.", ["chain", "reason"], registry=self.registry)

    def took(self, place: int, steps: int, behind: int, last_round: int, gas: int) -> None:
        """Note that a chain has taken a step: how many in all, how many it lacks, and the gas of this one."""
        self._steps.labels(place).set(steps)
        self._behind.labels(place).set(behind)
        self._last_round.labels(place).set(last_round)
        self._gas.labels(place).inc(gas)

    def lacks(self, place: int, behind: int) -> None:
        """Note how many steps a chain lacks."""
        self._behind.labels(place).set(behind)

    def lost(self, place: int, count: int) -> None:
        """Count steps that a reorganisation took back."""
        self._lost.labels(place).inc(count)

    def replaced(self, place: int) -> None:
        """Count a transaction that was replaced."""
        self._replaced.labels(place).inc()

    def waits(self, place: int, reason: str) -> None:
        """Count a wait; reasons are the names of events in the log."""
        self._waits.labels(place, reason).inc()

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"collegium_relay_{name}", text, ["chain"], registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"collegium_relay_{name}", text, ["chain"], registry=self.registry)
