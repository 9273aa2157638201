"""A run that pays its trainers: what its headers say that they have earned, what verify says of it, and the claims.

The experiment is that of `_run_stage.py` with a budget of a hundred and one wei a round, and an epoch that ends after
round 4: the last header is certified by the set that follows.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from _chain_stage import DEVELOPMENT_KEYS, ask, running_anvil
from _run_stage import PlayedRun, chain_record, check, play, write_experiment
from typer.testing import CliRunner, Result

from collegium.apps.cli import ExitCode, app
from collegium.crypto import AccountKey, hash_fields
from collegium.node import _claims, load_watched, read_public_record
from collegium.node._chain_check import Founded, check_chain
from collegium.node._chain_record import ChainRecord, ChainRecordError
from collegium.node._claims import claim_dues, load_dues, read_dues
from collegium.node._ledger import OrderedRound
from collegium.node._rewards import reward_plan
from collegium.node._watch import recompute, unlinked
from collegium.node._work_terms import court_rules
from collegium.settlement import (
    NOBODY,
    CuratorShare,
    EmbeddedChain,
    JsonRpcChain,
    MoneySite,
    contract,
    issue_licence,
    read_budget,
    read_task,
    rewards_root,
    transact,
    verify_replay,
)

pytestmark = pytest.mark.slow

BUDGET = 101
CURATOR = bytes([0xC0]) * 20
EPOCHS = (("rounds = 3", "rounds = 5"), ("absent = 1", "absent = 1\nepoch_rounds = 5"))
PAYS = ("[schema]", f"[rewards]\nbudget = {BUDGET}\nclaim_days = 30\nroyalty = 250\n[schema]")


@pytest.fixture(scope="module")
def paying(tmp_path_factory: pytest.TempPathFactory) -> PlayedRun:
    folder = tmp_path_factory.mktemp("paying")
    return play(write_experiment(folder, *EPOCHS, PAYS), folder / "run")


def test_every_round_of_training_is_paid_in_equal_parts_to_the_last_wei(paying: PlayedRun) -> None:
    rewards: Any = paying.summary["rewards"]
    assert [(entry["first_round"], entry["last_round"], entry["total"]) for entry in rewards] == [
        (0, 2, str(2 * BUDGET)),
        (3, 4, str(2 * BUDGET)),
        (5, 5, str(BUDGET)),
    ]
    names = [name for _, name in paying.federation.genesis.trainers]
    earned = [str(amount) for amount in (130, 125, 125, 125)]  # of each round the first has the wei that is left over
    assert paying.summary["earnings"] == [
        {"trainer": name, "wei": wei} for name, wei in zip(names, earned, strict=True)
    ]


def test_headers_say_it_and_verify_redoes_it(paying: PlayedRun) -> None:
    verdict = check(paying.path, paying.anchor)
    assert verdict.ok, verdict.failure
    assert f"rewards: what headers say of earnings follows from the rounds, {5 * BUDGET} wei in all" in verdict.checks
    run = load_dues(paying.path)
    assert [sum(run.rule.amounts(header.paid)) for header in run.headers] == [n * BUDGET for n in range(6)]
    assert run.headers[-1].rewards == rewards_root([line.due for line in run.lines])


@pytest.mark.parametrize("sent", [b"", bytes(16), bytes(range(64))], ids=["nothing", "short", "other amounts"])
def test_what_a_set_sends_along_with_right_headers_hides_no_lie_of_the_next(paying: PlayedRun, sent: bytes) -> None:
    """No certificate is over these bytes: without them a program must still find the lines behind the header before."""
    record, run = read_public_record(paying.path), load_watched(paying.path, "http://127.0.0.1:1")
    rounds = list(record.rounds)
    for number in (1, 2):
        certified = rounds[number].certified
        header = replace(certified.header, paid=sent)
        assert header.digest == certified.header.digest
        rounds[number] = replace(rounds[number], certified=replace(certified, header=header))
    assert set(replace(record, rounds=tuple(rounds)).messages(3)) == set(record.messages(3))
    assert [recompute(replace(run, rounds=tuple(rounds)), number) for number in range(4)] == [None] * 4
    assert [unlinked(run, number) for number in range(6)] == [None] * 6
    certified = rounds[3].certified
    lie = replace(certified.header, rewards=hash_fields("lie"))
    rounds[3] = replace(rounds[3], certified=replace(certified, header=lie))
    found = recompute(replace(run, rounds=tuple(rounds)), 3)
    assert found is not None
    assert (found.round, found.work) == (3, "rewards")


def test_what_a_set_sends_along_with_right_headers_keeps_nobody_from_its_pay(
    paying: PlayedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, honest = load_dues(paying.path), _claims.ordered_epochs

    def other(entry: OrderedRound) -> OrderedRound:
        certified = entry.certified
        return replace(entry, certified=replace(certified, header=replace(certified.header, paid=bytes(48))))

    def ordered_epochs(*arguments: Any) -> list[Any]:
        return [replace(epoch, rounds=tuple(map(other, epoch.rounds))) for epoch in honest(*arguments)]

    monkeypatch.setattr(_claims, "ordered_epochs", ordered_epochs)
    found = load_dues(paying.path)
    assert {header.paid for header in found.headers} == {bytes(48)}
    assert found.lines == right.lines
    assert [found.earned(number) for number in range(6)] == [header.paid for header in right.headers]


def test_what_was_promised_is_on_the_chain_before_anything_was_learned(paying: PlayedRun) -> None:
    held = chain_record(paying.path)
    assert held.paying is not None
    assert held.transcript is not None
    chain, federation = verify_replay(held.transcript), paying.federation
    posted = read_task(chain, held.paying.site, held.deployment)
    assert (posted.sponsor, posted.first_round) == (federation.operator.address, 0)
    terms = posted.terms
    assert (terms.round_reward, terms.cohort_min, terms.royalty, terms.level) == (BUDGET, 4, 250, "unproved")
    assert terms.rule == federation.task.rule_digest
    assert held.stakes_site is not None
    assert terms.court == held.stakes_site.disputes
    budget = read_budget(chain, held.paying.site, held.deployment)
    assert (budget.free, budget.spent, budget.next_round) == (5 * BUDGET, 0, None)


def test_trainers_are_paid_once_the_window_of_each_checkpoint_is_over(paying: PlayedRun) -> None:
    """As the command does it on a node; here on the run's own chain, executed again."""
    held = chain_record(paying.path)
    assert held.transcript is not None
    chain: EmbeddedChain = verify_replay(held.transcript)
    run, anybody, said = load_dues(paying.path), paying.federation.validators[0].account, list[str]()
    assert claim_dues(read_dues(run, chain), chain, anybody, said.append) == 0
    assert said == [
        f"rounds {first}-{last}: the time to dispute them has begun before 1 courts"
        for first, last in ((0, 2), (3, 4), (5, 5))
    ]
    chain.advance_to(chain.timestamp_s() + 7 * 24 * 3600)
    before = [chain.balance(line.due.account) for line in run.lines]
    said.clear()
    assert claim_dues(read_dues(run, chain), chain, anybody, said.append) == 5 * BUDGET
    print("\n".join(said))
    assert [chain.balance(line.due.account) for line in run.lines] == [
        earlier + line.due.amount for earlier, line in zip(before, run.lines, strict=True)
    ]
    after = read_dues(run, chain)
    assert [(line.open, line.paid) for line in after.lines] == [(line.due.amount,) * 2 for line in run.lines]
    assert after.held is not None
    assert (after.held.free, after.held.spent, after.held.next_round) == (0, 5 * BUDGET, 6)
    said.clear()
    assert claim_dues(after, chain, anybody, said.append) == 0
    assert said == []


