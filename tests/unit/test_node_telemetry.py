"""What a node tells its operator: complete lines, bounded labels, one trace a round, and no secret anywhere."""

from __future__ import annotations

import io
import json
import logging
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from _round_stage import Hall, admitted, proposed

from collegium.crypto import AccountKey, BadAccountSignatureError, BlsSecretKey, SealKey, Stream, deal, recover_address
from collegium.node._event_feed import EventFeed
from collegium.node._gateway_problems import BusyError
from collegium.node._round_spans import ROUND_STEPS, RoundSpans, SpanWriter, step_of
from collegium.node._telemetry import LABELS_MAX, NodeMetrics, forward_library_logs, logger, short

TASK = sha256(b"a task that is watched").digest()


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


# ------------------------------------------------------------------------------------------------ log


def test_line_says_who_when_and_what() -> None:
    stream = io.StringIO()
    logger("validator", 3, stream).info("round-final", round=7, outcome="opened", reports=["ab"], wait=None)
    (line,) = lines_of(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "role": "validator",
        "index": 3,
        "event": "round-final",
        "level": "info",
        "round": 7,
        "outcome": "opened",
        "reports": ["ab"],
        "wait": None,
    }


@pytest.mark.parametrize(("level", "count"), [("debug", 3), ("info", 2), ("error", 1)])
def test_level_decides_what_is_written(level: str, count: int) -> None:
    stream = io.StringIO()
    log = logger("evaluator", stream=stream, level=level)
    log.debug("a")
    log.info("b")
    log.error("c")
    assert len(lines_of(stream)) == count
    assert "index" not in lines_of(stream)[0]


def test_no_secret_is_written() -> None:
    random = Stream(sha256(b"keys in a log").digest())
    account, voting, seal = AccountKey.generate(random), BlsSecretKey.generate(random), SealKey.generate(random)
    share = deal(random, 4, 3).shares[0]
    secrets = [account.secret, voting.scalar.to_bytes(32, "big"), random(32)]
    stream = io.StringIO()
    log = logger("validator", 0, stream)
    log.info("keys", account=account, voting=voting, seal=seal, share=share, raw=secrets, deep={"a": [secrets[0]]})
    log.info("more", view=memoryview(secrets[0]), array=bytearray(secrets[1]), nested=[[[[[secrets[2]]]]]])
    log.info("scalars", scalar=voting.scalar, many=[share.scalar])
    try:
        recover_address(TASK, account.secret)
    except BadAccountSignatureError as error:
        log.exception("failed", error=error)
    text = stream.getvalue()
    for secret in (*secrets, share.scalar.to_bytes(32, "big")):
        for shape in (secret.hex(), repr(secret)[2:-1], str(int.from_bytes(secret, "big"))):
            assert shape not in text
    assert "<32 bytes>" in text
    assert "<AccountKey>" in text
    assert "Traceback" in text


def test_public_digest_is_shown_in_part() -> None:
    stream = io.StringIO()
    logger("trainer", 1, stream).info("upload-sent", report=short(TASK))
    assert lines_of(stream)[0]["report"] == TASK.hex()[:16]


def test_libraries_speak_the_same_language() -> None:
    stream, library = io.StringIO(), logging.getLogger("collegium-test-library")
    forward_library_logs(logger("validator", 0, stream), ("collegium-test-library",))
    forward_library_logs(logger("validator", 0, stream), ("collegium-test-library",))
    library.warning("about %d things", 3)
    (line,) = lines_of(stream)
    assert (line["event"], line["library"], line["text"]) == ("library", "collegium-test-library", "about 3 things")
    assert line["level"] == "warning"


# ------------------------------------------------------------------------------------------------ metrics


def test_metrics_have_their_names() -> None:
    metrics = NodeMetrics()
    metrics.entered(3)
    metrics.finished("opened")
    metrics.in_view(12)
    metrics.view_changed(2)
    metrics.set_peers(5)
    metrics.set_queue("mailbox", 7)
    metrics.refused("Vote", "ForgedSignatureError")
    metrics.cut_off("flood")
    metrics.persisted(100)
    metrics.peers_so_far(150, {})
    metrics.peers_so_far(200, {"garbage": 2})
    metrics.stepped("Upload", 0.002)
    text = metrics.render().decode()
    for line in (
        "collegium_round 3.0",
        'collegium_rounds_total{outcome="opened"} 1.0',
        "collegium_view 12.0",
        "collegium_view_changes_total 2.0",
        "collegium_peers_connected 5.0",
        'collegium_queue_length{queue="mailbox"} 7.0',
        'collegium_refused_total{reason="ForgedSignatureError",what="Vote"} 1.0',
        'collegium_cut_offs_total{reason="flood"} 1.0',
        "collegium_persisted_bytes_total 100.0",
        "collegium_sent_bytes_total 200.0",
        'collegium_cut_offs_total{reason="garbage"} 2.0',
        'collegium_step_seconds_bucket{le="0.001",message="Upload"} 0.0',
        'collegium_step_seconds_bucket{le="0.0025",message="Upload"} 1.0',
    ):
        assert line in text


