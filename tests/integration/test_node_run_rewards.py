"""A run that pays its trainers: the lists that its validators certify, what verify says of them, and the claims.

The experiment is that of `_run_stage.py` with a budget of a hundred and one wei a round, and an epoch that ends after
round 4: the last list is certified by the set that follows.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from _chain_stage import DEVELOPMENT_KEYS, ask, refused, running_anvil
from _run_stage import Copy, PlayedRun, check, play, write_experiment
from typer.testing import CliRunner, Result

from collegium.apps.cli import ExitCode, app
from collegium.crypto import AccountKey, hash_fields
from collegium.errors import CollegiumError
from collegium.node._base_chain import ChainRecord, ChainRecordError, decode_chain_record
from collegium.node._chain_check import Founded, Paying, check_chain
from collegium.node._rewards import reward_plan
from collegium.node._work_terms import court_rules
from collegium.settlement import (
    NOBODY,
    CuratorShare,
    EmbeddedChain,
    JsonRpcChain,
    MoneySite,
    claim_reward,
    collect,
    contract,
    issue_licence,
    read_budget,
    read_list,
    read_owed,
    read_task,
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


def record(run: Path) -> ChainRecord:
    return decode_chain_record((run / "chain.json").read_bytes())


def test_every_round_of_training_is_paid_in_equal_parts_to_the_last_wei(paying: PlayedRun) -> None:
    paid = record(paying.path).paying
    assert paid is not None
    trainers = [account for account, _ in paying.federation.genesis.trainers]
    assert [(entry.checkpoint, [due.account for due in entry.dues]) for entry in paid.lists] == [
        (0, trainers),
        (1, trainers),
        (2, trainers),
    ]
    assert [[due.amount for due in entry.dues] for entry in paid.lists] == [
        [51, 51, 50, 50],
        [51, 51, 50, 50],
        [26, 25, 25, 25],
    ]
    rewards: Any = paying.summary["rewards"]
    assert [(entry["first_round"], entry["last_round"], entry["total"]) for entry in rewards] == [
        (0, 2, str(2 * BUDGET)),
        (3, 4, str(2 * BUDGET)),
        (5, 5, str(BUDGET)),
    ]
    names = [name for _, name in paying.federation.genesis.trainers]
    earned = [str(amount) for amount in (128, 127, 125, 125)]
    assert paying.summary["earnings"] == [
        {"trainer": name, "wei": wei} for name, wei in zip(names, earned, strict=True)
    ]


def test_verify_derives_the_lists_again(paying: PlayedRun) -> None:
    verdict = check(paying.path, paying.anchor)
    assert verdict.ok, verdict.failure
    assert f"rewards: 3 lists derived again from the rounds, {5 * BUDGET} wei in all" in verdict.checks


def test_what_was_promised_is_on_the_chain_before_anything_was_learned(paying: PlayedRun) -> None:
    held = record(paying.path)
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
    assert read_budget(chain, held.paying.site, held.deployment).free == 0


def test_a_trainer_collects_what_it_is_due_once_the_window_is_over(paying: PlayedRun) -> None:
    held = record(paying.path)
    assert held.paying is not None
    assert held.transcript is not None
    chain: EmbeddedChain = verify_replay(held.transcript)
    site, (first, *_), anybody = held.paying.site, held.paying.lists, paying.federation.validators[0].account
    with refused("NotOpen"):
        claim_reward(chain, site, anybody, 0, first.dues, 0)
    chain.advance_to(read_list(chain, site, 0).opens_at_s)
    for index, due in enumerate(first.dues):
        claim_reward(chain, site, anybody, 0, first.dues, index)
        assert read_owed(chain, site.rewards, due.account) == due.amount
    with refused("AlreadyClaimed"):
        claim_reward(chain, site, anybody, 0, first.dues, 0)
    before = chain.balance(first.dues[0].account)
    assert collect(chain, site.rewards, anybody, first.dues[0].account) == first.dues[0].amount
    assert chain.balance(first.dues[0].account) == before + first.dues[0].amount
    assert read_list(chain, site, 0).left == 0


# ------------------------------------------------------------------------------------------------ other stories


def more_for_one(lists: Any) -> None:
    lists[0]["dues"][1]["amount"] += 1


def to_another(lists: Any) -> None:
    lists[2]["dues"][0]["account"] = lists[2]["dues"][1]["account"]


def one_line_less(lists: Any) -> None:
    lists[0]["dues"].pop()


def one_list_less(lists: Any) -> None:
    lists.pop()


def in_another_order(lists: Any) -> None:
    lists.reverse()


def with_the_other_ones_certificate(lists: Any) -> None:
    lists[1]["certificate"] = lists[0]["certificate"]


def for_less_gas(lists: Any) -> None:
    lists[0]["gas"] -= 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (more_for_one, "the list of rewards for rounds 0-2 says in line 1 52 wei to 0x"),
        (to_another, "the list of rewards for rounds 5-5 says in line 0 26 wei to 0x"),
        (one_line_less, "the list of rewards for rounds 0-2 has 3 lines, expected 4"),
        (one_list_less, "there is no list of rewards for rounds 5-5, which earned 4 trainers something"),
        (in_another_order, "there is no list of rewards for rounds 0-2, which earned 4 trainers something"),
        (with_the_other_ones_certificate, "signature does not verify"),
        (for_less_gas, "a list of rewards cost "),
    ],
)
def test_a_list_that_tells_another_story_is_named(
    paying: PlayedRun, change: Callable[[Any], None], reason: str
) -> None:
    document = json.loads((paying.path / "chain.json").read_bytes())
    change(document["rewards"]["lists"])
    with pytest.raises(CollegiumError, match=reason):
        look(paying, decode_chain_record(json.dumps(document, separators=(",", ":")).encode()))


def look(paying: PlayedRun, changed: ChainRecord) -> None:
    """Check a chain's record as `verify` does that has found what each round earned."""
    genesis, (experiment, task) = paying.federation.genesis, (paying.federation.experiment, paying.federation.task)
    plan, honest = reward_plan(experiment, genesis, task), record(paying.path).paying
    assert plan is not None
    assert honest is not None
    owed = Paying(plan, [entry.dues for entry in honest.lists])
    founded = Founded(court_rules(genesis, experiment, task), (), owed)
    later = paying.federation.epochs.known[1:]
    check_chain(changed, None, genesis.epoch_set, genesis.operator, later, founded=founded)


