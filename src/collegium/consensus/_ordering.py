"""Jolteon as a pure state machine: two-chain HotStuff with timeout certificates (arXiv:2106.10362).

`step(context, state, message, now_ms)` returns the next state and what is to be done. It reads no clock, draws no
randomness and never raises on a hostile message: it ignores it and says why. `docs/spec/consensus.md` holds the
protocol and the argument; the section numbers below are the paper's.

The order of effects is a promise: blocks to store, then the vote state to persist, then everything that leaves the
machine. So whatever another validator has seen, this one remembers after a crash.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

from collegium.crypto import Digest
from collegium.errors import CollegiumError

from ._epoch import EpochSet
from ._messages import (
    ACCOUNT_SIGNATURE_BYTES,
    BLOCK_PAYLOAD_BYTES_MAX,
    RESPONSE_BLOCKS_MAX,
    Ballot,
    Block,
    BlockRequest,
    BlockResponse,
    MalformedMessageError,
    Message,
    QuorumCertificate,
    Relay,
    SignedHeader,
    Timeout,
    TimeoutCertificate,
    TimeoutGroup,
    ViewEntry,
    Vote,
    genesis_certificate,
    seat_bitmap,
    seats_of,
    timeout_digest,
)
from ._order_state import (
    BACKOFF_EXPONENT_MAX,
    PENDING_BYTES_MAX,
    RELAYED_PER_MEMBER_MAX,
    RESPONSE_BYTES_SOFT_MAX,
    VIEWS_AHEAD_MAX,
    VIEWS_BEHIND_MAX,
    BlockEquivocation,
    Broadcast,
    Committed,
    Context,
    Effect,
    Evidence,
    EvidenceFound,
    FinalBlock,
    Ignored,
    Input,
    Persist,
    ReplicaState,
    Send,
    SetTimer,
    Store,
    Submit,
    Tick,
    Timer,
    VoteEquivocation,
    VoteState,
)
from ._order_validity import (
    Electorate,
    check_block,
    check_timeout,
    check_view_entry,
    check_vote,
    entry_of,
)
from ._replace import replace

__all__ = [
    "ConflictingMessageError",
    "NotAddressedError",
    "OutOfWindowError",
    "initial_state",
    "restore",
    "say_again",
    "step",
]


class OutOfWindowError(CollegiumError):
    """A message of a view too far ahead or too far behind to be kept."""


class ConflictingMessageError(CollegiumError):
    """A second block or vote of one author in one view; the first one is kept."""


class NotAddressedError(CollegiumError):
    """A vote sent to somebody who leads neither its view nor the next."""


# --------------------------------------------------------------------------------------------------------- surface


def initial_state(context: Context) -> ReplicaState:
    """The state of a replica that has seen nothing: view 1, the genesis final."""
    entry = ViewEntry(genesis_certificate(context.genesis), None)
    return ReplicaState(VoteState(0, 0, 0, entry, None), FinalBlock(context.genesis, 0))


def restore(
    context: Context, vote_state: VoteState | None, final: Block | None, stored: Iterable[Block]
) -> ReplicaState:
    """The state after a crash, from what the driver wrote down. Feed it a `Tick` first.

    Args:
        context: as before the crash.
        vote_state: of the last `Persist`; None if there was none.
        final: the last block whose `Committed` was carried out; None for the genesis. Commits that the driver lost
            are repeated.
        stored: blocks of `Store` effects, in any order.
    """
    state = initial_state(context)
    if vote_state is not None:
        state = replace(state, vote_state=vote_state)
    if final is not None:
        state = replace(state, final=FinalBlock(final.digest, final.view))
    blocks: dict[Digest, Block] = {}
    for block in sorted(stored, key=lambda b: b.view):
        if block.view > state.final.view and (block.parent in blocks or block.parent == state.final.digest):
            blocks[block.digest] = block
    return replace(state, blocks=blocks)


def step(context: Context, state: ReplicaState, message: Input, now_ms: int) -> tuple[ReplicaState, tuple[Effect, ...]]:
    """The next state and, in the order they must be carried out, the effects of one message.

    Args:
        context: the replica's surroundings.
        state: as the last step returned it; every effect of that step has been carried out or will be, in order.
        message: anything a peer, the timer or this validator's own client says.
        now_ms: a clock that never runs backwards.
    """
    turn = _Turn(context, state, now_ms)
    for act in (
        partial(_take, message=message),
        _use_waiting_proposal,
        _propose,
        _announce_certificate,
        _request_missing_blocks,
        _set_timer,
    ):
        try:
            act(turn)
        except CollegiumError as reason:
            turn.effects.append(Ignored(reason))
    durable: list[Effect] = [Store(block) for block in turn.stored]
    if turn.state.vote_state != state.vote_state:
        durable.append(Persist(turn.state.vote_state))
    return turn.state, (*durable, *turn.effects)


def say_again(context: Context, state: ReplicaState, peer: int) -> tuple[Effect, ...]:
    """What this replica has said that holds still, for a validator that may have missed it.

    Its way into the present view, that it gave it up, its own proposal there, its vote if `peer` counts it, and its own
    wishes. Nothing here is new: what it signed before a crash, but for a vote, is on disk, and a vote is not repeated.
    """
    vote_state, view = state.vote_state, state.view
    words: list[Message] = [vote_state.entry] if view > 1 else []
    if vote_state.timeout is not None and vote_state.timeout.view == view:
        words.append(vote_state.timeout)
    words += [block for block in state.blocks.values() if (block.view, block.author) == (view, context.index)]
    if state.vote is not None and state.vote.view == view and peer in _collectors(context.epoch_set, view):
        words.append(state.vote)
    words += [relay for relay in state.pool if relay.member == context.index]
    return tuple(Send(peer, word) for word in words)


@dataclass(slots=True)
class _Turn:
    """The draft of one step: the state as it becomes, and the effects so far."""

    context: Context
    state: ReplicaState
    now_ms: int
    effects: list[Effect] = field(default_factory=list)
    stored: list[Block] = field(default_factory=list)
    committed: list[Block] = field(default_factory=list)
    certified: bool = False
    proposed: bool = False
    ask: bool = False
    reached: Digest | None = None

    @property
    def electorate(self) -> Electorate:
        return Electorate(self.context.epoch_set, self.context.genesis, self.context.verifier)

    @property
    def is_leader(self) -> bool:
        return self.context.epoch_set.leader(self.state.view) == self.context.index

    def remember(self, **changes: int | ViewEntry | Timeout) -> None:
        """Change the vote state; `step` persists it before anything is sent."""
        self.state = replace(self.state, vote_state=replace(self.state.vote_state, **changes))  # type: ignore[arg-type]

    def ancestors(self, tip: Digest) -> tuple[bytes, ...]:
        """Non-empty payloads up to `tip` that the application has not been given as committed before this step."""
        return tuple(b.payload for b in (*self.committed, *self.state.path(tip)) if b.payload)


def _take(turn: _Turn, message: Input) -> None:
    match message:
        case Block():
            _on_block(turn, message)
        case Vote():
            _on_vote(turn, message)
        case Timeout():
            _on_timeout(turn, message)
        case ViewEntry():
            _on_view_entry(turn, message)
        case BlockRequest():
            _on_request(turn, message)
        case BlockResponse():
            _on_response(turn, message)
        case Relay():
            _on_relay(turn, message)
        case Timer():
            _on_timer(turn, message)
        case Submit():
            _on_submit(turn, message)
        case Tick():
            _on_tick(turn)


# ------------------------------------------------------------------------------------- 1. proposals and votes (3.2)


def _on_block(turn: _Turn, block: Block) -> None:
    state = turn.state
    if block.digest in state.blocks or block == state.waiting:
        return
    if block.view <= state.final.view or block.view < state.view - VIEWS_BEHIND_MAX:
        raise OutOfWindowError(f"block of view {block.view}, the last final one is of {state.final.view}")
    check_block(turn.electorate, block)
    _enter(turn, entry_of(block))
    _note_header(turn, block.header)
    if state.waiting is None or block.view >= state.waiting.view:
        turn.state = replace(turn.state, waiting=block)
        turn.ask = True


def _note_header(turn: _Turn, header: SignedHeader) -> None:
    """Keep the first header of each view; a second one is evidence."""
    first = turn.state.headers.get(header.view)
    if first is None:
        turn.state = replace(turn.state, headers={**turn.state.headers, header.view: header})
    elif first.digest != header.digest:
        _accuse(turn, header.view, header.author, BlockEquivocation(first, header))
        raise ConflictingMessageError(f"second block of view {header.view} by {header.author}", author=header.author)


def _accuse(turn: _Turn, view: int, seat: int, evidence: Evidence) -> None:
    """Report a validator, once for each view."""
    if (view, seat) not in turn.state.accused:
        turn.state = replace(turn.state, accused=turn.state.accused | {(view, seat)})
        turn.effects.append(EvidenceFound(evidence))


def _use_waiting_proposal(turn: _Turn) -> None:
    """Vote for the latest proposal, or take it up as certified, as soon as its parent is here."""
    block, state = turn.state.waiting, turn.state
    if block is None or not (block.parent in state.blocks or block.parent == state.final.digest):
        return
    if may_vote(state.vote_state, block) and _acceptable(turn, block):
        turn.state = replace(turn.state, waiting=None)
        _vote(turn, block)
    elif state.high.block == block.digest:
        turn.state = replace(turn.state, waiting=None)
        _connect(turn, block)


def may_vote(vote_state: VoteState, block: Block) -> bool:
    """The voting rule, apart from the block's own validity: the present view, not voted in, not given up."""
    return block.view == vote_state.entry.view and block.view > max(vote_state.voted_view, vote_state.timeout_view)