# ------------------------------------------------------------------------------------------------ other stories


def look(paying: PlayedRun, changed: ChainRecord) -> None:
    """Check a chain's record as `verify` does."""
    genesis, (experiment, task) = paying.federation.genesis, (paying.federation.experiment, paying.federation.task)
    founded = Founded(court_rules(genesis, experiment, task), (), reward_plan(experiment, genesis, task))
    later = paying.federation.epochs.known[1:]
    check_chain(changed, None, genesis.epoch_set, genesis.operator, later, founded=founded)


def test_a_record_that_leaves_the_rewards_out_or_brings_its_own_is_refused(
    paying: PlayedRun, played: PlayedRun
) -> None:
    held, plain = chain_record(paying.path), chain_record(played.path)
    look(paying, held)
    with pytest.raises(ChainRecordError, match=r"the record names None, expected MoneySite\("):
        look(paying, replace(held, rewards=msgspec.UNSET))
    federation = played.federation
    genesis, founded = (
        federation.genesis,
        Founded(court_rules(federation.genesis, federation.experiment, federation.task)),
    )
    with pytest.raises(ChainRecordError, match="expected no contract that pays"):
        check_chain(replace(plain, rewards=held.rewards), None, genesis.epoch_set, genesis.operator, founded=founded)


def test_a_deadline_of_ones_own_is_refused(paying: PlayedRun) -> None:
    held = chain_record(paying.path)
    assert held.paying is not None
    later = replace(held.paying, deadline_s=held.paying.deadline_s + 1)
    with pytest.raises(ChainRecordError, match="rewards may be taken over until 17"):
        look(paying, replace(held, rewards=later))


# ------------------------------------------------------------------------------------------------ the command


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["rewards", *map(str, arguments)])


