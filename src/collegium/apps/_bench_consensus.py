"""What agreeing costs: one decision beside all-to-all voting, a whole round's critical path, and ten thousand trainers.

What is measured and what is not: docs/guide/benchmarks.md. Targets are printed beside the rows that have one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Final

from collegium.apps._all_to_all_peer import all_to_all_replicas
from collegium.apps._bench_decision import PAYLOAD_BYTES, DecisionMeasure, measure_decisions
from collegium.apps._bench_round import WATTS, RoundCase, RoundMeasure, measure_rounds
from collegium.apps._bench_rows import (
    Row,
    Spread,
    figure_row,
    is_loaded,
    load_text,
    machine,
    note_row,
    progress,
    spread_row,
    with_target,
)
from collegium.apps._bench_sharded import Costs, ShardCase, ShardedRound, play_sharded, sample_shard
from collegium.apps._bench_sockets import PROCESSES, SocketHosts, SocketMeasure, SocketsStalledError
from collegium.apps._order_replica import order_replicas
from collegium.errors import CollegiumError

__all__ = ["PARTS", "UnknownPartError", "consensus_rows", "decision_rows", "round_rows", "sharded_rows"]

PARTS: Final = ("decision", "round", "shards")
COORDINATION_MS: Final = 500.0
FINALITY_MS: Final = 2_000.0
DECISION_JOULES: Final = 360.0
TRAINERS: Final = 10_000
PAIRS_MAX: Final = 64  # validators whose pairs are all connected: at 128 these are 8,128 mutual-TLS connections
LINK_MS: Final = 50
REPEATS: Final = 3
REPEATS_LARGE: Final = 2

SIZES: Final = (16, 32, 64, 128)
QUICK_SIZES: Final = (16, 32)
ROUNDS: Final = (
    RoundCase(16, (50, 0, 100)),
    RoundCase(32, (50, 0, 100)),
    RoundCase(64, (50, 50, 50, 0, 100)),  # the one that has targets
    RoundCase(128, (50, 0, 100)),
)
QUICK_ROUNDS: Final = (RoundCase(16, (50, 0, 100), trainers=16, parameters=10_000),)
SHARDS: Final = ShardCase()
QUICK_SHARDS: Final = ShardCase(seats=16, validators=64, parameters=10_000, sample=16)


class UnknownPartError(CollegiumError):
    """There is no part of the benchmark of this name."""


def consensus_rows(*, quick: bool, part: str | None = None) -> Iterator[Row]:
    """Yield the machine and its load, the rows of one part or all, then the load at the end.

    A row has `name`, `case`, `ours`, `peer`, `ratio` (peer / ours) and `unit`; a spread also `ours_min`, `ours_max` and
    `ours_runs`, and the peer's; one with a target `target` and `met`, None for a time under load.

    Raises:
        UnknownPartError: there is no such part.
        UndecidedError, WrongSumError, StalledError: a bug, and no figure is worth printing.
    """
    if part is not None and part not in PARTS:
        raise UnknownPartError(f"--part is {part!r}, expected one of {', '.join(PARTS)}", part=part)
    for name, text in machine().items():
        if name != "flwr":
            yield note_row(name, text)
    yield note_row("load before", load_text())
    if part in (None, "decision"):
        with closing(SocketHosts()) as hosts:
            for size in QUICK_SIZES if quick else SIZES:
                yield from _decision(size, hosts)
    if part in (None, "round"):
        for case in QUICK_ROUNDS if quick else ROUNDS:
            progress(f"rounds of {case.seats} seats, {case.trainers} trainers, {case.parameters:,} parameters")
            yield from round_rows(case, *measure_rounds(case), loaded=is_loaded())
    if part in (None, "shards"):
        shards = QUICK_SHARDS if quick else SHARDS
        progress(f"{shards.trainers:,} trainers in {shards.shards} shards")
        costs = sample_shard(shards)
        yield from sharded_rows(shards, costs, play_sharded(shards, costs))
    yield note_row("load after", load_text())


# One decision


def _decision(size: int, hosts: SocketHosts) -> Iterator[Row]:
    progress(f"one decision of {size} validators")
    repeats = REPEATS if size <= PAIRS_MAX else REPEATS_LARGE
    ours = measure_decisions(order_replicas, size, LINK_MS, repeats=repeats)
    peer = measure_decisions(all_to_all_replicas, size, LINK_MS, repeats=repeats)
    yield from decision_rows(size, ours, peer)
    if size > PAIRS_MAX:
        yield note_row("over sockets", f"not at {size}: {size * (size - 1) // 2:,} connections")
        return
    try:
        progress(f"{size} validators over sockets")
        yield from socket_rows(
            size, hosts.measure("ours", size, repeats=repeats), hosts.measure("all-to-all", size, repeats=repeats)
        )
    except SocketsStalledError as error:
        yield note_row("over sockets", f"not measured at {size}: {error}")


def decision_rows(size: int, ours: DecisionMeasure, peer: DecisionMeasure) -> Iterator[Row]:
    """Yield what one decision takes in one process, ours and the peer's."""
    case = f"{size} validators"
    yield figure_row("decision: messages", case, ours.messages, peer.messages, f"a payload of {PAYLOAD_BYTES:,} B")
    yield figure_row("decision: bytes", case, ours.sent_bytes / 1e3, peer.sent_bytes / 1e3, "kB")
    yield figure_row("decision: certificate", case, ours.certificate_bytes, peer.certificate_bytes, "B")
    yield spread_row("decision: CPU, all", case, ours.cpu_seconds, peer.cpu_seconds, 1e3, "ms")
    yield spread_row("decision: wall, 1 process", case, ours.wall_seconds, peer.wall_seconds, 1e3, "ms")
    path = spread_row("decision: own machines", case, ours.path_ms, peer.path_ms, 1, "ms")
    yield path | {"unit": f"{path['unit']}, virtual time, {LINK_MS} ms one way"}
    joules, theirs = ours.cpu_seconds.median * WATTS, peer.cpu_seconds.median * WATTS
    yield with_target(
        figure_row("decision: energy", case, joules, theirs, f"J, {WATTS} W a core"), joules, DECISION_JOULES
    )