def _acceptable(turn: _Turn, block: Block) -> bool:
    """Whether the application wants the payload, and there is room for it until something becomes final."""
    if not block.payload:
        return True
    kept = sum(len(b.payload) for b in turn.state.blocks.values())
    if kept and kept + len(block.payload) > PENDING_BYTES_MAX:
        return False
    ancestors = turn.ancestors(block.parent)
    return turn.context.application.accepts(ancestors, block.payload)


def _vote(turn: _Turn, block: Block) -> None:
    context = turn.context
    _connect(turn, block)
    turn.remember(voted_view=block.view)
    signature = context.signer.sign_vote(block.ballot.digest(context.epoch_set))
    vote = Vote(block.ballot, context.index, signature)
    turn.state = replace(turn.state, vote=vote)
    collectors = _collectors(context.epoch_set, block.view)
    turn.effects.extend(Send(collector, vote) for collector in collectors if collector != context.index)
    if context.index in collectors:
        _on_vote(turn, vote)


def _collectors(epoch_set: EpochSet, view: int) -> tuple[int, ...]:
    """Who counts a view's votes, each for itself: the next leader, and its own, lest the block die with the next."""
    return tuple(dict.fromkeys((epoch_set.leader(view + 1), epoch_set.leader(view))))


def _connect(turn: _Turn, block: Block) -> None:
    """Keep a block that was voted for or certified and whose ancestors are all here."""
    turn.state = replace(turn.state, blocks={**turn.state.blocks, block.digest: block})
    turn.stored.append(block)
    _commit(turn, block.parent_certificate)
    _commit(turn, turn.state.high)


