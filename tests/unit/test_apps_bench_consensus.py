"""The benchmark of consensus decides on both sides, follows the critical path, and says what was really played."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from typer.testing import CliRunner

from collegium.apps._all_to_all_peer import PREPARE, AllToAllReplica, PeerFrameError, all_to_all_replicas
from collegium.apps._bench_consensus import UnknownPartError, consensus_rows, decision_rows, round_rows, sharded_rows
from collegium.apps._bench_decision import DecisionMeasure, UndecidedError, measure_decisions
from collegium.apps._bench_round import Hop, Kind, RoundCase, RoundMeasure, Step, critical_path, measure_rounds
from collegium.apps._bench_rows import Spread
from collegium.apps._bench_sharded import ShardCase, play_sharded, sample_shard
from collegium.apps._bench_sockets import SocketHosts, SocketsStalledError
from collegium.apps._order_replica import Frame, Replica, order_replicas
from collegium.apps.cli import Engine, ExitCode, app

ONE = Spread.of([1.0])
TARGET = RoundCase(64, (50,))


def played(coordination_ms: float) -> RoundMeasure:
    kinds = {"Upload": Kind(6_400, 1e3, 6_400, 10**9), "Release": Kind(4_096, 500.0, 4_032, 10**7)}
    return RoundMeasure(
        50, coordination_ms, 900.0, kinds, (Hop("Release", 3.0, 50.0, 0.0), Hop("Release", 2.0, 0.0, 7.0))
    )


def row_of(rows: Iterable[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(row for row in rows if row["name"] == name)


# One decision


@pytest.mark.parametrize("replicas", [order_replicas, all_to_all_replicas])
def test_every_replica_decides_and_only_frames_between_replicas_count(replicas: Any) -> None:
    measure = measure_decisions(replicas, 4, 50, repeats=2)
    assert measure.messages > 4
    assert measure.sent_bytes > 3 * 4_000  # the payload to three others at least
    assert measure.path_ms.median >= 3 * 50
    assert measure.cpu_seconds.runs == 2


def test_all_to_all_sends_what_pbft_does_and_ours_less_in_a_larger_committee() -> None:
    ours, peer = (measure_decisions(replicas, 16, 50, repeats=1) for replicas in (order_replicas, all_to_all_replicas))
    assert peer.messages == 15 + 2 * 16 * 15
    assert peer.certificate_bytes == 11 * 66
    assert ours.messages < peer.messages
    assert ours.certificate_bytes == 2 + 48


def test_replica_that_does_not_decide_stops_the_benchmark() -> None:
    class Silent:
        decided = certificate_bytes = 0

        def propose(self, payload: bytes) -> Iterator[Frame]:
            return iter(())

        def take(self, sender: int, data: bytes) -> Iterator[Frame]:
            return iter(())

    def silent(size: int, seed: bytes, own: Iterable[int]) -> dict[int, Replica]:
        return {index: Silent() for index in own}

    with pytest.raises(UndecidedError, match="0 of 4"):
        measure_decisions(silent, 4, 50, repeats=1)


def test_peer_refuses_frames_that_are_not_their_senders() -> None:
    first, second = (all_to_all_replicas(4, bytes(32), [index])[index] for index in (0, 1))
    assert isinstance(first, AllToAllReplica)
    proposal = next(iter(first.propose(b"payload"))).data
    votes = list(second.take(0, proposal))
    assert len(votes) == 1
    assert votes[0].data[0] == PREPARE
    assert list(first.take(1, votes[0].data)) == []
    forged = votes[0].data[:-1] + bytes([votes[0].data[-1] ^ 1])
    for sender, data, error in (
        (2, votes[0].data, "came from 2"),
        (1, forged, "does not hold"),
        (1, forged[:20], "20 bytes"),
        (0, proposal + b"!", "its leader's"),
    ):
        with pytest.raises(PeerFrameError, match=error):
            list(first.take(sender, data))


@pytest.mark.slow
def test_the_same_processes_decide_over_mutual_tls_by_either_protocol() -> None:
    with closing(SocketHosts(processes=2)) as hosts:
        for protocol, size in (("ours", 4), ("all-to-all", 4), ("ours", 3)):
            measure = hosts.measure(protocol, size, repeats=1)
            assert measure.wall_seconds.runs == 1
            assert measure.peak_bytes > 0
        with pytest.raises(SocketsStalledError, match="a process ended"):
            hosts.measure("neither", 4, repeats=1)


# A whole round


def test_critical_path_goes_through_the_message_or_the_work_that_was_waited_for() -> None:
    steps = [
        Step(0, "Upload", None, 0.0, 10.0, 10.0),
        Step(1, "Upload", None, 0.0, 40.0, 40.0),
        Step(1, "Receipt", 0, 60.0, 65.0, 5.0),
        Step(2, "Vote", 1, 115.0, 116.0, 1.0),
        Step(2, "Other", 0, 60.0, 136.0, 20.0),
        Step(2, "Alarm", 2, 150.0, 151.0, 1.0),
    ]
    assert critical_path(steps, 3, 10.0, 50) == (Hop("Receipt", 5.0, 50.0, 0.0), Hop("Vote", 1.0, 50.0, 0.0))
    assert [hop.kind for hop in critical_path(steps, 4, 10.0, 50)] == ["Receipt", "Vote", "Other"]
    assert critical_path(steps, 5, 116.0, 50) == (Hop("Other", 20.0, 0.0, 0.0), Hop("Alarm", 1.0, 0.0, 14.0))


@pytest.mark.parametrize(
    ("since_ms", "first"),
    [(10.0, Hop("Vote", 4.0, 50.0, 0.0)), (12.5, Hop("Vote", 4.0, 47.5, 0.0)), (62.0, Hop("Vote", 2.0, 0.0, 0.0))],
)
def test_what_was_under_way_when_the_path_begins_counts_from_there_on(since_ms: float, first: Hop) -> None:
    steps = [Step(0, "Upload", None, 0.0, 10.0, 10.0), Step(1, "Vote", 0, 60.0, 64.0, 4.0)]
    assert critical_path(steps, 1, since_ms, 50) == (first,)


@pytest.mark.slow
def test_round_is_measured_by_link_and_its_path_adds_up_to_its_finality() -> None:
    rounds, peak = measure_rounds(RoundCase(16, (50, 0), trainers=4, parameters=64))
    assert [measure.link_ms for measure in rounds] == [50, 0]
    assert peak > 0
    for measure in rounds:
        path = sum(hop.compute_ms + hop.link_ms + hop.timer_ms for hop in measure.path)
        assert path == pytest.approx(measure.finality_ms, abs=0.01)
        assert measure.kinds["Upload"].messages == 4 * 16
        assert measure.between[0] > 0


def test_targets_are_judged_by_the_run_and_not_under_load() -> None:
    met = row_of(round_rows(TARGET, [played(400.0)], 1), "round: coordination")
    missed = row_of(round_rows(TARGET, [played(501.0)], 1), "round: coordination")
    loaded = row_of(round_rows(TARGET, [played(400.0)], 1, loaded=True), "round: coordination")
    other = row_of(round_rows(replace(TARGET, seats=16), [played(501.0)], 1), "round: coordination")
    assert (met["met"], missed["met"], loaded["met"]) == (True, False, None)
    assert "target" not in other
    rows = list(round_rows(TARGET, [played(400.0)], 1))
    assert row_of(rows, "round: bytes")["ours"] == pytest.approx(10.0)
    assert row_of(rows, "path: Release")["ours"] == pytest.approx(5.0)
    assert row_of(rows, "path: clocks")["ours"] == pytest.approx(7.0)


def test_energy_of_a_decision_is_watts_times_processor_time() -> None:
    ours = DecisionMeasure(10, 1_000, ONE, ONE, ONE, 50)
    row = row_of(decision_rows(16, ours, replace(ours, messages=40)), "decision: energy")
    assert (row["ours"], row["met"]) == (15.0, True)
    costly = replace(ours, cpu_seconds=Spread.of([25.0]))
    assert row_of(decision_rows(16, costly, ours), "decision: energy")["met"] is False


# Many sums


def test_sampled_shard_opens_true_and_the_round_is_final_at_a_quorum() -> None:
    case = ShardCase(trainers=8, shard_trainers=4, seats=16, validators=16, parameters=64, sample=2)
    costs = sample_shard(case)
    round_ = play_sharded(case, costs)
    assert 0 < round_.closes_ms < round_.certified_ms < round_.final_ms
    assert round_.seats_most == 2
    rows = list(sharded_rows(case, costs, round_))
    assert row_of(rows, "shards: trainers")["met"] is False
    assert row_of(sharded_rows(ShardCase(), costs, round_), "shards: trainers")["met"] is True


# The command


def test_unknown_part_is_refused_by_name() -> None:
    with pytest.raises(UnknownPartError, match="decision, round, shards"):
        next(consensus_rows(quick=True, part="nothing"))


def test_command_prints_rows_for_people_and_programs() -> None:
    def rows(*, quick: bool, part: str | None) -> Iterator[dict[str, Any]]:
        yield {"name": f"{part} {quick}", "case": "c", "ours": 1.0, "peer": None, "ratio": None, "unit": "ms"}

    engine = Engine(consensus_rows=rows)
    result = CliRunner().invoke(app, ["bench", "consensus", "--quick", "--part", "round", "--json"], obj=engine)
    assert result.exit_code == ExitCode.GOOD
    assert json.loads(result.stdout)[0]["name"] == "round True"
    assert "round False" in CliRunner().invoke(app, ["bench", "consensus", "--part", "round"], obj=engine).stdout
