"""Consent from its first day to its last: registered, licensed on a chain, used, taken back, paid for what was used.

Four clinics learn together; clinic a's rows are registered and licensed on a chain of their own. After round 1 the
owner revokes. `COLLEGIUM_FULL=1` lets an epoch end between that and the end of the run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from _chain_stage import COIN, DEPLOYER, MALLORY, START_S, embedded, refused
from _run_stage import Copy, PlayedRun, check, play, write_experiment
from typer.testing import CliRunner

from collegium.apps._licences import Grant, LicenceStandsError, issue, revoke
from collegium.apps.cli import ExitCode, app
from collegium.consensus import NotInCohortError, Withdrawals, decode_payload, is_withdrawal
from collegium.crypto import AccountKey, hash_fields, load_keys, make_certificate
from collegium.errors import CollegiumError
from collegium.lineage import Influence, Lineage
from collegium.node import Event, PlayedRound, decode_licence
from collegium.node import RoundFinished as Told
from collegium.node import _run as run_module
from collegium.node import _verify as verify_module
from collegium.node._consents import ConsentMissingError, check_licences
from collegium.node._experiment import load_experiment
from collegium.node._ledger import decode_segments, encode_segments
from collegium.settlement import (
    CuratorShare,
    Deployment,
    Due,
    EmbeddedChain,
    MoneySite,
    TaskTerms,
    claim_fees,
    deploy,
    deploy_money,
    dues_of_influence,
    fee_version_digest,
    open_first_epoch,
    pay_for_version,
    pay_place,
    possession_context,
    post_task,
    read_owed,
    read_version,
    read_withdrawal,
    register_validator,
    register_version,
    sign_transaction,
    transact,
)
from collegium.settlement import contract as compiled

pytestmark = pytest.mark.slow

FULL = os.environ.get("COLLEGIUM_FULL") == "1"
REVOKED_AFTER = 1
ROUNDS = 7 if FULL else 4
CURATOR = bytes([0xC0]) * 20
CURATORS_PART = 1000
ROYALTY, SPONSORS = 2000, 500
CHALLENGE_S = 1000
PRICE = 1_000_003
OFFICE = 4
CLINIC_A = "a/0"

runner = CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"})


@dataclass
class Story:
    """Everything that is left of it."""

    folder: Path
    chain: EmbeddedChain
    site: MoneySite
    owner: AccountKey
    number: int
    experiment: Path
    played: PlayedRun | None = None
    refused: dict[int, list[CollegiumError]] = field(default_factory=dict)  # by round: what validators would not act on
    block: int = 0  # of the revocation

    @property
    def run(self) -> PlayedRun:
        assert self.played is not None
        return self.played

    @property
    def data_root(self) -> bytes:
        return decode_licence((self.folder / "public" / "licence.json").read_bytes()).data_root

    def lineage(self) -> Lineage:
        return Lineage(self.run.path / "lineage.db", read_only=True)


def registered(folder: Path) -> Path:
    """Have clinic a's owner make its keys and register its rows, with the commands."""
    (folder / "terms.txt").write_text("to learn who is ill, until I say no\n")
    experiment = write_experiment(folder / "public-plan")
    for words in (
        ("new-key", folder / "keys"),
        (
            *("register", folder / "public-plan" / "rows.csv", "--experiment", experiment, "--key", folder / "keys"),
            *("--terms", folder / "terms.txt", "--out", folder / "public", "--register", folder / "register"),
            *("--commitments", "2", "--site", "a"),
        ),
    ):
        result = runner.invoke(app, ["data", *map(str, words)])
        assert result.exit_code == ExitCode.GOOD, result.output
    return folder / "public" / "licence.json"


def licensed(folder: Path, facts: dict[str, Any]) -> Path:
    """Write the experiment that names the licence."""
    section = (
        f'[licences]\nchain_id = {facts["chain_id"]}\ncontract = "0x{facts["contract"]}"\n[licences.sites.a]\n'
        f'number = {facts["number"]}\nholder = "0x{facts["holder"]}"\ndata_root = "{facts["data_root"]}"\n[committee]'
    )
    changes = [("rounds = 3", f"rounds = {ROUNDS}"), ("[committee]", f"[trainers]\nminimum = 3\n{section}")]
    if FULL:
        changes.append(("absent = 1", "absent = 1\nepoch_rounds = 5"))
    return write_experiment(folder / "plan", *changes)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    for world in embedded():
        yield lived(tmp_path_factory.mktemp("consent"), world.chain)


