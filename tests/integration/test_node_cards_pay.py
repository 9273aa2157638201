"""A network founded from cards that pays on a node: founded, learned, collected, verified and claimed.

Every member has keys of its own in a folder of its own; trainers enter the registry with stakes of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from _cards_stage import CardsFounding, found_from_cards
from _chain_stage import DEVELOPMENT_KEYS, ask, running_anvil
from _network_stage import NETWORK, LiveNetwork, opened
from _run_stage import check, write_experiment
from typer.testing import CliRunner, Result

from collegium.apps.cli import ExitCode, app
from collegium.crypto import AccountKey
from collegium.node import Consortium, load_experiment
from collegium.node._chain_record import decode_chain_record, encode_chain_record
from collegium.node._claims import load_dues
from collegium.node._founding import FoundingError
from collegium.settlement import JsonRpcChain

pytestmark = [pytest.mark.node, pytest.mark.slow]

BUDGET, ROUNDS = 101, 1
DAYS_7 = 7 * 24 * 3600
PAYS = (("[schema]", f"[rewards]\nbudget = {BUDGET}\n[schema]"), ("rounds = 3", f"rounds = {ROUNDS}"))


@dataclass
class Paid:
    """A network that has finished, and the run that its operator collected."""

    url: str
    founding: CardsFounding
    consortium: Consortium
    run: Path
    collected: Result


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def paid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paid]:
    folder = tmp_path_factory.mktemp("cards")
    with running_anvil() as url, pytest.MonkeyPatch.context() as patch:
        on_node = ("checkpoint_every = 2", f'checkpoint_every = 10\nurl = "{url}"\ntrainers_stake = true')
        experiment = load_experiment(write_experiment(folder, *NETWORK, *PAYS, on_node))
        founding = found_from_cards(experiment, folder / "members")
        patch.setenv("COLLEGIUM_CHAIN_KEY", DEVELOPMENT_KEYS[0])
        consortium = founding.settle()
        for network in opened(consortium):
            learn(network)
            collected = invoke("collect", founding.operator, "--out", folder / "run")
            yield Paid(url, founding, consortium, folder / "run", collected)


def learn(network: LiveNetwork) -> None:
    """Start everybody, and wait until those who finish have."""
    validators = network.names("validator")
    early = invoke("collect", network.consortium.folder / "operator", "--out", network.consortium.folder / "early")
    assert (early.exit_code, "has the relayer finished?" in early.stderr) == (ExitCode.USER, True)
    network.start(*(member.name for member in network.consortium.members))
    network.wait(lambda: set(network.running) <= set(validators), "trainers, evaluator and relayer to finish")


def test_the_operator_collects_what_everybody_verifies(paid: Paid) -> None:
    assert paid.collected.exit_code == ExitCode.GOOD, paid.collected.output
    verdict = check(paid.run, paid.consortium.genesis.anchor.hex())
    assert verdict.ok, verdict.failure
    total = ROUNDS * BUDGET
    assert f"rewards: what headers say of earnings follows from the rounds, {total} wei in all" in verdict.checks


def test_a_member_looks_at_the_chain_before_it_works(paid: Paid, tmp_path: Path) -> None:
    shared = paid.founding.operator / "relayer" / "chain.json"
    words = ("member", "check", "--home", paid.founding.trainers[2], "--chain")
    found = invoke(*words, shared)
    assert found.exit_code == ExitCode.GOOD, found.stderr
    record = decode_chain_record(shared.read_bytes())
    sent = len(record.sent)
    assert f"{sent} transactions, all in blocks of {paid.url}; Settlement at 0x" in found.stdout
    assert f"; {ROUNDS * BUDGET} wei to pay for rounds" in found.stdout
    with running_anvil() as other:
        lost = invoke(*words, shared, "--url", other)
    reason = f"the node at {other} has no block with transaction 0 of the {sent} that found the task"
    assert (lost.exit_code, reason in lost.stderr) == (ExitCode.USER, True)
    silent = invoke(*words, shared, "--url", "http://127.0.0.1:1")
    assert (silent.exit_code, "no answer to eth_chainId" in silent.stderr) == (ExitCode.WORLD, True)
    (tmp_path / "chain.json").write_bytes(encode_chain_record(replace(record, sent=record.sent[:-1])))
    short = invoke(*words, tmp_path / "chain.json")
    expected = f"{sent - 1} transactions were sent, this run sends {sent}"
    assert (short.exit_code, expected in short.stderr) == (ExitCode.USER, True)
    missing = invoke(*words, tmp_path / "none.json")
    assert (missing.exit_code, "expected the operator's record" in missing.stderr) == (ExitCode.USER, True)


def test_a_trainer_s_claim_brings_its_coins(paid: Paid, monkeypatch: pytest.MonkeyPatch) -> None:
    chain, anybody = JsonRpcChain(paid.url), AccountKey(bytes.fromhex(DEVELOPMENT_KEYS[1][2:]))
    monkeypatch.setenv("COLLEGIUM_CHAIN_KEY", DEVELOPMENT_KEYS[1])
    early = invoke("rewards", paid.run, "--claim")
    assert (early.exit_code, "claimed for" in early.stdout) == (ExitCode.GOOD, False)
    ask(paid.url, "evm_increaseTime", DAYS_7)
    ask(paid.url, "evm_mine")
    earned = {line.due.account: line.due.amount for line in load_dues(paid.run).lines}
    assert anybody.address not in earned
    before = {account: chain.balance(account) for account in earned}
    claimed = invoke("rewards", paid.run, "--claim")
    assert claimed.exit_code == ExitCode.GOOD, claimed.stderr
    assert {account: chain.balance(account) - had for account, had in before.items()} == earned
    assert sum(earned.values()) == ROUNDS * BUDGET


def test_who_founded_on_a_node_founds_once(paid: Paid) -> None:
    operator, chain = paid.founding.roster.operator.account, JsonRpcChain(paid.url)
    sent = chain.nonce(operator)
    paid.founding.settled(paid.founding.operator)
    assert chain.nonce(operator) == sent
    kept = paid.founding.operator / "relayer" / "chain.json"
    kept.rename(kept.with_suffix(".moved"))
    with pytest.raises(FoundingError, match=f"has sent {sent} transactions on chain 31337, expected none"):
        paid.founding.settled(paid.founding.operator)
    kept.with_suffix(".moved").rename(kept)
