"""How trainers, stewards and relayers ask validators: several of them, and they take only what verifies.

What is final carries certificates, objects are named by their digest, signatures are checked; where an answer proves
nothing by itself, one more validator than can be bad must say the same. docs/spec/gateway.md has the argument.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from collegium.consensus import (
    RESPONSE_BLOCKS_MAX,
    Block,
    Certified,
    EpochSet,
    HandoverProof,
    QuorumCertificate,
    Registered,
    decode_payload,
    verify_final,
)
from collegium.crypto import AccountKey, BlsPublicKey, Digest, bls_verify
from collegium.errors import CollegiumError

from ._client_line import ClientLimits, GatewayAnswerError, Line, open_lines
from ._client_upload import record_to, upload_to
from ._desk import FinalBlocks, Readiness, Verdict
from ._epochs import Epochs, ForkedEpochError, KnownEpoch, first_stray, place_of
from ._event_feed import NodeEvent
from ._evidence import RunEvidence, decode_run_evidence, round_evidence_name
from ._ledger import decode_ledger
from ._upload_ticket import make_ticket

__all__ = ["DisagreementError", "FinalHeader", "NobodyAnsweredError", "ValidatorClient"]

if TYPE_CHECKING:
    from collegium.settlement import Checkpoint

T = TypeVar("T")

SMALL_BYTES_MAX: Final = 16 << 10
ASKED_AT_FIRST: Final = 2


class NobodyAnsweredError(CollegiumError):
    """No validator gave an answer that verifies; `values["reasons"]` says what each of them said."""


class DisagreementError(CollegiumError):
    """Too few validators say the same of something that no answer proves: ask again later."""


@dataclass(frozen=True, slots=True)
class FinalHeader:
    """A certified header in a final block, with the certificates that prove it so; verified."""

    block: Block
    certificates: tuple[QuorumCertificate, ...]
    certified: Certified


class ValidatorClient:
    """Asks a task's validators: what only members know, those of the present epoch as far as handovers were proved.

    Args:
        epochs: of the task; more are learned as validators prove them.
        lines: the gateways to ask, by validator's place among the candidates (`open_lines`).
        random: which of them are asked first, and how long a retry waits.
    """

    def __init__(
        self,
        epochs: Epochs,
        lines: Mapping[int, Line],
        limits: ClientLimits | None = None,
        random: Random | None = None,
    ) -> None:
        self.epochs = epochs
        self._lines = dict(lines)
        self._limits = limits or ClientLimits()
        self._random = random or SystemRandom()
        self._known: FinalHeader | None = None
        self._candidates = [validator.account for validator in epochs.get(0).epoch_set.validators]

    @classmethod
    def over_tls(
        cls,
        epochs: Epochs,
        places: Mapping[int, tuple[str, int]],
        authority: Path,
        limits: ClientLimits | None = None,
    ) -> ValidatorClient:
        """Return a client of the gateways at these hosts and ports, known by the consortium's authority."""
        chosen = limits or ClientLimits()
        return cls(epochs, open_lines(epochs.present.epoch_set.task, places, authority, chosen), chosen)

    @property
    def epoch_set(self) -> EpochSet:
        """Who is in office, as far as is known here."""
        return self.epochs.present.epoch_set

    async def close(self) -> None:
        """Hang up everywhere."""
        await asyncio.gather(*(line.close() for line in self._lines.values()))

    # -------------------------------------------------------------------------------------------- what is final

    async def latest(self, after: FinalHeader | None = None, wait_s: float = 0.0) -> FinalHeader | None:
        """Return the last final header: the highest of those that one more than can be bad tell; None if there is none.

        Args:
            after: a header that is known; only a later one is returned.
            wait_s: how long to wait for one; then the first that comes is returned.

        Raises:
            DisagreementError: too few answer, where the first is not waited for.
            NobodyAnsweredError: no answer that verifies.
            ForkedEpochError: a validator proves another history than the one that is known here.
        """
        while True:
            present = self.epochs.present
            found = await self._latest_of(present, after, wait_s)
            if self.epochs.present is present or (found is not None and wait_s > 0):
                return found  # else those who were asked are in office no more

    async def _latest_of(self, members: KnownEpoch, after: FinalHeader | None, wait_s: float) -> FinalHeader | None:
        ask = partial(self._ask_latest, after=after, wait_s=wait_s)
        enough, hedge_s = members.epoch_set.faulty_max + 1, wait_s + self._limits.hedge_s
        news = -1 if after is None else after.certified.header.round
        found: list[FinalHeader] = []
        count = 0
        async with aclosing(self._each(ask, enough, hedge_s, members)) as answers:
            async for answer in answers:
                count += 1
                if answer is not None and answer.certified.header.round > news:
                    found.append(answer)
                if count >= enough or (found and wait_s > 0):
                    break
        if count < enough and wait_s == 0 and self.epochs.present is members:
            raise DisagreementError(
                f"{count} validators tell of a last header, expected {enough}", answers=count, expected=enough
            )
        return max(found, key=lambda header: header.certified.header.round, default=None)

    async def epoch_after(self, header: FinalHeader) -> KnownEpoch:
        """Return the epoch of the round after a final header: the header's own, or the one that begins then.

        That one begins is proved; that none does, one more of the members than can be bad must say.

        Raises:
            DisagreementError: too few say so, as may be while an epoch ends.
            NobodyAnsweredError: no answer that serves.
        """
        number, known, plan = header.certified.header.round + 1, self.epochs.get(header.block.epoch), self.epochs.plan
        settled = plan is None or number < known.first_round + plan.epoch_rounds
        if settled or self.epochs.present.epoch > known.epoch:
            return self.epochs.of_round(number)

        async def ask(line: Line) -> bool:
            query = {"round": str(number - 1)}
            answer = await line.ask(f"/v1/handovers/{known.epoch}", self._limits.blocks_bytes_max, query=query)
            if answer.status == 204:
                return False
            self._learn(line, answer.body, known.epoch)
            return True

        enough, passed = known.epoch_set.faulty_max + 1, 0
        async with aclosing(self._each(ask, enough, self._limits.hedge_s, known)) as answers:
            async for ended in answers:
                passed += not ended
                if ended or passed >= enough:
                    return self.epochs.of_round(number)
        raise DisagreementError(
            f"{passed} validators say that epoch {known.epoch} goes on after round {number - 1}, expected {enough}",
            answers=passed,
            expected=enough,
        )

    async def blocks(self, after: Digest, count: int = RESPONSE_BLOCKS_MAX, epoch: int | None = None) -> FinalBlocks:
        """Return verified final blocks of an epoch after `after` (one, or its genesis), each the parent of the next.

        None of them where somebody says that there are no more: whoever wants to be sure asks for the last header.

        Args:
            epoch: None: the present one, as far as is known here.

        Raises:
            NobodyAnsweredError: no answer that verifies.
        """
        known = self.epochs.present if epoch is None else self.epochs.get(epoch)

        async def ask(line: Line) -> FinalBlocks:
            query = {"after": after.hex(), "count": str(count), "epoch": str(known.epoch)}
            answer = await line.ask("/v1/blocks", self._limits.blocks_bytes_max, query=query)
            try:
                return self._check_blocks(known, after, *decode_ledger(answer.body))
            except CollegiumError as error:
                raise line.malformed("blocks", error) from error

        return await self._first(ask)

    async def object(self, digest: Digest) -> bytes:
        """Return the object of this SHA-256.

        Raises:
            NobodyAnsweredError: nobody has it.
        """
        return await self._first(partial(self._ask_object, digest=digest))

    async def named_object(self, identity: Digest, check: Callable[[bytes], None]) -> bytes:
        """Return the report or key sum of an identity.

        Args:
            check: raises a CollegiumError unless the bytes are of this identity: nothing else proves it.

        Raises:
            NobodyAnsweredError: nobody has it.
        """

        async def ask(line: Line) -> bytes:
            digest = (await line.ask(f"/v1/names/{identity.hex()}", SMALL_BYTES_MAX)).body
            data = await self._ask_object(line, digest)
            try:
                check(data)
            except CollegiumError as error:
                raise line.malformed(f"object of identity {identity.hex()}", error) from error
            return data

        return await self._first(ask)

    async def round_evidence(self, header: Digest) -> list[RunEvidence]:
        """Return what validators kept of the round with this final header, of each that kept something and answers.

        Nothing in it is verified.
        """
        name = round_evidence_name(header)

        async def ask(line: Line) -> RunEvidence:
            digest = (await line.ask(f"/v1/names/{name.hex()}", SMALL_BYTES_MAX)).body
            data = await self._ask_object(line, digest)
            try:
                return decode_run_evidence(data)
            except CollegiumError as error:
                raise line.malformed(f"evidence of the round with header {header.hex()}", error) from error

        found = list[RunEvidence]()
        with suppress(NobodyAnsweredError):
            async with aclosing(self._each(ask, len(self._lines), self._limits.hedge_s)) as answers:
                found += [answer async for answer in answers]
        return found

    async def registered(self, trainer: bytes) -> Registered | None:
        """Return what a trainer has registered last, as one validator more than can be bad say alike.

        Raises:
            DisagreementError: too few say the same, as may be while a round ends.
            NobodyAnsweredError: too few answer.
        """

        async def ask(line: Line) -> Registered | None:
            answer = await line.ask(f"/v1/registrations/{trainer.hex()}", SMALL_BYTES_MAX)
            try:
                found = msgspec.json.decode(answer.body, type=Registered | None)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                raise line.malformed("registration", error) from error
            if found is not None and found.trainer != trainer:
                raise GatewayAnswerError(f"validator {line.validator} tells of trainer {found.trainer.hex()}")
            return found

        enough, said = self.epoch_set.faulty_max + 1, Counter[Registered | None]()
        async with aclosing(self._each(ask, enough, self._limits.hedge_s, self.epochs.present)) as answers:
            async for answer in answers:
                said[answer] += 1
                if said[answer] >= enough:
                    return answer
        raise DisagreementError(
            f"{sum(said.values())} validators say {len(said)} different things of trainer {trainer.hex()}, expected "
            f"{enough} that agree",
            answers=sum(said.values()),
            expected=enough,
        )

    async def checkpoint_signatures(self, checkpoint: Checkpoint, enough: int | None = None) -> dict[int, bytes]:
        """Return signatures of a checkpoint by place in its epoch's set, verified: a quorum's, or `enough`, or all.

        Raises:
            UnknownEpochError: it is of an epoch that is not known yet.
            NobodyAnsweredError: none.
        """
        path = f"/v1/checkpoints/{checkpoint.last_round}"
        return await self._signatures(self.epochs.get(checkpoint.epoch), path, checkpoint.digest, enough)

    async def handover_signatures(self, epoch: int, digest: Digest, enough: int | None = None) -> dict[int, bytes]:
        """Return signatures, by the members that an epoch relieves, of what the base chain asks to open the next one.

        Args:
            epoch: the one that is over.
            digest: `opening_digest`.
            enough: instead of a quorum.

        Raises:
            UnknownEpochError, NobodyAnsweredError: as `checkpoint_signatures`.
        """
        return await self._signatures(self.epochs.get(epoch), f"/v1/handovers/{epoch}/signature", digest, enough)

    async def _signatures(self, members: KnownEpoch, path: str, digest: Digest, enough: int | None) -> dict[int, bytes]:
        epoch_set = members.epoch_set

        async def ask(line: Line) -> tuple[int, bytes]:
            place = place_of(self._candidates[line.validator], epoch_set)
            if place is None:
                raise GatewayAnswerError(f"validator {line.validator} has no place in epoch {members.epoch}")
            answer = await line.ask(path, SMALL_BYTES_MAX)
            try:
                bls_verify(BlsPublicKey(epoch_set.validator(place).bls_key), digest, answer.body)
            except CollegiumError as error:
                raise line.malformed(f"signature at {path}", error) from error
            return place, answer.body

        wanted, found = enough or epoch_set.quorum, dict[int, bytes]()
        async with aclosing(self._each(ask, wanted, self._limits.hedge_s, members)) as answers:
            async for place, signature in answers:
                found[place] = signature
                if len(found) >= wanted:
                    break
        return found

    async def withdraw(self, record: bytes) -> None:
        """Bring a withdrawal of consent to one member more than can be bad: one of them has it ordered.

        Raises:
            NobodyAnsweredError: none takes it, each for its reason.
        """

        async def ask(line: Line) -> None:
            await line.ask("/v1/withdrawals", SMALL_BYTES_MAX, method="POST", body=record)

        enough, taken = self.epoch_set.faulty_max + 1, 0
        async with aclosing(self._each(ask, enough, self._limits.hedge_s, self.epochs.present)) as answers:
            async for _ in answers:
                taken += 1
                if taken >= enough:
                    return

    # -------------------------------------------------------------------------------------------- upload and watch

    async def upload(
        self,
        round_number: int,
        data: bytes,
        account: AccountKey,
        told: Callable[[int, Verdict | CollegiumError], None] | None = None,
    ) -> dict[int, Verdict | CollegiumError]:
        """Upload to every member of the round's epoch until each has spoken; return its verdict, or why it has none.

        Goes on through broken connections and restarts until the round is over there; cancel it when that is known.

        Args:
            data: the upload's bytes (`encode_upload`).
            told: hears each validator's verdict as it comes.
        """

        async def send(line: Line) -> Verdict:
            ticket = make_ticket(account, self.epoch_set.task, line.validator, round_number, data)
            return await upload_to(line, ticket, data, self._limits, self._random)

        return await self._to_members(round_number, send, told)

    async def bring_record(
        self,
        round_number: int,
        data: bytes,
        told: Callable[[int, Verdict | CollegiumError], None] | None = None,
    ) -> dict[int, Verdict | CollegiumError]:
        """Bring a steward's signed record to every member of the round's epoch; as `upload`."""
        return await self._to_members(
            round_number, lambda line: record_to(line, data, self._limits, self._random), told
        )

    async def _to_members(
        self,
        round_number: int,
        send: Callable[[Line], Awaitable[Verdict]],
        told: Callable[[int, Verdict | CollegiumError], None] | None,
    ) -> dict[int, Verdict | CollegiumError]:
        room = asyncio.Semaphore(self._limits.uploads_at_once)
        outcomes: dict[int, Verdict | CollegiumError] = {}

        async def deliver(line: Line) -> None:
            outcome: Verdict | CollegiumError
            async with room:
                try:
                    outcome = await send(line)
                except CollegiumError as error:
                    outcome = error
            outcomes[line.validator] = outcome
            if told is not None:
                told(line.validator, outcome)

        async with asyncio.TaskGroup() as group:
            for line in self._shuffled(self.epochs.of_round(round_number)):
                group.create_task(deliver(line))
        return dict(sorted(outcomes.items()))

    async def readiness(self, validator: int) -> Readiness:
        """Return how one validator says it stands.

        Raises:
            GatewayUnreachableError, GatewayRefusedError, GatewayAnswerError: see there.
        """
        line = self._lines[validator]
        answer = await line.ask("/readyz", SMALL_BYTES_MAX, accepted=(503,))
        try:
            return msgspec.json.decode(answer.body, type=Readiness)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise line.malformed("readiness", error) from error

    def events(self, validator: int, after: int | None = None) -> AsyncIterator[NodeEvent]:
        """Return one validator's events, which prove nothing: they are for watching."""
        return self._lines[validator].events(after)

    # -------------------------------------------------------------------------------------------- several

    async def _first(self, ask: Callable[[Line], Awaitable[T]]) -> T:
        """Return the first good answer; a slow or failing validator is not waited for long."""
        async with aclosing(self._each(ask, ASKED_AT_FIRST, self._limits.hedge_s)) as answers:
            async for answer in answers:
                return answer
        raise AssertionError("`_each` yields or raises")

    async def _each(
        self, ask: Callable[[Line], Awaitable[T]], at_once: int, hedge_s: float, members: KnownEpoch | None = None
    ) -> AsyncGenerator[T]:
        """Yield good answers as they come: `at_once` validators are asked, another one for each that fails, and one
        every `hedge_s` in which nobody answers. Only `members` of an epoch are asked, or (None) all candidates.

        Raises:
            NobodyAnsweredError: all were asked, and none answered well.
            ForkedEpochError: one proves that a set signed two histories: to ask others would hide it.
        """
        waiting, reasons, good = self._shuffled(members), dict[int, str](), 0
        asked: dict[asyncio.Task[T], int] = {}

        def ask_another() -> None:
            if waiting:
                line = waiting.pop()
                asked[asyncio.ensure_future(ask(line))] = line.validator

        try:
            for _ in range(at_once):
                ask_another()
            while asked:
                done, _ = await asyncio.wait(asked, timeout=hedge_s, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    ask_another()
                for task in done:
                    validator = asked.pop(task)
                    error = task.exception()
                    if error is None:
                        good += 1
                        yield task.result()
                    elif isinstance(error, CollegiumError) and not isinstance(error, ForkedEpochError):
                        reasons[validator] = str(error)
                        ask_another()
                    else:
                        raise error
                if not asked:
                    ask_another()
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        if not good:
            said = "; ".join(f"{v}: {reason}" for v, reason in sorted(reasons.items())[:4])
            raise NobodyAnsweredError(
                f"none of {len(reasons)} validators gave an answer that verifies: {said}", reasons=reasons
            )

    def _shuffled(self, members: KnownEpoch | None = None) -> list[Line]:
        lines = [line for _, line in sorted(self._lines.items())]
        if members is not None:
            accounts = {validator.account for validator in members.epoch_set.validators}
            lines = [line for line in lines if self._candidates[line.validator] in accounts]
        return self._random.sample(lines, len(lines))

    # -------------------------------------------------------------------------------------------- one, verified

    async def _ask_latest(self, line: Line, after: FinalHeader | None, wait_s: float) -> FinalHeader | None:
        query = {"wait_ms": str(int(1000 * wait_s))}
        if after is not None:
            query |= {"epoch": str(after.block.epoch), "view": str(after.block.view)}
        answer = await line.ask("/v1/round", self._limits.blocks_bytes_max, query=query, wait_s=wait_s)
        if answer.status == 204:
            return None
        try:
            blocks, certificates = decode_ledger(answer.body)
            if len(blocks) != 1:
                raise GatewayAnswerError(f"{len(blocks)} blocks, expected the one of the last final header")
        except CollegiumError as error:
            raise line.malformed("final header", error) from error
        await self._walk_to(blocks[0].epoch, line)
        try:
            return self._check_header(blocks[0], certificates)
        except CollegiumError as error:
            await self._look_for_fork(min(blocks[0].epoch, self.epochs.present.epoch), line)
            raise line.malformed("final header", error) from error

    async def _look_for_fork(self, epoch: int, line: Line) -> None:
        """Hear by which handovers a validator came to an epoch in which nothing that it tells holds here.

        Raises:
            ForkedEpochError: by another one than is known here, and as well signed.
            CollegiumError: it does not prove them.
        """
        for ended in range(epoch):
            answer = await line.ask(f"/v1/handovers/{ended}", self._limits.blocks_bytes_max)
            self._learn(line, answer.body, ended)

    async def _walk_to(self, epoch: int, line: Line) -> None:
        """Learn the epochs up to one, from the handovers that a validator proves.

        Raises:
            CollegiumError: it does not prove them.
        """
        while (ended := self.epochs.present.epoch) < epoch:
            answer = await line.ask(f"/v1/handovers/{ended}", self._limits.blocks_bytes_max)
            self._learn(line, answer.body, ended)

    def _learn(self, line: Line, data: bytes, ended: int) -> None:
        """Take the handover that ends an epoch as a validator tells it; another epoch's, however true, is no answer.

        Raises:
            ForkedEpochError: see `Epochs.hand_over`; it is the ended set's doing, not this validator's.
            GatewayAnswerError: it proves nothing.
        """
        try:
            blocks, certificates = decode_ledger(data)
            if len(blocks) != 1:
                raise GatewayAnswerError(f"{len(blocks)} blocks, expected the one that orders a handover")
            if blocks[0].epoch != ended:
                raise GatewayAnswerError(f"the handover that ends epoch {blocks[0].epoch}, expected epoch {ended}'s")
            self.epochs.hand_over(HandoverProof(blocks[0], certificates))
        except ForkedEpochError:
            raise
        except CollegiumError as error:
            raise line.malformed("handover", error) from error

    def _check_header(self, block: Block, certificates: tuple[QuorumCertificate, ...]) -> FinalHeader:
        """Return the verified header."""
        if self._known is not None and self._known.block.digest == block.digest:
            return self._known
        epoch = self.epochs.get(block.epoch)
        verify_final(epoch.epoch_set, epoch.genesis, block.digest, certificates, epoch.verifier)
        certified = decode_payload(block.payload)
        if not isinstance(certified, Certified):
            raise GatewayAnswerError("a final close, expected a certified header")
        self._known = FinalHeader(block, certificates, certified)
        return self._known

    def _check_blocks(
        self, epoch: KnownEpoch, after: Digest, blocks: tuple[Block, ...], certificates: tuple[QuorumCertificate, ...]
    ) -> FinalBlocks:
        """Return blocks that form a chain upwards from `after` and whose last one is final, hence all of them."""
        stray = first_stray(after, blocks)
        if stray is not None:
            raise GatewayAnswerError(f"the block of view {stray.view} is no child of the one before", view=stray.view)
        if blocks:
            verify_final(epoch.epoch_set, epoch.genesis, blocks[-1].digest, certificates, epoch.verifier)
        return FinalBlocks(blocks, certificates if blocks else ())

    async def _ask_object(self, line: Line, digest: Digest) -> bytes:
        data = (await line.ask(f"/v1/objects/{digest.hex()}", self._limits.object_bytes_max)).body
        if sha256(data).digest() != digest:
            raise GatewayAnswerError(
                f"validator {line.validator} gives an object with SHA-256 {sha256(data).hexdigest()}, expected "
                f"{digest.hex()}",
                validator=line.validator,
            )
        return data