# --------------------------------------------------------------------------------------- 2. certificates and commit


def _on_vote(turn: _Turn, vote: Vote) -> None:
    """Collect a vote unchecked; signatures are checked together at a quorum, or at once where two disagree."""
    context, state = turn.context, turn.state
    context.epoch_set.validator(vote.voter)
    if context.index not in _collectors(context.epoch_set, vote.view):
        raise NotAddressedError(f"vote of view {vote.view} is for that view's leader and the next", view=vote.view)
    if not state.high.view - VIEWS_BEHIND_MAX <= vote.view <= state.view + VIEWS_AHEAD_MAX:
        raise OutOfWindowError(f"vote of view {vote.view}, the present one is {state.view}", view=vote.view)
    votes = state.votes.get(vote.view, {})
    first = votes.get(vote.voter)
    if first == vote:
        return
    if first is not None:
        check_vote(turn.electorate, vote)
        if _is_good(turn, first):
            _accuse(turn, vote.view, vote.voter, VoteEquivocation(first, vote))
            raise ConflictingMessageError(f"second vote of view {vote.view} by {vote.voter}", voter=vote.voter)
    turn.state = replace(state, votes={**state.votes, vote.view: {**votes, vote.voter: vote}})
    _certify(turn, vote.ballot)


def _is_good(turn: _Turn, vote: Vote) -> bool:
    try:
        check_vote(turn.electorate, vote)
    except CollegiumError:
        return False
    return True


