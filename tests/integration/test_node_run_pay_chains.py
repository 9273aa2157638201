"""A run whose trainers are paid on three chains, each on its own: founded, verified, claimed to the last wei and once.

The experiment is that of `_run_stage.py`; clinics b and c are paid on chains that follow, a and d at home. The chains
are executed again from the run's record, and their time moved beyond the window in which headers can be disputed.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from _run_stage import PlayedRun, chain_record, check, play, write_experiment

from collegium.node._chain_check import Founded, check_chain
from collegium.node._chain_record import ChainRecordError, enumerate_chains
from collegium.node._claims import NoRewardsError, PaidRun, claim_dues, load_dues, read_dues
from collegium.node._rewards import reward_plan
from collegium.node._watch import load_watched
from collegium.node._work_terms import court_rules
from collegium.settlement import EmbeddedChain, read_task, verify_replay

pytestmark = pytest.mark.slow

BUDGET, ROUNDS = 101, 3
OWN = {"b": 1338, "c": 1339}
CHAINS = (
    "checkpoint_every = 2\n",
    "checkpoint_every = 2\nfollowers = ['embedded', 'embedded', 'embedded']\nsites = { b = 1338, c = 1339 }\n",
)
PAYS = ("[schema]", f"[rewards]\nbudget = {BUDGET}\nclaim_days = 30\n[schema]")
DAY_S = 24 * 3600


@pytest.fixture(scope="module")
def paying(tmp_path_factory: pytest.TempPathFactory) -> PlayedRun:
    folder = tmp_path_factory.mktemp("paying")
    return play(write_experiment(folder, CHAINS, PAYS), folder / "run")


def chain_of(run: PlayedRun, number: int) -> EmbeddedChain:
    """The home (0) or a chain that follows, executed again."""
    whole = chain_record(run.path)
    found = dict(enumerate_chains(whole))[number] if number else whole
    assert found.transcript is not None
    return verify_replay(found.transcript)


def test_verify_finds_each_chain_founded_as_the_experiment_says(paying: PlayedRun) -> None:
    verdict = check(paying.path, paying.anchor)
    assert verdict.ok, verdict.failure
    chains = dict(enumerate_chains(chain_record(paying.path)))
    assert [number for number, chain in chains.items() if chain.paying is not None] == list(OWN.values())


def test_lines_name_the_chain_of_their_trainers(paying: PlayedRun) -> None:
    dues = load_dues(paying.path)
    assert [(line.name, line.due.chain) for line in dues.lines] == [
        ("a/0", 0),
        ("b/0", 1338),
        ("c/0", 1339),
        ("d/0", 0),
    ]
    assert sum(line.due.amount for line in dues.lines) == ROUNDS * BUDGET
    with pytest.raises(NoRewardsError, match=r"nobody on chain 1340, expected one of \[1338, 1339\]"):
        load_dues(paying.path, chain=1340)
    with pytest.raises(ChainRecordError, match=r"no chain of number 1 follows, expected one of \[1338, 1339, 1340\]"):
        load_dues(paying.path, chain=1)


def test_whoever_watches_a_chain_that_follows_finds_its_own_contracts(paying: PlayedRun) -> None:
    whole, node = chain_record(paying.path), "http://127.0.0.1:1"  # whom nobody asks
    for number, held in enumerate_chains(whole):
        watched = load_watched(paying.path, node, number)
        assert (watched.deployment, watched.site) == (held.deployment, held.stakes_site)
        assert (watched.site is not None) == (number in OWN.values())
    with pytest.raises(ChainRecordError, match="no chain of number 7 follows"):
        load_watched(paying.path, node, 7)


@pytest.mark.parametrize("number", [0, *OWN.values()])
def test_each_chain_pays_its_own_trainers_to_the_last_wei_and_once(paying: PlayedRun, number: int) -> None:
    chain, told = chain_of(paying, number), list[str]()
    run = load_dues(paying.path, chain=number)
    payer = paying.federation.validators[0].account
    terms = read_task(chain, run.site, run.deployment)
    assert terms.sponsor == paying.federation.operator.address

    def claimed() -> tuple[PaidRun, int]:
        sent = claim_dues(read_dues(run, chain), chain, payer, told.append)
        return read_dues(run, chain), sent

    found, sent = claimed()
    assert (sent, found.held is not None and found.held.next_round) == (0, None)  # headers may still be disputed
    chain.advance_to(chain.timestamp_s() + 8 * DAY_S)
    own = [line.due for line in run.lines if line.due.chain == number]
    before = {due.account: chain.balance(due.account) for due in own}
    found, sent = claimed()
    assert sent == sum(due.amount for due in own) > 0, told
    assert all(chain.balance(due.account) == before[due.account] + due.amount for due in own)
    assert [line.paid for line in found.lines] == [
        line.due.amount if line.due.chain == number else 0 for line in run.lines
    ]
    assert claimed()[1] == 0
    assert found.held is not None
    assert found.held.free == ROUNDS * BUDGET - sent


def test_a_chain_with_another_deadline_is_not_the_experiments(paying: PlayedRun) -> None:
    whole = chain_record(paying.path)
    first, *others = whole.followed_by
    assert first.paying is not None
    changed = replace(first, rewards=replace(first.paying, deadline_s=first.paying.deadline_s + 1))
    federation = paying.federation
    experiment, genesis = federation.experiment, federation.genesis
    founded = Founded(
        court_rules(genesis, experiment, federation.task),
        (),
        reward_plan(experiment, genesis, federation.task),
        experiment.chain.registering(genesis.trainers),
    )
    arguments = (None, genesis.epoch_set, genesis.operator, [], experiment.chain.followers, founded)
    check_chain(whole, *arguments)
    with pytest.raises(ChainRecordError, match="chain 1 that follows: rewards may be taken over until"):
        check_chain(replace(whole, followers=(changed, *others)), *arguments)