def lived(folder: Path, chain: Any) -> Story:
    """Register, license, learn, revoke after a round, and learn on."""
    request = decode_licence(registered(folder).read_bytes())
    owner = load_keys(folder / "keys").account
    transact(chain, DEPLOYER, owner.address, b"", value=COIN)
    site = deploy_money(chain, DEPLOYER, challenge_s=CHALLENGE_S)
    grant = Grant(site.licences, "DE", ROYALTY, (CuratorShare(CURATOR, CURATORS_PART),))
    number = issue(chain, owner, request, grant, request.valid_from)
    with pytest.raises(LicenceStandsError):
        issue(chain, owner, request, grant, request.valid_from)
    experiment = licensed(folder, number)
    story = Story(folder, chain, site, owner, number["number"], experiment)
    play_round = run_module.play_round

    def revoked(event: Event) -> None:
        if isinstance(event, Told) and event.round == REVOKED_AFTER:
            story.block = revoke(chain, owner, site.licences, story.number)["block"]

    def noted(*arguments: Any) -> PlayedRound:
        played = play_round(*arguments)
        assert played.header is not None
        story.refused[played.header.round] = played.refused
        return played

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "play_round", noted)
        story.played = play(experiment, folder / "run", licences=[chain], on_event=revoked)
    return story


def admitted(story: Story) -> list[set[str]]:
    """Whose reports each round adds."""
    with story.lineage() as log:
        reports = [record for record in log.records() if record.kind == "report"]
    return [{record.subject for record in reports if record.round_number == number} for number in range(ROUNDS + 1)]


def test_the_data_of_a_revoked_licence_is_used_up_to_then_and_never_after(story: Story) -> None:
    """The record is ordered in the round after which it was brought; from the next one on nobody admits the trainer."""
    last = REVOKED_AFTER + 1
    everybody = {f"{clinic}/0" for clinic in "abcd"}
    assert admitted(story) == [everybody] * (last + 1) + [everybody - {CLINIC_A}] * (ROUNDS - last)


def test_the_trainer_that_goes_on_sending_is_refused_by_name(story: Story) -> None:
    strangers = {n: sum(isinstance(why, NotInCohortError) for why in said) for n, said in story.refused.items()}
    live = len(story.run.federation.nodes)
    assert all(not count for number, count in strangers.items() if number <= REVOKED_AFTER + 1)
    assert all(count >= live for number, count in strangers.items() if number > REVOKED_AFTER + 1)


def test_a_stranger_who_verifies_the_run_finds_the_withdrawal_and_holds_the_rounds_to_it(story: Story) -> None:
    verdict = check(story.run.path, story.run.anchor)
    assert verdict.failure is None
    assert any(line.startswith("consents: taken back for 1 trainers") for line in verdict.checks)