def _certify(turn: _Turn, ballot: Ballot) -> None:
    """Turn a quorum of votes for one ballot into a certificate; throw out bad ones."""
    context, state = turn.context, turn.state
    votes = state.votes[ballot.view]
    signatures = {v.voter: v.signature for v in votes.values() if v.ballot == ballot}
    if ballot.view <= state.high.view or len(signatures) < context.epoch_set.quorum:
        return
    bad = context.verifier.bad_seats(ballot.digest(context.epoch_set), signatures)
    if bad:
        kept = {voter: vote for voter, vote in votes.items() if voter not in bad}
        turn.state = replace(state, votes={**state.votes, ballot.view: kept})
        if len(signatures) - len(bad) >= context.epoch_set.quorum:
            _certify(turn, ballot)
        return
    bitmap = seat_bitmap(set(signatures), context.epoch_set.size)
    certificate = QuorumCertificate(ballot, bitmap, context.verifier.aggregate(signatures))
    turn.certified = True
    _enter(turn, ViewEntry(certificate, None))


def _commit(turn: _Turn, certificate: QuorumCertificate) -> None:
    """The two-chain rule: a certified block of the very next view makes its parent final, with all below it (3.3)."""
    ballot, state = certificate.ballot, turn.state
    child = state.blocks.get(certificate.block)
    if child is None or not ballot.makes_parent_final or ballot.parent_view <= state.final.view:
        return
    path = state.path(ballot.parent)
    certificates = (*(b.parent_certificate for b in (*path[1:], child)), certificate)
    for height, block in enumerate(path):
        turn.committed.append(block)
        turn.effects.append(Committed(block, certificates[height:]))
    ordered = {block.payload for block in path}
    turn.state = replace(
        state,
        final=FinalBlock(ballot.parent, ballot.parent_view),
        blocks=_descendants(state.blocks.values(), ballot.parent),
        pool=tuple(relay for relay in state.pool if relay.payload not in ordered),
    )


def _descendants(blocks: Iterable[Block], final: Digest) -> dict[Digest, Block]:
    kept: dict[Digest, Block] = {}
    for block in sorted(blocks, key=lambda b: b.view):
        if block.parent == final or block.parent in kept:
            kept[block.digest] = block
    return kept


# ------------------------------------------------------------------------------------------------- 3. views (3.2, 3.4)


def _enter(turn: _Turn, entry: ViewEntry) -> None:
    """Take up verified certificates: raise the lock, move to a later view, commit."""
    state = turn.state
    merged = merge_entries(state.vote_state.entry, entry)
    if merged == state.vote_state.entry:
        return
    turn.remember(entry=merged)
    high, view = merged.high_certificate, merged.view
    if high.view > state.high.view:
        turn.ask = True
    if view > state.view:
        turn.state = replace(turn.state, timeouts={}, deadline_ms=None)
        _forget_old_views(turn)
    _commit(turn, high)


def merge_entries(known: ViewEntry, shown: ViewEntry) -> ViewEntry:
    """The higher of two certificates, always, and the timeout certificate if it alone leads to the later view."""
    high = max(known.high_certificate, shown.high_certificate, key=lambda c: c.view)
    later = shown if shown.view > known.view else known
    return ViewEntry(high, later.timeout_certificate if later.view > high.view + 1 else None)


def _forget_old_views(turn: _Turn) -> None:
    state, oldest = turn.state, turn.state.view - VIEWS_BEHIND_MAX
    turn.state = replace(
        state,
        headers={view: header for view, header in state.headers.items() if view >= oldest},
        votes={view: votes for view, votes in state.votes.items() if view >= oldest},
        accused=frozenset(pair for pair in state.accused if pair[0] >= oldest),
    )


def _on_view_entry(turn: _Turn, entry: ViewEntry) -> None:
    if entry.view > turn.state.view or entry.high_certificate.view > turn.state.high.view:
        check_view_entry(turn.electorate, entry)
        _enter(turn, entry)


