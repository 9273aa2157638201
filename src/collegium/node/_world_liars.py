"""Byzantine validators of a simulated world: each runs the protocol and says something else.

A liar signs with its own keys only, and says whatever they allow: two blocks in a view, a block or a timeout on a stale
certificate, votes for everything, closes that leave half out, false receipts and rejects, wrong key sums, garbage
shares of the beacon, releases for another close, headers that are wrong or differ from listener to listener, two
sealing keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from random import Random
from typing import Any

import numpy as np

from collegium import aggregation
from collegium.aggregation import KeySum, Receipt, RoundTerms
from collegium.consensus import (
    Announcement,
    Block,
    Close,
    EpochSigner,
    HeaderProposal,
    HeaderVote,
    ProofReject,
    Relay,
    Release,
    SeatReceipt,
    Timeout,
    ViewEntry,
    Vote,
    assign_seats,
    decode_payload,
    encode_payload,
    sign_proposal,
    sign_release,
    timeout_digest,
)
from collegium.errors import CollegiumError

from ._validator_node import ValidatorNode
from ._world_change_lies import ChangeLies
from ._world_task import Cast

__all__ = ["Liar"]

ENTRIES_KEPT = 20
Said = list[tuple[int, Any]]


def partial_close(payload: bytes, rng: Random) -> bytes:
    """Return a close of half of the reports that this one admits, or the payload if it is no such close."""
    try:
        close = decode_payload(payload)
    except CollegiumError:
        return payload
    if not isinstance(close, Close) or len(close.reports) < 2:
        return payload
    kept = sorted(rng.sample(range(len(close.reports)), len(close.reports) // 2))

    def some(items: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(items[i] for i in kept)

    return encode_payload(replace(close, reports=some(close.reports), weights=some(close.weights), registered=()))


def garbled(key_sum: KeySum, account: Any, rng: Random) -> KeySum:
    """Return a wrong sum under the seat's good signature."""
    rows = np.array([rng.getrandbits(63) for _ in range(key_sum.rows.size)], np.uint64).reshape(key_sum.rows.shape)
    unsigned = replace(key_sum, rows=rows)
    return replace(unsigned, signature=account.sign(unsigned.digest))