def socket_rows(size: int, ours: SocketMeasure, peer: SocketMeasure) -> Iterator[Row]:
    """Yield what one decision takes over sockets."""
    case = f"{size} validators"
    name = f"sockets, {PROCESSES} processes"
    yield spread_row(f"{name}: wall", case, ours.wall_seconds, peer.wall_seconds, 1e3, "ms")
    yield spread_row(f"{name}: CPU", case, ours.cpu_seconds, peer.cpu_seconds, 1e3, "ms")
    yield figure_row(f"{name}: memory", case, ours.peak_bytes / 1e6, peer.peak_bytes / 1e6, "MB resident, together")


# A whole round


def round_rows(case: RoundCase, rounds: Sequence[RoundMeasure], peak: int, *, loaded: bool = False) -> Iterator[Row]:
    """Yield a committee's rounds by link, and of the first link what the time went into."""
    for link in dict.fromkeys(case.links_ms):
        yield from _link_rows(case, [played for played in rounds if played.link_ms == link], link, loaded)
    first = [played for played in rounds if played.link_ms == case.links_ms[0]]
    yield from _kind_rows(_name(case, case.links_ms[0]), first[-1])
    yield figure_row(
        "round: peak memory", _name(case), peak / 1e6, None, "MB resident, all seats and trainers in one process"
    )


def _name(case: RoundCase, link_ms: int | None = None) -> str:
    name = f"{case.seats} x {case.trainers} x {case.parameters // 1000}k"
    return name if link_ms is None else f"{name}, {link_ms} ms"


def _link_rows(case: RoundCase, rounds: Sequence[RoundMeasure], link: int, loaded: bool) -> Iterator[Row]:
    name = _name(case, link)
    aimed = (case.seats, case.trainers, case.parameters, link) == (64, 100, 100_000, 50)
    for what, values, target in (
        ("coordination", [played.coordination_ms for played in rounds], COORDINATION_MS),
        ("finality", [played.finality_ms for played in rounds], FINALITY_MS),
    ):
        row = spread_row(f"round: {what}", name, Spread.of(values), None, 1, "ms")
        yield with_target(row, row["ours"], target, judged=not loaded) if aimed else row
    messages, sent = rounds[-1].between
    uploads = rounds[-1].kinds["Upload"].sent_bytes
    yield figure_row("round: messages", name, messages, None, "between validators")
    yield figure_row("round: bytes", name, sent / 1e6, None, f"MB, {sent / case.seats / 1e6:,.3g} a validator")
    yield figure_row("round: uploads", name, uploads / 1e6, None, f"MB, {uploads / case.seats / 1e6:,.3g} a validator")
    cpu = spread_row("round: CPU, all seats", name, Spread.of([played.cpu_seconds for played in rounds]), None, 1, "s")
    yield cpu
    joules = cpu["ours"] * WATTS
    energy = figure_row("round: energy", name, joules, None, f"J, {WATTS} W a core")
    yield with_target(energy, joules, DECISION_JOULES, judged=not loaded) if aimed else energy