def _on_timeout(turn: _Turn, timeout: Timeout) -> None:
    context, state = turn.context, turn.state
    context.epoch_set.validator(timeout.author)
    if timeout.view < state.view:
        if timeout.high_view > state.high.view:
            check_timeout(turn.electorate, timeout)
            _enter(turn, timeout.entry)
        if timeout.author != context.index:
            turn.effects.append(Send(timeout.author, turn.state.vote_state.entry))
        return
    if timeout.view == state.view and timeout.author in state.timeouts:
        return
    check_timeout(turn.electorate, timeout)
    _enter(turn, timeout.entry)
    _count_timeout(turn, timeout)


def _count_timeout(turn: _Turn, timeout: Timeout) -> None:
    """Give the view up when one honest validator has (f + 1); leave it when a quorum has."""
    epoch_set = turn.context.epoch_set
    turn.state = replace(turn.state, timeouts={**turn.state.timeouts, timeout.author: timeout})
    given_up = turn.state.vote_state.timeout_view >= turn.state.view
    if len(turn.state.timeouts) > epoch_set.faulty_max and not given_up:
        _give_up_view(turn)
    elif len(turn.state.timeouts) >= epoch_set.quorum:
        certificate = _timeout_certificate(turn)
        _enter(turn, ViewEntry(turn.state.high, certificate))


def _give_up_view(turn: _Turn) -> None:
    """Sign that this view is given up, never to vote in it again; a second time, send the same words again."""
    context, vote_state, view = turn.context, turn.state.vote_state, turn.state.view
    timeout = vote_state.timeout
    if timeout is None or timeout.view != view:
        entry = entry_to_report(turn.state)
        signature = context.signer.sign_vote(timeout_digest(context.epoch_set, view, entry.high_certificate.view))
        timeout = Timeout(view, context.index, entry, signature)
        turn.remember(timeout_view=view, timeout=timeout)
    turn.effects.append(Broadcast(timeout))
    if context.index not in turn.state.timeouts:
        _count_timeout(turn, timeout)


def entry_to_report(state: ReplicaState) -> ViewEntry:
    """What a timeout says its author knew: the highest certificate, always."""
    return state.vote_state.entry


def _timeout_certificate(turn: _Turn) -> TimeoutCertificate:
    context, state = turn.context, turn.state
    groups: dict[int, dict[int, bytes]] = {}
    for timeout in state.timeouts.values():
        groups.setdefault(timeout.high_view, {})[timeout.author] = timeout.signature
    return TimeoutCertificate(
        state.view,
        tuple(
            TimeoutGroup(
                high_view, seat_bitmap(set(signed), context.epoch_set.size), context.verifier.aggregate(signed)
            )
            for high_view, signed in sorted(groups.items())
        ),
    )


# ---------------------------------------------------------------------------------------------- 4. leading and timing


def _propose(turn: _Turn) -> None:
    """Propose if it is our turn, we have not yet, and there is a reason to."""
    if not _may_propose(turn):
        return
    payload = _payload(turn)
    if not payload and not _needs_empty_block(turn.state):
        return
    context, state = turn.context, turn.state
    entry, task, epoch = state.vote_state.entry, context.epoch_set.task, context.epoch_set.epoch
    draft = Block(
        task,
        epoch,
        state.view,
        context.index,
        entry.high_certificate,
        entry.timeout_certificate,
        payload or b"",
        bytes(ACCOUNT_SIGNATURE_BYTES),
    )
    block = draft.signed(context.signer.sign_block(draft.digest))
    turn.proposed = True
    turn.remember(proposed_view=state.view)
    turn.state = replace(turn.state, headers={**turn.state.headers, block.view: block.header})
    turn.effects.append(Broadcast(block))
    if may_vote(turn.state.vote_state, block):
        _vote(turn, block)


def _may_propose(turn: _Turn) -> bool:
    state = turn.state
    spent = max(state.vote_state.proposed_view, state.vote_state.timeout_view) >= state.view
    return turn.is_leader and not spent and not turn.proposed and state.high_block_known


def _needs_empty_block(state: ReplicaState) -> bool:
    """Whether progress is due though there is nothing new: to finish what is begun, or after a view was given up."""
    return state.vote_state.entry.timeout_certificate is not None or _commit_is_due(state)