def test_the_command_prints_who_has_earned_what(paying: PlayedRun) -> None:
    shown = invoke(paying.path)
    assert shown.exit_code == ExitCode.GOOD
    account, name = paying.federation.genesis.trainers[0]
    lines = shown.stdout.splitlines()
    assert lines[0] == "rounds 0-5: 505 wei, on the chain of the run's own process, which ended with it"
    assert lines[1] == f"  130 wei to 0x{account.hex()} ({name})"
    assert len(lines) == 5
    document = json.loads(invoke(paying.path, "--json").stdout)
    assert (document["last_round"], document["taken_over"], document["free"]) == (5, None, None)
    found = {
        "account": account.hex(),
        "name": name,
        "amount": 130,
        "chain": None,
        "licence": None,
        "open": None,
        "claimed": None,
    }
    assert document["lines"][0] == found


def test_nothing_can_be_claimed_where_there_is_no_chain_no_key_or_nothing_due(
    paying: PlayedRun, played: PlayedRun, development_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = invoke(paying.path, "--claim")
    assert without.exit_code == ExitCode.USER
    assert "--claim needs an account that pays: set COLLEGIUM_CHAIN_KEY" in without.stderr
    monkeypatch.setenv("COLLEGIUM_CHAIN_KEY", development_key)
    embedded = invoke(paying.path, "--claim")
    assert (embedded.exit_code, "which ended with it: nothing can be" in embedded.stderr) == (ExitCode.USER, True)
    free = invoke(played.path)
    assert (free.exit_code, "pays its trainers nothing" in free.stderr) == (ExitCode.USER, True)
    silent = invoke(paying.path, "--url", "http://127.0.0.1:1")
    assert silent.exit_code == ExitCode.WORLD


@pytest.mark.node
def test_on_a_node_the_holder_of_a_licence_and_its_curator_are_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = AccountKey(bytes.fromhex(DEVELOPMENT_KEYS[1][2:]))
    with running_anvil() as url:
        chain = JsonRpcChain(url)
        licences = transact(chain, holder, None, contract("Licences").creation()).contract
        assert licences is not None
        root, terms = hash_fields("rows"), hash_fields("terms")
        site, curators = MoneySite(licences, NOBODY, NOBODY, NOBODY), (CuratorShare(CURATOR, 2500),)
        number = issue_licence(chain, site, holder, root, terms, jurisdiction="DE", curators=curators)
        ask(url, "anvil_mine", hex(70))  # so that the licence is final
        section = (
            f'[licences]\nchain_id = {chain.chain_id}\ncontract = "{licences.hex()}"\n[licences.sites.a]\n'
            f'number = {number}\nholder = "{holder.address.hex()}"\ndata_root = "{root.hex()}"\n[schema]'
        )
        on_node = ("checkpoint_every = 2", f'checkpoint_every = 10\nurl = "{url}"')
        pays = (PAYS[0], PAYS[1].replace("[schema]", section))
        monkeypatch.setenv("COLLEGIUM_CHAIN_KEY", DEVELOPMENT_KEYS[0])
        run = play(write_experiment(tmp_path, on_node, pays), tmp_path / "run")
        verdict = check(run.path, run.anchor)
        assert verdict.ok, verdict.failure
        shown = f"rewards: what headers say of earnings follows from the rounds, {3 * BUDGET} wei in all"
        assert shown in verdict.checks

        assert "303 wei, of which the chain has taken over none" in invoke(run.path).stdout
        early = invoke(run.path, "--claim")
        assert (early.exit_code, "claimed for" in early.stdout) == (ExitCode.GOOD, False)
        assert "rounds 0-3: the time to dispute them has begun before" in early.stdout
        ask(url, "evm_increaseTime", 7 * 24 * 3600)
        ask(url, "evm_mine")
        before = chain.balance(holder.address)
        claimed = invoke(run.path, "--claim")
        assert claimed.exit_code == ExitCode.GOOD, claimed.stderr
        earned = {line.name: line.due.amount for line in load_dues(run.path).lines}
        whole = earned["a/0"]
        assert f"{whole - whole // 4} wei sent to 0x" + holder.address.hex() in claimed.stdout
        assert chain.balance(holder.address) == before + whole - whole // 4  # a quarter is the curator's
        assert chain.balance(CURATOR) == whole // 4
        others = {account: name for account, name in run.federation.genesis.trainers if not name.startswith("a/")}
        assert {name: chain.balance(account) for account, name in others.items()} == {
            name: amount for name, amount in earned.items() if name != "a/0"
        }
        document = json.loads(invoke(run.path, "--json").stdout)
        assert (document["taken_over"], document["free"], document["spent"]) == (3, 0, 3 * BUDGET)
        assert [line["claimed"] for line in document["lines"]] == [line["amount"] for line in document["lines"]]
        assert (document["lines"][0]["licence"], document["lines"][0]["name"]) == (number, "a/0")
        again = invoke(run.path, "--claim")
        assert (again.exit_code, "wei sent" in again.stdout) == (ExitCode.GOOD, False)
