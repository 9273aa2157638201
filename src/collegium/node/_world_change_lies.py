"""What a liar says in a change of epochs: under its own keys, whatever they allow.

It withholds its ticket, its dealing, its verdict or its answer; deals twice, deals shares that fit nobody or only some,
deals what it does not know; complains of everybody; publishes wrong shares; signs two tickets or two first keys;
proposes a handover of its own; and takes words, votes and certificates from one epoch to another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from collegium.consensus import (
    Answer,
    ChangeRules,
    DealingRecord,
    EpochChange,
    EpochRecord,
    EpochSet,
    Handover,
    QuorumCertificate,
    TicketRecord,
    Verdict,
    ViewEntry,
    Vote,
    decode_epoch_record,
    encode_epoch_record,
    is_epoch_record,
    seat_bitmap,
)
from collegium.crypto import AccountKey, BlsSecretKey, SealKey, SecretShare, Stream, deal, hash_fields

from ._validator_node import ValidatorNode
from ._world_keys import seal_box

__all__ = ["ChangeLies"]

LIES: dict[type, tuple[str, ...]] = {
    TicketRecord: ("no ticket", "two tickets", "ticket of another attempt"),
    DealingRecord: ("no dealing", "two dealings", "misfit shares", "some misfit shares", "unproved dealing"),
    Verdict: ("no verdict", "false complaints", "two first keys"),
    Answer: ("no answer", "wrong answer"),
}
CHANCE = 0.3  # of each lie, where there is no script


class ChangeLies:
    """One liar's words in the change; `wants` tells whether it tells a lie now, and it stays with one for a record."""

    def __init__(
        self, account: AccountKey, voting: BlsSecretKey, rng: Random, wants: Callable[[str, float], bool]
    ) -> None:
        self.account, self.voting, self.rng, self.wants = account, voting, rng, wants
        self.moods: dict[tuple[int, int, type], str] = {}
        self.before: dict[int, tuple[EpochSet, ViewEntry]] = {}  # by epoch: its set, and the way into its last view

    # ------------------------------------------------------------------------------------------------ its own words

    def instead_of(self, node: ValidatorNode, payload: bytes) -> list[bytes]:
        """Return what it has ordered in the place of a payload that its machine submits or proposes."""
        surroundings, state = node.context.change, node.state.change
        if surroundings is None or state is None or not is_epoch_record(payload):
            return [payload]
        record, change = decode_epoch_record(payload), state.change
        if isinstance(record, Handover):
            return [self._handover(record) if self.wants("forged handover", 0.5) else payload]
        if record.start != change.start or not self._own(node, change, record):
            return [payload]
        key = (record.epoch, record.start, type(record))
        if key not in self.moods:
            told = [lie for lie in LIES[type(record)] if self.wants(lie, CHANCE)]
            self.moods[key] = self.rng.choice(told) if told else ""
        lies = self._lies(surroundings.rules, change, record, self.moods[key])
        return [encode_epoch_record(lie) for lie in lies]

    def _own(self, node: ValidatorNode, change: EpochChange, record: EpochRecord) -> bool:
        if isinstance(record, TicketRecord):
            return record.bls_key == bytes(self.voting.public_key())
        place = record.member if isinstance(record, Verdict) else getattr(record, "dealer", 0)
        members = () if change.members is None else change.members.validators
        return place < len(members) and members[place].account == self.account.address

    def _lies(self, rules: ChangeRules, change: EpochChange, record: EpochRecord, mood: str) -> list[EpochRecord]:
        scope = rules.scope(change)
        match record:
            case _ if mood.startswith("no "):
                return []
            case TicketRecord() if mood == "two tickets":
                other = replace(record, deal_key=SealKey.generate(self._random()).public_bytes)
                said: list[EpochRecord] = [record, replace(other, signature=self.account.sign(other.digest(scope)))]
            case TicketRecord() if mood == "ticket of another attempt":
                said = [replace(record, start=record.start + 1), record]
            case DealingRecord() if mood:
                said = self._dealings(rules, change, record, mood)
            case Verdict() if mood == "false complaints":
                everybody = tuple(dealer for dealer in sorted(change.dealings) if dealer != record.member)
                said = [self._signed(rules, change, replace(record, against=everybody))]
            case Verdict() if mood == "two first keys":
                key = replace(record.key, seal_key=SealKey.generate(self._random()).public_bytes)
                members = change.drawn().digest()
                digest = hash_fields("epoch-first-key", scope, members, key.validator, key.round, key.seal_key)
                key = replace(key, signature=self.account.sign(digest))
                said = [record, self._signed(rules, change, replace(record, key=key))]
            case Answer() if mood == "wrong answer":
                wrong = tuple((member, self._random()(31).rjust(32, b"\0")) for member, _ in record.shares)
                said = [self._signed(rules, change, replace(record, shares=wrong))]
            case _:
                said = [record]
        return said

    def _dealings(self, rules: ChangeRules, change: EpochChange, record: DealingRecord, mood: str) -> list[EpochRecord]:
        if mood == "two dealings":
            return [record, self._dealing(rules, change, record)]
        if mood == "unproved dealing":
            unproved = replace(record, possession=self.voting.sign(self.rng.randbytes(32)))
            return [self._signed(rules, change, unproved)]
        spoilt = list(range(len(record.boxes)))
        if mood == "some misfit shares":
            spoilt = self.rng.sample(spoilt, (len(spoilt) + 1) // 2)
        boxes = tuple(self.rng.randbytes(len(box)) if i in spoilt else box for i, box in enumerate(record.boxes))
        return [self._signed(rules, change, replace(record, boxes=boxes))]

    def _dealing(self, rules: ChangeRules, change: EpochChange, record: DealingRecord) -> EpochRecord:
        """Return another dealing, as good as the first."""
        members, scope, place = change.drawn(), rules.scope(change), record.dealer
        dealing = deal(self._random(), members.size, members.quorum)

        def box(share: SecretShare) -> bytes:
            purpose = hash_fields("epoch-share", scope, members.digest(), place, share.member)
            return seal_box(change.deal_key(share.member), purpose, share.to_bytes())

        possession = dealing.prove_possession(DealingRecord.possession_context(scope, members, place))
        other = replace(record, commitments=dealing.commitments, possession=possession)
        other = replace(other, boxes=tuple(box(share) for share in dealing.shares))
        return self._signed(rules, change, other)

    def _signed(self, rules: ChangeRules, change: EpochChange, record: DealingRecord | Verdict | Answer) -> EpochRecord:
        return replace(record, signature=self.account.sign(record.digest(rules.scope(change), change.drawn())))

    def _handover(self, record: Handover) -> bytes:
        """Return a handover of its own: a member, a dealer or a first key less, or another key."""
        forged = self.rng.choice(
            (
                replace(record, seats=record.seats[:-1], public_shares=record.public_shares[:-1]),
                replace(record, dealers=record.dealers[1:]),
                replace(record, keys=record.keys[1:]),
                replace(record, group_key=record.public_shares[0]),
            )
        )
        return encode_epoch_record(forged)

    def _random(self) -> Stream:
        return Stream(self.rng.randbytes(32))

    # ------------------------------------------------------------------------------------------------ other epochs

    def abroad(self, node: ValidatorNode, message: Any) -> list[tuple[int, Any]]:
        """Return what it says where it does not belong: in which epoch, and what."""
        epoch_set = node.context.round.epoch_set
        epoch = epoch_set.epoch
        self.before[epoch] = (epoch_set, node.state.replica.vote_state.entry)
        said: list[tuple[int, Any]] = []
        if self.wants("words of another epoch", 0.03):
            said.append((epoch + self.rng.choice((-1, 1)), message))
        if epoch - 1 not in self.before:
            return said
        old_set, entry = self.before[epoch - 1]
        if isinstance(message, Vote) and self.wants("votes of the old epoch", 0.3):
            signature = self.voting.sign(message.ballot.digest(old_set))
            said.append((epoch, replace(message, signature=signature)))
        if self.wants("certificates of the old epoch", 0.05):
            certificate = relabelled(entry.high_certificate, old_set, epoch_set)
            if certificate is not None:
                said.append((epoch, ViewEntry(certificate, None)))
        return said


def relabelled(certificate: QuorumCertificate, old: EpochSet, new: EpochSet) -> QuorumCertificate | None:
    """Return a certificate with its signers named by their places in another set, if all have one there."""
    places = {validator.bls_key: validator.index for validator in new.validators}
    bits = int.from_bytes(certificate.signers, "little")
    signers = [validator.bls_key for validator in old.validators if bits >> validator.index & 1]
    if not signers or not all(key in places for key in signers):
        return None
    return replace(certificate, signers=seat_bitmap({places[key] for key in signers}, new.size))