def _commit_is_due(state: ReplicaState) -> bool:
    """Whether a certified block waits to become final; a single empty one, the trace of the last commit, may wait."""
    path = state.path(state.high.block)
    return len(path) > 1 or any(block.payload for block in path)


def _payload(turn: _Turn) -> bytes | None:
    """What this validator would propose next: its application's wish, else the oldest relayed payload that fits."""
    state, application = turn.state, turn.context.application
    kept = sum(len(block.payload) for block in state.blocks.values())
    if not state.high_block_known or kept >= PENDING_BYTES_MAX - BLOCK_PAYLOAD_BYTES_MAX:
        return None
    ancestors = turn.ancestors(state.high.block)
    wish = application.next_payload(ancestors)
    if wish:
        return wish
    for relay in state.pool:
        if relay.payload not in ancestors and application.accepts(ancestors, relay.payload):
            return relay.payload
    return None


def _announce_certificate(turn: _Turn) -> None:
    """Tell everybody of a certificate made in this step, unless a block just did.

    The next leader does so if it has nothing to propose, so that all can commit and rest. The view's own leader does
    so at once, as it cannot know whether its successor lives. Each makes one certificate a view at most, and neither
    makes one that it has heard of, so a view has two announcements at most.
    """
    if turn.certified and not turn.proposed:
        turn.effects.append(Broadcast(turn.state.vote_state.entry))


def _set_timer(turn: _Turn) -> None:
    """Run the view's clock exactly while there is something to do; it doubles with each view that went without."""
    state = turn.state
    if not _is_busy(turn):
        if state.deadline_ms is not None:
            turn.state = replace(state, deadline_ms=None)
    elif state.deadline_ms is None:
        failures = min(state.view - 1 - state.high.view, BACKOFF_EXPONENT_MAX)
        wait = turn.context.timeout_base_ms << failures
        if turn.proposed and turn.is_leader and state.vote_state.proposed_view < state.view:
            wait = 0  # an epoch set of one leads view after view: go on in the next step
        turn.state = replace(state, deadline_ms=turn.now_ms + wait)
        turn.effects.append(SetTimer(state.view, turn.now_ms + wait))


def _is_busy(turn: _Turn) -> bool:
    """Whether this replica waits for anything: a commit, a block, a view change, or its own payload."""
    state = turn.state
    return (
        not state.high_block_known
        or bool(state.timeouts)
        or state.vote_state.entry.timeout_certificate is not None
        or state.vote_state.timeout_view >= state.view
        or any(block.payload and block.view == state.view for block in state.blocks.values())
        or _commit_is_due(state)
        or _payload(turn) is not None
    )


def _on_timer(turn: _Turn, timer: Timer) -> None:
    state, context = turn.state, turn.context
    if timer.view != state.view or state.deadline_ms is None:
        return
    if turn.now_ms < state.deadline_ms:
        turn.effects.append(SetTimer(state.view, state.deadline_ms))
        return
    turn.state = replace(state, deadline_ms=None)
    turn.ask = True
    payload = _payload(turn)
    if _may_propose(turn) and (payload or _needs_empty_block(state)):
        return  # it has become our turn to speak: `step` proposes
    heir = context.epoch_set.leader(state.view + 1)
    if payload and heir != context.index:
        # Our own next turn may be a whole circle of leaders away; a relay may be lost, so each heir gets another.
        turn.effects.append(Send(heir, Relay(context.index, payload)))
    _give_up_view(turn)


# ----------------------------------------------------------------------------------------------- 5. blocks and payloads


def _wanted(state: ReplicaState) -> QuorumCertificate | None:
    """The certificate whose block is missing: the highest one, else the one that a waiting proposal builds on."""
    if not state.high_block_known:
        return state.high
    waiting = state.waiting
    if waiting is None or waiting.view < state.view:
        return None
    known = waiting.parent in state.blocks or waiting.parent == state.final.digest
    return None if known else waiting.parent_certificate


def _request_missing_blocks(turn: _Turn) -> None:
    """Ask a signer of the certificate for the chain to its block, another one each time."""
    state, wanted = turn.state, _wanted(turn.state)
    if not turn.ask or wanted is None:
        return
    signers = [seat for seat in seats_of(wanted.signers) if seat != turn.context.index]
    request = BlockRequest(turn.context.index, turn.reached or state.final.digest, wanted.block)
    turn.effects.append(Send(signers[(state.view + state.requests) % len(signers)], request))
    turn.state = replace(state, requests=state.requests + 1)


