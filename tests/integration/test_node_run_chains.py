"""A run on several chains: trainers on chains of their own, and headers that say what every chain holds.

The experiment is that of `_run_stage.py` with three chains that follow (`COLLEGIUM_FULL=1`: seven); clinics b and c
register on two of them, and a third is silent as two rounds begin.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from _run_stage import Copy, PlayedRun, chain_record, check, play, write_experiment

from collegium.consensus import Registries, RegistryRoot, is_registries
from collegium.node import _chain_check, _verify
from collegium.node import _run as run_module
from collegium.node._chain_check import Founded, check_chain
from collegium.node._chain_record import ChainRecord, ChainRecordError
from collegium.node._ledger import Segment, decode_segments, encode_segments
from collegium.node._registries import (
    LAG_BLOCKS_MAX,
    RegistriesRefusedError,
    WatchedChain,
    check_seen,
    news_of,
    registries_by_round,
)
from collegium.node._work_terms import court_rules
from collegium.settlement import ChainUnreachableError, EmbeddedChain, Role, read_member

pytestmark = pytest.mark.slow

HOME, COUNT = 1337, 8 if os.environ.get("COLLEGIUM_FULL") == "1" else 4
NUMBERS = range(HOME, HOME + COUNT)
SILENT = HOME + 2
OWN = {"b": HOME + 1, "c": HOME + 3}
ROUNDS = 3
FOLLOWERS = ", ".join(["'embedded'"] * (COUNT - 1))
CHAINS = (
    "checkpoint_every = 2\n",
    f"checkpoint_every = 2\nfollowers = [{FOLLOWERS}]\nsites = {{ b = {OWN['b']}, c = {OWN['c']} }}\n",
)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> PlayedRun:
    """One chain does not answer as rounds 1 and 2 begin."""
    folder, rounds = tmp_path_factory.mktemp("many"), iter(range(ROUNDS + 1))
    now = [0]

    def bring(*arguments: Any) -> None:
        now[0] = next(rounds)
        real(*arguments)

    def asked(watched: WatchedChain, known: tuple[RegistryRoot, ...]) -> RegistryRoot | None:
        if watched.chain.chain_id == SILENT and now[0] in (1, 2):
            raise ChainUnreachableError("no answer", method="eth_getBlockByNumber", attempts=1)
        return news_of(watched, known)

    real = run_module._bring_registries
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "_bring_registries", bring)
        patch.setattr(run_module, "news_of", asked)
        return play(write_experiment(folder, CHAINS), folder / "run")


@cache
def chains_of(run: Path) -> dict[int, tuple[EmbeddedChain, ChainRecord]]:
    """Every chain of a run, executed again."""
    home = chain_record(run)
    found = dict[int, tuple[EmbeddedChain, ChainRecord]]()
    for each in (home, *home.followed_by):
        assert each.transcript is not None
        found[each.transcript.genesis.chain_id] = _chain_check.verify_replay(each.transcript), each
    return found


def states(run: PlayedRun) -> list[Registries]:
    segments = decode_segments((run.path / "ledger.bin").read_bytes())
    return registries_by_round([run.federation.genesis.epoch_set], segments)


def test_every_header_says_what_all_chains_hold(many: PlayedRun) -> None:
    """From the second round on, as of blocks that only come later; what a silent chain held last stays."""
    headers = next(iter(many.federation.nodes.values())).headers
    known = states(many)
    assert [header.registries for header in headers] == [state.digest for state in known[: ROUNDS + 1]]
    assert headers[0].registries == bytes(32) != headers[1].registries
    chains = chains_of(many.path)
    assert list(chains) == list(NUMBERS)
    for state in known[1:]:
        assert [entry.chain_id for entry in state.in_force] == list(NUMBERS)
        for entry in state.in_force:
            chain, held = chains[entry.chain_id]
            assert WatchedChain(chain, held.deployment.registry).seen(entry.block) == entry
    blocks = [{entry.chain_id: entry.block for entry in state.in_force} for state in known[1:]]
    for before, after in itertools.pairwise(blocks):
        assert all(after[number] >= before[number] for number in NUMBERS)
    assert blocks[0][SILENT] == blocks[2][SILENT]


def test_trainers_are_registered_on_their_own_chains_alone(many: PlayedRun) -> None:
    accounts = {name.rsplit("/", 1)[0]: account for account, name in many.federation.genesis.trainers}
    chains, size = chains_of(many.path), many.federation.genesis.epoch_set.size
    for site, number in OWN.items():
        chain, held = chains[number]
        member = read_member(chain, held.deployment, size)
        assert (member.account, member.role, member.stake) == (accounts[site], Role.TRAINER, 0)
    entered = {number: len(chain.receipts) for number, (chain, _) in chains.items() if number != HOME}
    alone = min(entered.values())
    assert entered == {number: alone + (number in OWN.values()) for number in entered}


def test_verify_looks_every_root_up_again(many: PlayedRun) -> None:
    verdict = check(many.path, many.anchor)
    assert verdict.ok, verdict.failure
    roots = len({entry for state in states(many) for entry in state.in_force})
    assert f"registries: {roots} roots of {COUNT} chains in headers, each signed by a quorum" in verdict.checks


def test_a_root_that_an_embedded_chain_never_held_is_named(many: PlayedRun) -> None:
    """Though a quorum signed it: the chain is executed again."""
    federation = many.federation
    experiment, genesis = federation.experiment, federation.genesis
    (*_, last) = states(many)
    entry = last.in_force[3]

    def audit(seen: RegistryRoot) -> None:
        founded = Founded(
            court_rules(genesis, experiment, federation.task),
            own=experiment.chain.registering(genesis.trainers),
            seen=[seen],
        )
        check_chain(
            chain_record(many.path), None, genesis.epoch_set, genesis.operator, [], experiment.chain.followers, founded
        )

    audit(entry)
    for changed, why in (
        (replace(entry, root=bytes(32)), "chain 3 that follows: headers say that chain 1340 held 00.*: it held"),
        (replace(entry, block=1 << 40), "it has no such block"),
        (replace(entry, chain_id=HOME + COUNT), r"what chains \[13\d\d\] hold, of which the record has none"),
    ):
        with pytest.raises(ChainRecordError, match=why):
            audit(changed)


def test_a_header_that_says_something_else_is_refused_by_field(
    many: PlayedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the ledger's records had said what the first header says: nothing."""
    monkeypatch.setattr(_verify, "registries_by_round", lambda *_: [Registries()] * (ROUNDS + 2))
    assert "the header's registries is" in (check(many.path).failure or "")