def test_verify_names_the_chain_and_the_line(paying: PlayedRun, tmp_path: Path) -> None:
    copy = Copy.of(paying.path, tmp_path / "copy")
    copy.edit("chain.json", lambda document: more_for_one(document["rewards"]["lists"]))
    failure = copy.relist().failure
    assert failure is not None
    assert failure.startswith("chain.json: the list of rewards for rounds 0-2 says in line 1 52 wei to 0x")
    assert ", expected 51 wei to 0x" in failure


def test_a_record_that_leaves_the_rewards_out_or_brings_its_own_is_refused(
    paying: PlayedRun, played: PlayedRun
) -> None:
    held, plain = record(paying.path), record(played.path)
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
    held = record(paying.path)
    assert held.paying is not None
    later = replace(held.paying, deadline_s=held.paying.deadline_s + 1)
    with pytest.raises(ChainRecordError, match="lists may be posted until 17"):
        look(paying, replace(held, rewards=later))


# ------------------------------------------------------------------------------------------------ the command


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["rewards", *map(str, arguments)])


def test_the_command_prints_who_is_due_what(paying: PlayedRun) -> None:
    shown = invoke(paying.path)
    assert shown.exit_code == ExitCode.GOOD
    account, name = paying.federation.genesis.trainers[0]
    lines = shown.stdout.splitlines()
    assert lines[0] == "rounds 0-2: 202 wei, on the chain of the run's own process, which ended with it"
    assert lines[1] == f"  51 wei to 0x{account.hex()} ({name})"
    assert lines[10].startswith("rounds 5-5: 101 wei, ")
    (first, *_) = json.loads(invoke(paying.path, "--json").stdout)["lists"]
    assert (first["last_round"], first["number"], first["state"]) == (2, None, None)
    found = {"account": account.hex(), "name": name, "amount": 51, "licence": None, "claimed": None}
    assert first["lines"][0] == found


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
        assert f"rewards: 1 lists derived again from the rounds, {3 * BUDGET} wei in all" in verdict.checks

        assert "303 wei, not open yet: from " in invoke(run.path).stdout
        early = invoke(run.path, "--claim")
        assert (early.exit_code, "claimed" in early.stdout) == (ExitCode.GOOD, False)
        ask(url, "evm_increaseTime", 7 * 24 * 3600)
        ask(url, "evm_mine")
        before = chain.balance(holder.address)
        claimed = invoke(run.path, "--claim")
        assert claimed.exit_code == ExitCode.GOOD, claimed.stderr
        assert "57 wei sent to 0x" + holder.address.hex() in claimed.stdout
        assert chain.balance(holder.address) == before + 57  # of 76 wei, a quarter is the curator's
        assert chain.balance(CURATOR) == 19
        others = [account for account, name in run.federation.genesis.trainers if not name.startswith("a/")]
        assert sorted(chain.balance(account) for account in others) == [75, 76, 76]
        (entry,) = json.loads(invoke(run.path, "--json").stdout)["lists"]
        assert (entry["state"], [line["claimed"] for line in entry["lines"]]) == ("open", [True] * 4)
        assert (entry["lines"][0]["licence"], entry["lines"][0]["name"]) == (number, "a/0")
        again = invoke(run.path, "--claim")
        assert (again.exit_code, "wei sent" in again.stdout) == (ExitCode.GOOD, False)
