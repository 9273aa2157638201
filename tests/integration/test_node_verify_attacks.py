"""`verify` against whoever may sign: an operator with its own key, a founder of the task, and hostile bytes everywhere.

`test_node_verify.py` damages a run; here its files are made anew by those whose signatures they need. Every refusal is
a verdict with a reason that was foreseen, never an exception.
"""

from __future__ import annotations

import json
import os
import random
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from _run_stage import NO_COURTS, ONE_ROUND, Copy, PlayedRun, check, ignore, play, write_experiment

from collegium.apps._page import render_page
from collegium.consensus import Header, ProposalRefusedError
from collegium.crypto import ThresholdBeacon, combine_commitments, combine_shares, deal, os_random
from collegium.node import GenesisError, Verification, load_experiment, set_up, verify_run
from collegium.node import _setup as founding
from collegium.node import _verify as verifying
from collegium.node._audit import check_publishing
from collegium.node._epoch_ledger import ordered_epochs
from collegium.node._epochs import Epochs
from collegium.node._genesis import Genesis, check_genesis, decode_genesis, encode_genesis, open_beacon
from collegium.node._ledger import decode_segments
from collegium.node._statement import Statement, decode_statement, encode_statement, sign_statement
from collegium.node._verify import _Beside, _Office

pytestmark = pytest.mark.slow

VALUES_PER_FILE = 3 if os.environ.get("COLLEGIUM_FULL") == "1" else 2
JSON_FILES = ("genesis.json", "objects.json", "chain.json", "statement.json")
DEEP = b'{"zzz":' + b"[" * 200_000 + b"]" * 200_000 + b"}"


def refused(verdict: Verification, *reasons: str) -> str:
    """Return the failure of a verdict that must be a foreseen refusal for one of these reasons."""
    assert not verdict.ok, "this change went unnoticed"
    assert verdict.failure is not None
    assert "unforeseen" not in verdict.failure, verdict.failure
    assert not reasons or any(reason in verdict.failure for reason in reasons), verdict.failure
    return verdict.failure


# ------------------------------------------------------------------------------------------------ hostile bytes


@pytest.mark.parametrize("name", JSON_FILES)
def test_deep_nesting_is_refused_by_name(copy: Copy, name: str) -> None:
    for hostile in (DEEP, b"\xff\xfe"):
        with copy.changed(name, hostile, listed=True):
            assert refused(check(copy.path)).startswith(name)


@pytest.mark.parametrize(
    "where",
    [
        ("rows_max",),
        ("epoch",),
        ("validators", 0, "stake"),
        ("validators", 0, "announcement", "validator"),
        ("validators", 0, "announcement", "round"),
    ],
)
def test_an_integer_of_any_size_in_a_genesis_is_refused_by_name(copy: Copy, where: tuple[str | int, ...]) -> None:
    data = (copy.path / "genesis.json").read_bytes()
    for value in (-1, 2**53, 2**63, 2**64 - 1, 2**64, 10**40):
        document = at = json.loads(data)
        for key in where[:-1]:
            at = at[key]
        at[where[-1]] = value
        with copy.changed("genesis.json", json.dumps(document, separators=(",", ":")).encode(), listed=True):
            assert refused(check(copy.path)).startswith(("genesis.json", "ledger.bin"))


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every value in a document that holds no other."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from leaves(value[key], (*path, key))
    else:
        yield path


def other_value(value: Any, draw: random.Random) -> Any:
    """Return a value near this one, or one that does not belong there at all."""
    if draw.random() < 0.2:
        return draw.choice([None, -1, 2**64, 1e308, "", "\x00", [], {}, True])
    if isinstance(value, str) and len(value) >= 8 and len(value) % 4 == 0:  # bytes in base64
        data = bytearray(b64decode(value))
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        return b64encode(bytes(data)).decode()
    if isinstance(value, str):
        return value + "A"
    return value + 1 if isinstance(value, int | float) else "AAAA"