def test_what_the_transport_counted_before_is_not_counted_again() -> None:
    metrics = NodeMetrics()
    for sent, cut_offs in ((10, {"flood": 1}), (10, {"flood": 1}), (25, {"flood": 3, "slow": 1})):
        metrics.peers_so_far(sent, cut_offs)
    text = metrics.render().decode()
    assert "collegium_sent_bytes_total 25.0" in text
    assert 'collegium_cut_offs_total{reason="flood"} 3.0' in text
    assert 'collegium_cut_offs_total{reason="slow"} 1.0' in text


def test_labels_are_bounded() -> None:
    metrics = NodeMetrics()
    for number in range(LABELS_MAX + 10):
        metrics.cut_off(f"reason {number}")
    text = metrics.render().decode()
    assert text.count("collegium_cut_offs_total{") == LABELS_MAX + 1
    assert 'collegium_cut_offs_total{reason="other"} 10.0' in text


def test_nodes_of_one_process_count_apart() -> None:
    first, second = NodeMetrics(), NodeMetrics()
    first.view_changed()
    assert "collegium_view_changes_total 0.0" in second.render().decode()


# ------------------------------------------------------------------------------------------------ events


def test_seats_of_listeners_are_given_back() -> None:
    feed = EventFeed(listeners_max=1)
    with feed.seat(), pytest.raises(BusyError) as refused, feed.seat():
        raise AssertionError
    assert refused.value.values == {"listeners": 1}
    with feed.seat():
        pass


# ------------------------------------------------------------------------------------------------ spans


def play_round(spans: RoundSpans, number: int) -> None:
    spans.begin(number)
    for step in ROUND_STEPS[1:]:
        spans.step(step, reports=4)
        spans.note(final=True)
    spans.finish("opened", view=9)


def test_round_is_one_trace_on_all_nodes(tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.jsonl" for index in range(2)]
    for index, path in enumerate(paths):
        writer = SpanWriter(path)
        spans = RoundSpans(TASK, "validator", index, writer.provider)
        play_round(spans, 0)
        play_round(spans, 1)
        writer.close()
    first, second = ([json.loads(line) for line in path.read_text().splitlines()] for path in paths)
    assert [span["name"] for span in first] == [*ROUND_STEPS, "round"] * 2
    traces = [span["context"]["trace_id"] for span in first]
    assert (len(set(traces[:7])), len(set(traces[7:])), len(set(traces))) == (1, 1, 2)
    assert traces == [span["context"]["trace_id"] for span in second]
    whole, close = first[6], first[1]
    assert close["parent_id"] == whole["context"]["span_id"]
    assert close["attributes"] == {"collegium.reports": 4, "collegium.final": True}
    assert whole["attributes"]["collegium.outcome"] == "opened"
    assert whole["attributes"]["collegium.index"] == 0


@pytest.mark.slow
def test_step_follows_from_what_is_here() -> None:
    hall = Hall.opened(3).spread()
    assert step_of(hall.states[0], 3) == "admit"
    hall = admitted(3)
    assert step_of(hall.states[0], 3) == "close"
    assert step_of(hall.states[0], 4) == "admit"
    close = hall.close()
    hall.finalise(close)
    assert step_of(hall.states[1], 3) == "release"
    hall, proposal = proposed(3)
    assert step_of(hall.states[0], 3) == "certify"
    heard = replace(hall.states[1], releases=hall.states[0].releases)
    assert step_of(heard, 3) == "open"
    hall.give(1, proposal, 0)
    assert step_of(hall.states[1], 3) == "certify"
    for voter in range(16):
        hall.give(voter, proposal, 0)
    hall.spread()
    assert step_of(hall.states[0], 3) == "finish"


def test_each_step_is_begun_once(tmp_path: Path) -> None:
    writer = SpanWriter(tmp_path / "spans.jsonl")
    spans = RoundSpans(TASK, "validator", 0, writer.provider)
    for number in range(2):
        for step in ("admit", "admit", "close", "close", "certify"):
            spans.at(number, step)
        spans.finish("opened")
    writer.close()
    ended = [json.loads(line)["name"] for line in (tmp_path / "spans.jsonl").read_text().splitlines()]
    assert ended == ["admit", "close", "certify", "round"] * 2


def test_round_that_is_left_ends_as_such(tmp_path: Path) -> None:
    writer = SpanWriter(tmp_path / "spans.jsonl")
    spans = RoundSpans(TASK, "validator", 0, writer.provider)
    spans.begin(0)
    spans.step("close")
    play_round(spans, 1)
    writer.close()
    ended = [json.loads(line) for line in (tmp_path / "spans.jsonl").read_text().splitlines()]
    outcomes = [span["attributes"]["collegium.outcome"] for span in ended if span["name"] == "round"]
    assert outcomes == ["unfinished", "opened"]


def test_without_the_sdk_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("opentelemetry", "opentelemetry.sdk", "opentelemetry.sdk.resources"):
        monkeypatch.setitem(sys.modules, name, None)
    writer = SpanWriter(tmp_path / "spans.jsonl")
    spans = RoundSpans(TASK, "validator", 0, writer.provider)
    play_round(spans, 0)
    writer.close()
    assert list(tmp_path.iterdir()) == []