def _on_request(turn: _Turn, request: BlockRequest) -> None:
    """Send what follows `known` on the way to `wanted`, and our certificates if we know better than to want that."""
    turn.context.epoch_set.validator(request.requester)
    blocks = list(turn.context.archive.after(request.known, RESPONSE_BLOCKS_MAX))
    if len(blocks) < RESPONSE_BLOCKS_MAX:
        path = turn.state.path(request.wanted)
        known = [i for i, block in enumerate(path) if block.digest == request.known]
        blocks += path[known[0] + 1 :] if known else path
    chosen: list[Block] = []
    for block in blocks[:RESPONSE_BLOCKS_MAX]:
        if len(chosen) >= 2 and sum(len(b.payload) for b in (*chosen, block)) > RESPONSE_BYTES_SOFT_MAX:
            break
        chosen.append(block)
    if request.requester == turn.context.index:
        return
    if chosen:
        turn.effects.append(Send(request.requester, BlockResponse(tuple(chosen))))
    if request.wanted != turn.state.high.block:
        turn.effects.append(Send(request.requester, turn.state.vote_state.entry))


def _on_response(turn: _Turn, response: BlockResponse) -> None:
    """Take up certified blocks: each is vouched for by the next one's certificate, the last by one of our own.

    What is still missing is asked for in turn, from the last block that is here.
    """
    turn.ask = True
    for block, successor in zip(response.blocks, (*response.blocks[1:], None), strict=True):
        state = turn.state
        if block.digest not in state.blocks and block.view > state.final.view:
            if block.parent not in state.blocks and block.parent != state.final.digest:
                raise OutOfWindowError(f"block of view {block.view} hangs in the air: its parent is unknown")
            check_block(turn.electorate, block)
            if successor is not None and successor.parent == block.digest:
                check_block(turn.electorate, successor)
                _enter(turn, entry_of(successor))
            elif (wanted := _wanted(state)) is None or wanted.block != block.digest:
                return
            _connect(turn, block)
        if block.digest in turn.state.blocks:
            turn.reached = block.digest


def _on_submit(turn: _Turn, submit: Submit) -> None:
    if not 1 <= len(submit.payload) <= BLOCK_PAYLOAD_BYTES_MAX:
        raise MalformedMessageError(f"payload of {len(submit.payload)} bytes, expected 1..{BLOCK_PAYLOAD_BYTES_MAX}")
    relay = Relay(turn.context.index, submit.payload)
    _pool(turn, relay)
    turn.effects.append(Broadcast(relay))


def _on_relay(turn: _Turn, relay: Relay) -> None:
    turn.context.epoch_set.validator(relay.member)
    _pool(turn, relay)


def _pool(turn: _Turn, relay: Relay) -> None:
    """Keep a payload until it is ordered; each member has 8 places, a ninth payload takes its oldest one's."""
    pool = turn.state.pool
    if any(relay.payload == other.payload for other in pool):
        return
    same = [other for other in pool if other.member == relay.member]
    if len(same) >= RELAYED_PER_MEMBER_MAX:
        pool = tuple(other for other in pool if other is not same[0])
    turn.state = replace(turn.state, pool=(*pool, relay))


def _on_tick(turn: _Turn) -> None:
    """Look again: drop payloads that fit nowhere any more, take up what a crash interrupted, ask a peer for news."""
    state, accepts = turn.state, turn.context.application.accepts
    contexts = {(), turn.ancestors(state.high.block)}
    pool = tuple(relay for relay in state.pool if any(accepts(ancestors, relay.payload) for ancestors in contexts))
    turn.state = replace(state, pool=pool, requests=state.requests + 1)
    turn.ask = True
    _commit(turn, turn.state.high)
    peer = (turn.context.index + 1 + state.requests) % turn.context.epoch_set.size
    if state.high_block_known and peer != turn.context.index:
        turn.effects.append(Send(peer, BlockRequest(turn.context.index, state.high.block, state.high.block)))