class Liar:
    """One validator's lies; `blocks` shows it what anybody holds in an epoch.

    With a `script` it tells the lies named there whenever it can, and is honest otherwise.
    """

    def __init__(
        self,
        member: int,
        cast: Cast,
        rng: Random,
        blocks: Callable[[int], Iterable[Block]],
        script: Sequence[str] = (),
    ) -> None:
        self.cast, self.rng, self.script, self.blocks = cast, rng, script, blocks
        self.account, self.voting = cast.accounts[member], cast.voting[member]
        self.signer = EpochSigner(self.voting, self.account)
        self.seen: dict[int, list[ViewEntry]] = {}  # by epoch
        self.change = ChangeLies(self.account, self.voting, rng, self._wants)

    def instead_of(self, node: ValidatorNode, message: Any, to: int | None) -> Said:
        """Return what is said, and to whom, in the place of an honest message of its node to one or (None) all."""
        self.node, self.index, self.epoch_set = node, node.index, node.context.round.epoch_set
        self.everybody = range(self.epoch_set.size)
        entries = self.seen.get(self.epoch_set.epoch, [])
        self.entries = [*entries[-ENTRIES_KEPT:], node.state.replica.vote_state.entry]
        self.seen[self.epoch_set.epoch] = self.entries
        said: Said = []
        for listener in self.everybody if to is None else (to,):
            if not self._wants("silence", 0.2):
                said += [(listener, lie) for lie in self._lies(message)]
        if isinstance(message, Vote):
            said += self._votes()
        if isinstance(message, SeatReceipt):
            said += self._reject(message)
        return said

    def _pretend(self, proposal: HeaderProposal) -> None:
        """Have its own machine take a proposal that it made up for its own, and count the votes for it."""
        state = self.node.state
        self.node.state = replace(state, round=replace(state.round, own=proposal, votes={}))

    def _lies(self, message: Any) -> list[Any]:
        """Return what one listener is told."""
        match message:
            case Relay():
                return [
                    replace(message, payload=payload) for payload in self.change.instead_of(self.node, message.payload)
                ]
            case Block():
                return self._blocks(message)
            case Timeout():
                message = self._timeout(message)
            case SeatReceipt():
                message = self._receipt(message)
            case Release():
                message = self._release(message)
            case HeaderProposal():
                message = self._proposal(message)
                self._pretend(message)
            case HeaderVote() if self._wants("garbage vote", 0.4):
                message = replace(message, signature=self.voting.sign(self.rng.randbytes(32)))
            case Announcement() if self._wants("two sealing keys", 0.4):
                unsigned = replace(message, seal_key=self.rng.randbytes(32))
                message = replace(unsigned, signature=self.account.sign(unsigned.digest(self.epoch_set.task)))
        return [message]

    def _wants(self, lie: str, chance: float) -> bool:
        return lie in self.script if self.script else self.rng.random() < chance

    # ------------------------------------------------------------------------------------------------ ordering

    def _entry_into(self, view: int, honest_one: ViewEntry) -> ViewEntry:
        """Any pair of certificates it has seen that leads into `view`."""
        timeouts = [e.timeout_certificate for e in self.entries if e.timeout_certificate]
        choices = [honest_one]
        for entry in self.entries:
            certificate = entry.high_certificate
            choices += [ViewEntry(certificate, None)] * (certificate.view == view - 1)
            choices += [
                ViewEntry(certificate, t)
                for t in timeouts
                if t.view == view - 1 and t.high_view <= certificate.view < t.view
            ]
        return self.rng.choice(choices)

    def _blocks(self, like: Block) -> list[Block]:
        payloads = self.change.instead_of(self.node, like.payload)
        if payloads != [like.payload]:
            return [self._with_payload(like, payload) for payload in payloads or [b""]]
        said = [] if self._wants("half close", 0.3) else [like]
        if not said or self._wants("two blocks", 0.5):
            said.append(self._block(like))
        return said

    def _block(self, like: Block) -> Block:
        entry = ViewEntry(like.parent_certificate, like.timeout_certificate)
        if self._wants("stale parent", 0.5):
            entry = self._entry_into(like.view, entry)
        half = partial_close(like.payload, self.rng)
        payload = half if self.script else self.rng.choice((b"", like.payload, half))
        stale = replace(like, parent_certificate=entry.high_certificate, timeout_certificate=entry.timeout_certificate)
        return self._with_payload(stale, payload)

    def _with_payload(self, like: Block, payload: bytes) -> Block:
        draft = replace(like, payload=payload)
        return draft.signed(self.signer.sign_block(draft.digest))

    def _votes(self) -> Said:
        """Votes for the last blocks that anybody holds, whatever the rules say."""
        said: Said = []
        for block in self.blocks(self.epoch_set.epoch):
            if self._wants("votes for all", 0.5):
                digest = block.ballot.digest(self.epoch_set)
                vote = Vote(block.ballot, self.index, self.signer.sign_vote(digest))
                said.append((self.rng.choice(self.everybody), vote))
        return said

    def _timeout(self, like: Timeout) -> Timeout:
        """A timeout that hides what its author is locked on."""
        if not self._wants("hidden lock", 0.7):
            return like
        entry = self._entry_into(like.view, like.entry)
        digest = timeout_digest(self.epoch_set, like.view, entry.high_certificate.view)
        return Timeout(like.view, self.index, entry, self.signer.sign_vote(digest))

    # ------------------------------------------------------------------------------------------------ the round

    def _terms(self) -> RoundTerms:
        terms: RoundTerms = self.node.state.round.terms
        return terms

    def _receipt(self, like: SeatReceipt) -> SeatReceipt:
        """A receipt that says the proof was verified, or one for a seat of somebody else's."""
        if like.round != self._terms().round:
            return like
        seat, verified = like.receipt.seat, like.receipt.verified
        if self._wants("false receipt", 0.3):
            verified = like.receipt.reports
        if self._wants("forged receipt", 0.2):
            seat = self.rng.randrange(len(self._terms().seats))
        receipt: Receipt = aggregation.issue_receipt(self._terms(), seat, like.receipt.reports, self.account, verified)
        return SeatReceipt(like.round, receipt)

    def _reject(self, like: SeatReceipt) -> Said:
        """Now and then a reject of a report whose proof it has just found good."""
        if not like.receipt.reports or not self._wants("false reject", 0.1):
            return []
        unsigned = ProofReject(like.round, self.rng.choice(like.receipt.reports), self.index)
        reject = replace(unsigned, signature=self.account.sign(unsigned.digest(self.epoch_set.task)))
        return [(listener, reject) for listener in self.everybody]

    def _release(self, like: Release) -> Release:
        close, share, sums = like.close, like.beacon_share, like.key_sums
        if self._wants("wrong sums", 0.2):
            sums = tuple(garbled(key_sum, self.account, self.rng) for key_sum in sums)
        if self._wants("garbage share", 0.2):
            share = self.voting.sign(self.rng.randbytes(32))
        if self._wants("other close", 0.1):
            close = self.rng.randbytes(32)
            unsigned = [replace(key_sum, close=close) for key_sum in sums]
            sums = tuple(replace(u, signature=self.account.sign(u.digest)) for u in unsigned)
        if self._wants("few sums", 0.2):
            sums = sums[:1]
        changed = replace(like, close=close, beacon_share=share, key_sums=sums)
        return sign_release(changed, self.epoch_set.task, self.account)

    def _proposal(self, like: HeaderProposal) -> HeaderProposal:
        header, sums = like.header, like.key_sums
        if self._wants("wrong model", 0.15):
            header = replace(header, model=sha256(header.model).digest())
        if self._wants("false outcome", 0.15):
            header = replace(header, outcome="lost", total=bytes(32), model=self._terms().model, lying=())
        if self._wants("few keys", 0.15):
            header = replace(header, announcements=header.announcements[:-1])
        if self._wants("stale beacon", 0.15):
            stale = self.voting.sign(sha256(header.beacon).digest())  # of 48 bytes as well
            seats = assign_seats(sha256(stale).digest(), self.epoch_set, len(self._terms().seats))
            header = replace(header, beacon=stale, seats=seats)
        if sums and self._wants("other sums", 0.2):
            left_out = self.rng.choice(sums)
            sums = tuple(s for s in sums if s is not left_out)
            header = replace(header, key_sums=tuple(pair for pair in header.key_sums if pair[0] != left_out.seat))
        return sign_proposal(replace(like, header=header, key_sums=sums), self.account)