def _kind_rows(name: str, played: RoundMeasure) -> Iterator[Row]:
    """Yield the critical path of one round, and every kind of message with what it took."""
    path = played.path
    links, timers = sum(hop.link_ms for hop in path), sum(hop.timer_ms for hop in path)
    yield figure_row("path: links", name, links, None, f"ms, {sum(1 for hop in path if hop.link_ms)} hops")
    yield figure_row("path: clocks", name, timers, None, "ms waited for a timer")
    steps = Counter(hop.kind for hop in path)
    compute = {kind: sum(hop.compute_ms for hop in path if hop.kind == kind) for kind in steps}
    for kind, took in sorted(compute.items(), key=lambda item: -item[1]):
        yield figure_row(f"path: {kind}", name, took, None, f"ms in {steps[kind]} steps")
    for kind, cost in sorted(played.kinds.items(), key=lambda item: -item[1].compute_ms):
        sent = f"{cost.messages:,} messages, {cost.sent_bytes / 1e6:,.3g} MB"
        yield figure_row(f"all: {kind}", name, cost.compute_ms, None, f"ms in {cost.deliveries:,} deliveries, {sent}")


# Ten thousand trainers


def sharded_rows(case: ShardCase, costs: Costs, played: ShardedRound) -> Iterator[Row]:
    """Yield what was sampled, and what the round took with that charged to every shard."""
    name = f"{case.trainers:,} trainers"
    shape = (
        f"{case.shards} sums of at most {case.shard_trainers}, {case.seats} seats each of {case.validators} validators"
    )
    yield figure_row(
        "shards: shape", name, None, None, f"{shape}, {case.parameters:,} parameters, {case.link_ms} ms links"
    )
    yield figure_row(
        "shards: really played",
        name,
        case.sample,
        None,
        f"one shard's uploads, all {case.seats} seats' columns, opening, certificate; both decisions; the rest charged",
    )
    met = case.trainers >= TRAINERS
    said = f"the sampled sum opened true, target at least {TRAINERS:,}: {'met' if met else 'missed'}"
    yield figure_row("shards: trainers", name, case.trainers, None, said) | {"target": TRAINERS, "met": met}
    for part in ("upload", "admit"):
        yield spread_row(f"sampled: {part}", name, costs.spread[part], None, 1, "ms")
    for part in ("open", "check_key_sum", "sign", "vote", "gather", "check_certificate", "add_total"):
        yield figure_row(f"sampled: {part.replace('_', ' ')}", name, float(getattr(costs, part)), None, "ms")
    yield figure_row("shards: closes final", name, played.closes_ms, None, "ms after the last report, virtual time")
    yield figure_row("shards: all certified", name, played.certified_ms, None, "ms")
    yield figure_row("shards: header final", name, played.final_ms, None, "ms")
    yield figure_row("shards: busiest validator", name, played.seats_most, None, "seats")
    yield figure_row("shards: messages", name, played.messages, None, "after the last report")
    each = played.sent_bytes / case.validators / 1e6
    yield figure_row("shards: bytes", name, played.sent_bytes / 1e6, None, f"MB, {each:,.3g} a validator")
    totals = case.shards * costs.total_bytes / 1e6
    yield figure_row(
        "shards: opened sums", name, totals, None, "MB that each validator fetches besides: no link is charged"
    )
    uploads = case.trainers * case.seats * costs.upload_bytes / case.validators / 1e6
    yield figure_row("shards: uploads", name, uploads, None, "MB a validator, every report to each seat of its shard")
    yield figure_row(
        "shards: CPU, admitting", name, played.admission_cpu_seconds, None, "s, all seats, as reports arrive"
    )
    yield figure_row(
        "shards: CPU, agreeing", name, played.cpu_seconds, None, "s, all validators, after the last report"
    )