@pytest.mark.seeds(quick=1, full=40)
def test_any_value_of_any_file_may_be_another(copy: Copy, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    present = verifying.check_manifest(copy.path)
    monkeypatch.setattr(verifying, "check_manifest", lambda _: present)  # whoever does this makes it fit anyway
    draw = random.Random(seed)
    for name in JSON_FILES:
        document = json.loads((copy.path / name).read_bytes())
        for path in draw.sample(list(leaves(document)), VALUES_PER_FILE):
            changed = json.loads((copy.path / name).read_bytes())
            at = changed
            for key in path[:-1]:
                at = at[key]
            at[path[-1]] = other_value(at[path[-1]], draw)
            if changed == document:
                continue
            text = json.dumps(changed, separators=(",", ":"), ensure_ascii=False).encode()
            with copy.changed(name, text, listed=False):
                refused(check(copy.path))


def test_a_hole_in_a_check_still_gives_no_verdict_but_a_refusal(
    played: PlayedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(_: bytes) -> Genesis:
        raise ZeroDivisionError("nobody thought of this")

    monkeypatch.setattr(verifying, "decode_genesis", careless)
    verdict = verify_run(played.path, None, ignore, render_page)
    assert not verdict.ok
    assert verdict.failure == "genesis.json: unforeseen ZeroDivisionError: nobody thought of this"


# ------------------------------------------------------------------------------------------------ the operator


def restated(copy: Copy, played: PlayedRun, change: Callable[[Statement], Statement]) -> Verification:
    """Let the operator say something else, make all that follows from it anew where that is possible, and verify."""
    statement = change(decode_statement((copy.path / "statement.json").read_bytes()))
    signed = sign_statement(statement, played.federation.operator)
    (copy.path / "statement.json").write_bytes(encode_statement(signed))
    return copy.relist()


def _another_site(statement: Statement) -> Statement:
    return replace(statement, sites=(replace(statement.sites[0], name="Mars"), *statement.sites[1:]))


def _too_many_rows(statement: Statement) -> Statement:
    return replace(statement, sites=(replace(statement.sites[0], train_rows=10**9), *statement.sites[1:]))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda said: replace(said, sites=()), "is not about the sites of the genesis' trainers"),
        (_another_site, "is not about the sites of the genesis' trainers"),
        (_too_many_rows, "a site has 1000000000 training rows, its trainers at most"),
        (lambda said: replace(said, rounds=said.rounds[:-1]), "is not about the ledger's rounds"),
        (lambda said: replace(said, auc_pooled=1e308), "auc_pooled is 1e+308, expected 0 to 1"),
        (
            lambda said: replace(said, rounds=(*said.rounds[:-1], replace(said.rounds[-1], cpu_seconds=1e308))),
            "cpu_seconds is 1e+308, expected 0 to 1e+10",
        ),
        (lambda said: said, ""),  # the same again: ECDSA here is deterministic
    ],
)
def test_an_operator_cannot_say_what_follows_from_the_genesis_or_from_no_measurement(
    copy: Copy, played: PlayedRun, change: Callable[[Statement], Statement], reason: str
) -> None:
    verdict = restated(copy, played, change)
    if reason:
        assert refused(verdict, reason).startswith("statement.json")
    else:
        assert verdict.ok, verdict.failure


def test_watts_notes_and_trainers_of_the_summary_are_not_the_operators_to_say(played: PlayedRun) -> None:
    summary, said = played.summary, json.loads((played.path / "statement.json").read_bytes())
    assert summary["watts"] == float(played.federation.experiment.committee.watts)
    assert [site["trainers"] for site in summary["sites"]] == list(played.federation.genesis.sites.values())  # type: ignore[attr-defined]
    assert {"watts", "notes"}.isdisjoint(said)
    assert all(set(site) == {"name", "train_rows", "test_rows"} for site in said["sites"])


# ------------------------------------------------------------------------------------------------ who founds a task


@pytest.mark.parametrize("threshold", [1, 10, 12, 15])
def test_a_beacon_that_fewer_or_more_than_a_quorum_know_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threshold: int
) -> None:
    monkeypatch.setattr(founding, "deal", lambda draw, size, _: deal(draw, size, threshold))
    genesis = set_up(load_experiment(write_experiment(tmp_path)), ignore).genesis
    with pytest.raises(GenesisError, match=rf"16 beacon dealings of thresholds \[{threshold}\], expected 16 of"):
        open_beacon(genesis)


def test_a_beacon_of_one_dealer_is_refused(played: PlayedRun) -> None:
    """The attack: one dealer knows the group's secret, and so every value before the task begins."""
    genesis = played.federation.genesis
    check_genesis(genesis, open_beacon(genesis), 16)
    dealing = deal(os_random, 16, 11)
    group = combine_commitments(16, [dealing.commitments])
    shares = {
        member: ThresholdBeacon(genesis.task, group, combine_shares([dealing.shares[member]])).partial(0, 0)
        for member in range(11)
    }
    beacon = ThresholdBeacon(genesis.task, group)
    forged = replace(genesis, beacon_commitments=(tuple(dealing.commitments),), beacon=beacon.combine(0, 0, shares))
    check_genesis(forged, beacon, 16)  # all proofs hold; only the number of dealings is wrong
    with pytest.raises(GenesisError, match=r"1 beacon dealings of thresholds \[11\], expected 16 of threshold 11"):
        open_beacon(forged)


