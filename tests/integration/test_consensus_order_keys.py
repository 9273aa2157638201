"""Sixteen validators with real BLS and secp256k1 keys in one process, a dead leader among them."""

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from collegium.consensus import (
    Block,
    Broadcast,
    Committed,
    Context,
    EpochSet,
    EpochSigner,
    EpochVerifier,
    Send,
    Submit,
    Tick,
    Timer,
    Validator,
    decode_message,
    encode_message,
    initial_state,
    step,
    verify_chain,
    verify_final,
)
from collegium.crypto import AccountKey, BlsSecretKey, Stream


@dataclass
class Anything:
    """Orders whatever was submitted, once."""

    chain: list[Block] = field(default_factory=list)

    def accepts(self, ancestors: tuple[bytes, ...], payload: bytes) -> bool:
        return payload not in ancestors and payload not in [block.payload for block in self.chain]

    def next_payload(self, ancestors: tuple[bytes, ...]) -> bytes | None:
        return None

    def after(self, block: bytes, count: int) -> list[Block]:
        start = next((i + 1 for i, b in enumerate(self.chain) if b.digest == block), 0)
        return self.chain[start : start + count]


@pytest.fixture(scope="module")
def contexts() -> list[Context]:
    stream = Stream(b"sixteen validators".ljust(32))
    signers = [EpochSigner(BlsSecretKey.generate(stream), AccountKey.generate(stream)) for _ in range(16)]
    members = [Validator(i, bytes(s.bls.public_key()), s.account.address, 1) for i, s in enumerate(signers)]
    epoch_set = EpochSet(bytes(32), 0, tuple(members))
    verifier = EpochVerifier(epoch_set)
    return [
        Context(epoch_set, epoch_set.genesis(), i, signer, verifier, log := Anything(), log, 1000)
        for i, signer in enumerate(signers)
    ]


def play(contexts: list[Context], dead: frozenset[int], first: tuple[int, Any]) -> dict[int, list[Committed]]:
    """Carry every message, as bytes, until all is quiet; then let the clocks ring, until nobody waits for one."""
    contexts = [replace(c, application=(log := Anything()), archive=log) for c in contexts]
    states = {c.index: initial_state(c) for c in contexts if c.index not in dead}
    committed: dict[int, list[Committed]] = {seat: [] for seat in states}
    now, queue = 0, deque([(seat, Tick()) for seat in states] + [first])
    while True:
        while queue:
            seat, message = queue.popleft()
            states[seat], effects = step(contexts[seat], states[seat], message, now)
            for effect in effects:
                if isinstance(effect, Committed):
                    committed[seat].append(effect)
                    contexts[seat].application.chain.append(effect.block)
                elif isinstance(effect, Send | Broadcast):
                    data = encode_message(effect.message)
                    targets = [effect.to] if isinstance(effect, Send) else [s for s in states if s != seat]
                    queue.extend((s, decode_message(data)) for s in targets if s in states)
        waiting = {s: state for s, state in states.items() if state.deadline_ms is not None}
        if not waiting:
            return committed
        now = max(now, min(state.deadline_ms for state in waiting.values()))
        queue.extend((s, Timer(state.view)) for s, state in waiting.items() if state.deadline_ms <= now)


@pytest.mark.parametrize("dead", [frozenset(), frozenset({1, 3, 4, 9, 15})], ids=["all alive", "five dead"])
def test_sixteen_validators_order_a_payload_and_rest(contexts, dead):
    committed = play(contexts, dead, (2, Submit(b"a header")))
    epoch_set, genesis = contexts[0].epoch_set, contexts[0].genesis
    orders = {tuple(c.block.digest for c in log) for log in committed.values()}
    assert len(committed) == 16 - len(dead)
    assert len(orders) == 1
    log = committed[0]
    payloads = verify_chain(epoch_set, genesis, [c.block for c in log], log[-1].certificate_chain)
    assert payloads == (b"a header",)
    for entry in log:
        verify_final(epoch_set, genesis, entry.block.digest, entry.certificate_chain)