def test_a_round_that_used_the_data_later_would_not_verify(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the same ledger had ordered the withdrawal before round 0 was over."""
    find = verify_module.withdrawn_by_round

    def earlier(*arguments: Any) -> list[frozenset[bytes]]:
        found = find(*arguments)
        return [found[0], *[found[-1]] * (len(found) - 1)]

    monkeypatch.setattr(verify_module, "withdrawn_by_round", earlier)
    failure = check(story.run.path).failure or ""
    assert "round 1 adds a report" in failure
    assert "consent was taken back" in failure


def test_a_ledger_without_the_withdrawal_is_refused(story: Story, tmp_path: Path) -> None:
    copy = Copy.of(story.run.path, tmp_path / "run")
    segments = decode_segments((copy.path / "ledger.bin").read_bytes())
    for place, segment in enumerate(segments):
        kept = tuple(block for block in segment.blocks if not is_withdrawal(block.payload))
        if len(kept) < len(segment.blocks):
            changed = [*segments[:place], type(segment)(kept, segment.tip), *segments[place + 1 :]]
            (copy.path / "ledger.bin").write_bytes(encode_segments(changed))
    assert "does not follow the one before" in (copy.relist().failure or "")


def test_every_validator_holds_the_same_and_finds_it_again_after_a_crash(story: Story) -> None:
    (account,) = [account for account, name in story.run.federation.genesis.trainers if name == CLINIC_A]
    for node in story.run.federation.nodes.values():
        assert node.state.withdrawals == Withdrawals(frozenset({account}))
        before = None
        if FULL:
            member = story.run.federation.participants[0]
            before = getattr(member, "nodes")[0].epoch_over  # noqa: B009 - a member of epochs has them, others do not
        again, _ = type(node).restore(node.context, node.journal, node.state.round.terms, None, {}, 0, before=before)
        assert again.state.withdrawals == node.state.withdrawals


def test_nobody_else_can_take_the_consent_back(story: Story) -> None:
    """A signed call of the right function of the right contract, by somebody who holds no licence."""
    node = next(iter(story.run.federation.nodes.values()))
    consents = node.context.consents
    assert consents is not None
    record = bytes(story.chain.sent[story.block - 1].raw)
    assert len(consents.withdrawn(record)) == 1
    for account, licence, to, chain_id in (
        (MALLORY, story.number, story.site.licences, story.chain.chain_id),
        (story.owner, story.number + 1, story.site.licences, story.chain.chain_id),
        (story.owner, story.number, story.site.fees, story.chain.chain_id),
        (story.owner, story.number, story.site.licences, story.chain.chain_id + 1),
    ):
        forged = sign_transaction(
            account,
            chain_id=chain_id,
            nonce=0,
            fees=story.chain.fees(),
            gas_max=10**5,
            to=to,
            value=0,
            data=compiled("Licences").call("revoke", licence),
        )
        with pytest.raises(CollegiumError) as why:
            consents.withdrawn(forged)
        assert type(why.value).__name__ == "ForeignRevocationError"


def test_a_task_does_not_begin_on_consent_that_was_taken_back(story: Story) -> None:
    settings = load_experiment(story.experiment).licences
    assert settings is not None
    with pytest.raises(ConsentMissingError, match="was revoked"):
        check_licences(dict.fromkeys(settings.places, story.chain), settings)
    with refused("AlreadyRevoked"):
        revoke(story.chain, story.owner, story.site.licences, story.number)
    with refused("NotTheHolder"):
        revoke(story.chain, MALLORY, story.site.licences, story.number)


def weights(number: int) -> tuple[int, int]:
    """What the version of a round carries of clinic a, and of all: a report weighs 1, round 0 trains nothing."""
    rounds_with = min(number, REVOKED_AFTER + 1)
    return rounds_with, 4 * rounds_with + 3 * (number - rounds_with)


@pytest.mark.parametrize("named", ["licence", "number", "site", "root"])
def test_every_version_that_it_touched_is_listed_with_its_weight(story: Story, named: str) -> None:
    words = {
        "licence": str(story.folder / "public" / "licence.json"),
        "number": str(story.number),
        "site": "a",
        "root": story.data_root.hex(),
    }
    told = runner.invoke(app, ["lineage", str(story.run.path), "--erasure", words[named], "--json"])
    assert told.exit_code == ExitCode.GOOD, told.output
    found = json.loads(told.stdout)["versions"]
    assert [(entry["weight"], entry["of"]) for entry in found] == [weights(number) for number in range(ROUNDS + 1)]
    with story.lineage() as log:
        assert [entry["model"] for entry in found] == [
            record.digest.hex() for record in read_withdrawal(story.chain, story.site, story.number, log).versions
        ]


def test_a_licence_of_another_run_has_touched_nothing_here(story: Story) -> None:
    told = runner.invoke(app, ["lineage", str(story.run.path), "--erasure", "77"])
    assert told.exit_code == ExitCode.USER
    assert "no data of licence 77" in told.stderr


# --- royalties ---


def opened(story: Story) -> Deployment:
    """Let four of the run's validators hold office for its task on the chain of the licences, too."""
    chain, federation = story.chain, story.run.federation
    deployment = deploy(chain, DEPLOYER, federation.genesis.task, unbonding_s=CHALLENGE_S)
    digest = hash_fields("terms")
    terms = TaskTerms(digest, digest, digest, 1, START_S + 10**9, 3, ROYALTY, SPONSORS, "unproved")
    post_task(chain, story.site, DEPLOYER, deployment, terms)
    numbers = []
    for keys in federation.validators[:OFFICE]:
        transact(chain, DEPLOYER, keys.account.address, b"", value=2 * COIN)
        proof = keys.voting.prove_possession(
            possession_context(chain.chain_id, deployment.registry, keys.account.address)
        )
        public = keys.voting.public_key()
        numbers.append(register_validator(chain, deployment, keys.account, public, proof, COIN))
    open_first_epoch(chain, deployment, DEPLOYER, numbers)
    return deployment


def dues_of(story: Story, influence: tuple[Influence, ...]) -> tuple[Due, ...]:
    """Who is due what of a version: clinic a's owner by its licence, the other trainers by their accounts."""
    accounts = {name: Due(account, 0) for account, name in story.run.federation.genesis.trainers}
    accounts[CLINIC_A] = Due(story.owner.address, 0, story.number)
    return dues_of_influence(influence, accounts)


def sold(
    story: Story, deployment: Deployment, model: bytes, parent: bytes = bytes(32)
) -> tuple[bytes, tuple[Due, ...]]:
    """Register a version of the run's, with what its lineage says, on a certificate of those in office there."""
    with story.lineage() as log:
        dues = dues_of(story, log.influence(model))
    digest = fee_version_digest(pay_place(story.chain, deployment, story.site.fees), model, dues, parent)
    office = story.run.federation.validators[:OFFICE]
    signed = make_certificate(OFFICE, {i: keys.voting.sign(digest) for i, keys in enumerate(office)})
    return register_version(story.chain, story.site, DEPLOYER, deployment, model, dues, signed, parent), dues


def test_the_owner_is_paid_for_what_was_used_and_for_nothing_after(story: Story) -> None:
    """A consumer pays for the last version, made after the withdrawal; a royalty reaches the one before it."""
    chain, site = story.chain, story.site
    deployment = opened(story)
    with story.lineage() as log:
        models = [record.digest for record in log.models() if record.subject != "before round 0"]
    early, early_dues = sold(story, deployment, models[REVOKED_AFTER + 1])
    late, late_dues = sold(story, deployment, models[-1], early)
    chain.advance_to(chain.timestamp_s() + CHALLENGE_S)
    pay_for_version(chain, site, MALLORY, late, PRICE)

    royalty = PRICE * ROYALTY // 10_000
    expected, curators, dust = 0, 0, 0
    for version, dues, number, earned in (
        (early, early_dues, REVOKED_AFTER + 1, royalty),
        (late, late_dues, ROUNDS, PRICE - royalty),
    ):
        income = earned - earned * SPONSORS // 10_000
        assert read_version(chain, site, version).income == income
        (place,) = [index for index, due in enumerate(dues) if due.licence == story.number]
        assert (dues[place].amount, sum(due.amount for due in dues)) == weights(number)
        for index in range(len(dues)):
            claim_fees(chain, site, MALLORY, version, dues, index)
        part = income * dues[place].amount // sum(due.amount for due in dues)
        expected, curators = expected + part - part * CURATORS_PART // 10_000, curators + part * CURATORS_PART // 10_000
        dust += income - sum(income * due.amount // sum(each.amount for each in dues) for due in dues)
        with refused("NothingDue"):
            claim_fees(chain, site, MALLORY, version, dues, place)
    assert read_owed(chain, site.fees, story.owner.address) == expected
    assert read_owed(chain, site.fees, CURATOR) == curators
    others = [account for account, name in story.run.federation.genesis.trainers if name != CLINIC_A]
    owed = sum(
        read_owed(chain, site.fees, account) for account in (story.owner.address, CURATOR, DEPLOYER.address, *others)
    )
    assert owed == PRICE - dust == chain.balance(site.fees) - dust


def test_the_withdrawal_is_in_no_round_twice(story: Story) -> None:
    segments = decode_segments((story.run.path / "ledger.bin").read_bytes())
    payloads = [block.payload for segment in segments for block in segment.blocks if block.payload]
    ordered = [payload for payload in payloads if is_withdrawal(payload)]
    assert [payload[1:] for payload in ordered] == [story.chain.sent[story.block - 1].raw]
    kinds = [type(decode_payload(payload)).__name__ for payload in payloads if payload[:1] in b"CH"]
    assert kinds == ["Close", "Certified"] * (ROUNDS + 1)