def test_a_ledger_without_the_records_is_refused(many: PlayedRun, tmp_path: Path) -> None:
    copy = Copy.of(many.path, tmp_path / "run")
    segments = decode_segments((copy.path / "ledger.bin").read_bytes())
    kept = [Segment(tuple(b for b in each.blocks if not is_registries(b.payload)), each.tip) for each in segments]
    assert kept != segments
    (copy.path / "ledger.bin").write_bytes(encode_segments(kept))
    assert "does not follow the one before" in (copy.relist().failure or "")


# --- what a validator signs


@pytest.fixture
def watched(many: PlayedRun) -> dict[int, WatchedChain]:
    return {
        number: WatchedChain(chain, held.deployment.registry) for number, (chain, held) in chains_of(many.path).items()
    }


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda entry: replace(entry, root=bytes(32)), "is said to hold 00"),
        (lambda entry: replace(entry, block=entry.block + 1), "is final here"),
        (lambda entry: replace(entry, chain_id=1), "expected one of"),
    ],
)
def test_a_validator_signs_only_what_it_sees_itself(
    watched: dict[int, WatchedChain], change: Callable[[RegistryRoot], RegistryRoot], why: str
) -> None:
    news = news_of(watched[HOME + 2], ())
    assert news is not None
    check_seen([news], watched)
    with pytest.raises(RegistriesRefusedError, match=why):
        check_seen([change(news)], watched)


def test_a_validator_signs_no_root_of_long_ago(
    watched: dict[int, WatchedChain], monkeypatch: pytest.MonkeyPatch
) -> None:
    news = news_of(watched[HOME], ())
    assert news is not None
    monkeypatch.setattr(EmbeddedChain, "final_block", lambda _: news.block + LAG_BLOCKS_MAX)
    check_seen([news], watched)
    monkeypatch.setattr(EmbeddedChain, "final_block", lambda _: news.block + LAG_BLOCKS_MAX + 1)
    with pytest.raises(RegistriesRefusedError, match=f"expected one of the last {LAG_BLOCKS_MAX}"):
        check_seen([news], watched)


def test_what_is_known_is_no_news(watched: dict[int, WatchedChain]) -> None:
    news = news_of(watched[HOME], ())
    assert news is not None
    assert news_of(watched[HOME], [news]) is None
    before = replace(news, block=news.block - 1)
    assert news_of(watched[HOME], [before]) is None  # the same root as of a later block
    assert news_of(watched[HOME], [replace(before, root=bytes(32))]) == news