def test_a_genesis_with_more_validators_than_seats_is_refused(played: PlayedRun) -> None:
    genesis = played.federation.genesis
    check_genesis(genesis, open_beacon(genesis), 32)  # each holds two
    with pytest.raises(GenesisError, match="genesis has 16 validators, the experiment has 15 seats"):
        check_genesis(genesis, open_beacon(genesis), 15)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda old: replace(old, epoch=1), "genesis of epoch 1"),
        (lambda old: replace(old, rows_max=0), "genesis of epoch 0 and 0 rows"),
        (lambda old: replace(old, rows_max=(1 << 24) + 1), "16777217 rows"),
        (lambda old: replace(old, trainers=()), "genesis has 0 trainers"),
        (lambda old: replace(old, trainers=old.trainers[:1] * 2), "no account or name twice"),
        (lambda old: replace(old, trainers=((bytes(20), old.trainers[1][1]), *old.trainers[1:])), "name twice"),
        (lambda old: replace(old, trainers=((bytes(19), "a/0"),)), "is not 20 bytes"),
        (lambda old: replace(old, operator=b""), "is not 20 bytes"),
        (lambda old: replace(old, trainers=((bytes(20), "nowhere"),)), "a trainer is called 'nowhere'"),
        (lambda old: replace(old, trainers=((bytes(20), "\x1b[2J/x"),)), r"a trainer is called '\\x1b\[2J/x'"),
        (lambda old: replace(old, trainers=((bytes(20), "a" * 511 + "/0"),)), "a trainer is called 'aaa"),
    ],
)
def test_a_genesis_out_of_bounds_is_refused(
    played: PlayedRun, change: Callable[[Genesis], Genesis], reason: str
) -> None:
    assert decode_genesis(encode_genesis(played.federation.genesis)) == played.federation.genesis
    with pytest.raises(GenesisError, match=reason):
        decode_genesis(encode_genesis(change(played.federation.genesis)))


# ------------------------------------------------------------------------------------------------ what a header lists


def test_a_stored_header_lists_what_a_live_one_must(played: PlayedRun) -> None:
    genesis = played.federation.genesis
    office = _Office(Epochs(genesis.epoch_set, None), open_beacon(genesis), _Beside())

    def check_lists(header: Header) -> None:
        check_publishing(header)
        office.check_keys(genesis.task, header)

    segments = decode_segments((played.path / "ledger.bin").read_bytes())
    (epoch,) = ordered_epochs(office.epochs, sha256(genesis.beacon).digest(), segments)
    header = epoch.rounds[1].certified.header
    check_lists(header)
    seals, sums, quorum = header.announcements, header.key_sums, genesis.epoch_set.quorum
    check_lists(replace(header, announcements=seals[:quorum]))
    for wrong, reason in (
        (replace(header, announcements=seals[::-1]), "sealing keys of validators"),
        (replace(header, announcements=(*seals, seals[-1])), "sealing keys of validators"),
        (replace(header, announcements=seals[: quorum - 1]), f"expected {quorum} or more, increasing"),
        (replace(header, round=header.round + 1), "carries a sealing key of round 2"),
        (replace(header, key_sums=sums[::-1]), "key sums of seats"),
        (replace(header, key_sums=(*sums, sums[-1])), "key sums of seats"),
    ):
        with pytest.raises(ProposalRefusedError, match=reason):
            check_lists(wrong)


# ------------------------------------------------------------------------------------------------ a folder's name


@pytest.mark.parametrize("name", ["a::b", "memory::x", "file:x", "~", "a%20b?c#d", "* [x]"])
def test_a_run_may_lie_in_a_folder_of_any_name(played: PlayedRun, tmp_path: Path, name: str) -> None:
    verdict = check(Copy.of(played.path, tmp_path / name).path)
    assert verdict.ok, verdict.failure


def test_a_run_may_be_played_into_a_folder_of_any_name(tmp_path: Path) -> None:
    run = play(write_experiment(tmp_path, NO_COURTS, ONE_ROUND), tmp_path / "a::b")
    assert check(run.path).ok
