"""One replica of Jolteon with real keys, as the benchmark of consensus drives it: frames in, frames out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from collegium.consensus import (
    Block,
    Broadcast,
    Committed,
    Context,
    EpochSet,
    EpochSigner,
    EpochVerifier,
    Input,
    ReplicaState,
    Send,
    Tick,
    Validator,
    ValidatorIndex,
    Verifier,
    decode_message,
    encode_message,
    initial_state,
    step,
)
from collegium.crypto import AccountKey, BlsSecretKey, Stream

__all__ = ["Frame", "OrderReplica", "Replica", "Wish", "epoch_set_of", "order_keys", "order_replicas", "replica_of"]

VIEW_TIMEOUT_MS = 600_000  # nobody fails here, and no clock runs
STAKE = 1
TASK = bytes(32)

Keys = Sequence[tuple[BlsSecretKey, AccountKey]]


@dataclass(frozen=True, slots=True)
class Frame:
    """What a replica sends: to one, or (None) to every other."""

    to: int | None
    data: bytes


class Replica(Protocol):
    """A replica of either protocol. `decided` counts its decisions, `certificate_bytes` is the last one's proof."""

    decided: int
    certificate_bytes: int

    def propose(self, payload: bytes) -> Iterable[Frame]:
        """Want `payload` decided next: said to every replica, whose leader sends."""
        ...

    def take(self, sender: int, data: bytes) -> Iterable[Frame]:
        """Take a frame, and return what it leads to."""
        ...


@dataclass(slots=True)
class Wish:
    """An application that wants one payload after another."""

    payload: bytes | None = None

    def accepts(self, ancestors: tuple[bytes, ...], payload: bytes) -> bool:
        """Whether it is the one that is wanted, and is not on its way already."""
        return payload == self.payload and payload not in ancestors

    def next_payload(self, ancestors: tuple[bytes, ...]) -> bytes | None:
        """Return the one that is wanted, once."""
        return None if self.payload in ancestors else self.payload


@dataclass(frozen=True, slots=True)
class _NoArchive:
    def after(self, block: bytes, count: int) -> Sequence[Block]:
        return ()


@dataclass(slots=True)
class OrderReplica:
    """Jolteon's state machine with its frames encoded and decoded; nothing is written to a disk."""

    context: Context
    wish: Wish
    decided: int = 0
    certificate_bytes: int = 0
    _state: ReplicaState = field(init=False)

    def __post_init__(self) -> None:
        self._state = initial_state(self.context)

    def propose(self, payload: bytes) -> Iterator[Frame]:
        self.wish.payload = payload
        return self._step(Tick())

    def take(self, sender: int, data: bytes) -> Iterator[Frame]:
        return self._step(decode_message(data))

    def _step(self, message: Input) -> Iterator[Frame]:
        self._state, effects = step(self.context, self._state, message, 0)
        for effect in effects:
            match effect:
                case Broadcast():
                    yield Frame(None, encode_message(effect.message))
                case Send():
                    yield Frame(effect.to, encode_message(effect.message))
                case Committed() if effect.block.payload and effect.block.payload == self.wish.payload:
                    first = effect.certificate_chain[0]
                    self.certificate_bytes = len(first.signers) + len(first.signature)
                    self.wish.payload = None
                    self.decided += 1


def order_keys(size: int, seed: bytes) -> Keys:
    """Return everybody's keys, the same in every process that knows the seed."""
    random = Stream(seed)
    return [(BlsSecretKey.generate(random), AccountKey.generate(random)) for _ in range(size)]


def epoch_set_of(keys: Keys) -> EpochSet:
    """Return the epoch set of these validators."""
    return EpochSet(
        TASK,
        0,
        tuple(
            Validator(ValidatorIndex(index), bytes(voting.public_key()), account.address, STAKE)
            for index, (voting, account) in enumerate(keys)
        ),
    )


def replica_of(epoch_set: EpochSet, keys: Keys, index: int, verifier: Verifier, wish: Wish) -> OrderReplica:
    """Return one replica."""
    signer = EpochSigner(*keys[index])
    start = epoch_set.genesis()
    return OrderReplica(Context(epoch_set, start, index, signer, verifier, wish, _NoArchive(), VIEW_TIMEOUT_MS), wish)


def order_replicas(size: int, seed: bytes, own: Iterable[int]) -> dict[int, Replica]:
    """Return some of `size` replicas, each with a memory of checked signatures of its own."""
    keys = order_keys(size, seed)
    epoch_set = epoch_set_of(keys)
    return {index: replica_of(epoch_set, keys, index, EpochVerifier(epoch_set), Wish()) for index in own}
