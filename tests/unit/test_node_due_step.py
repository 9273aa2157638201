"""How a relayer's transactions get into blocks: dearer while they wait, never beyond a bound, over gaps of nonces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import rlp

from collegium.crypto import AccountKey, Stream, keccak256
from collegium.node._base_chain import CertifiedStep
from collegium.node._due_step import PENDING, REPLACEMENTS_MAX, NonceSpentError, RelayPolicy, StepSender
from collegium.node._telemetry import logger
from collegium.settlement import (
    NO_CHECKPOINT,
    Checkpoint,
    Fees,
    GasCeilingError,
    GasPolicy,
    Receipt,
    SentTransaction,
    TransactionNotMinedError,
    TransactionRefusedError,
    sign_transaction,
    transact,
)

ACCOUNT = AccountKey.generate(Stream(b"due-step".ljust(32, b"\0")))
CONTRACT = bytes(range(20))
TIP = 8


class Mempool:
    """A node that mines what pays the base fee, in the order of nonces, and asks a tenth more of a replacement."""

    chain_id = 5

    def __init__(self, base: int = 100) -> None:
        self.base = base
        self.waiting: dict[int, bytes] = {}
        self.blocks: list[bytes] = []
        self.offers: list[Fees] = []
        self.raise_asked = 10  # percent

    @property
    def sent(self) -> tuple[SentTransaction, ...]:
        return tuple(SentTransaction(raw, 0) for raw in self.blocks)

    def nonce(self, _: bytes, *, mined: bool = False) -> int:
        nonce = len(self.blocks)
        while not mined and nonce in self.waiting:
            nonce += 1
        return nonce

    def fees(self) -> Fees:
        return Fees(2 * self.base + TIP, TIP)

    def estimate_gas(self, *_: object) -> int:
        return 21_000

    def send(self, raw: bytes) -> Receipt:
        nonce, offer = nonce_of(raw), offer_of(raw)
        before = self.waiting.get(nonce)
        if nonce < len(self.blocks):
            raise TransactionRefusedError("nonce too low")
        if before is not None and before != raw:
            old = offer_of(before)
            if 100 * offer.gas_price_max < (100 + self.raise_asked) * old.gas_price_max or offer.tip_max <= old.tip_max:
                raise TransactionRefusedError("replacement transaction underpriced")
        self.waiting[nonce] = raw
        self.offers.append(offer)
        self.mine()
        receipt = self.mined(raw)
        if receipt is None:
            raise TransactionNotMinedError("no receipt")
        return receipt

    def mine(self) -> None:
        while (raw := self.waiting.get(len(self.blocks))) and offer_of(raw).gas_price_max >= self.base + TIP:
            del self.waiting[len(self.blocks)]
            self.blocks.append(raw)

    def mined(self, raw: bytes) -> Receipt | None:
        if raw not in self.blocks:
            return None
        return Receipt(keccak256(raw), self.blocks.index(raw), True, 21_000, None, ())


def nonce_of(raw: bytes) -> int:
    return int.from_bytes(rlp.decode(raw[1:])[1], "big")


def offer_of(raw: bytes) -> Fees:
    _, _, tip, price, *_ = rlp.decode(raw[1:])
    return Fees(int.from_bytes(price, "big"), int.from_bytes(tip, "big"))


@dataclass
class Base:
    """A base chain whose contract has a step when a transaction with its digest is in a block."""

    chain: Any
    url: str = "http://127.0.0.1:8545"
    place: int = 0
    operator: AccountKey = ACCOUNT
    taken: list[tuple[Any, int]] = field(default_factory=list)
    sent: tuple[SentTransaction, ...] = ()
    pool: Any = None

    def __post_init__(self) -> None:
        self.pool = self.chain

    def has(self, what: Checkpoint) -> bool:
        return any(what.digest in raw for raw in self.pool.blocks)

    def take(self, step: Any) -> None:
        receipt = transact(self.chain, ACCOUNT, CONTRACT, step.what.digest)
        self.enter(step, receipt.gas, receipt.transaction)

    def enter(self, step: Any, gas: int, _: bytes | None = None) -> None:
        self.taken.append((step, gas))

    def take_back(self) -> list[Any]:
        return []


@dataclass
class Line:
    """A sender and its node."""

    state: Path
    pool: Mempool
    price_max: int | None = None

    def start(self) -> StepSender:
        """Begin, or begin anew after a kill."""
        self.base = Base(self.pool)
        unused: Any = self.base
        policy = RelayPolicy(gas=GasPolicy(self.price_max))
        self.sender = StepSender(unused, self.state, logger("relayer"), policy=policy)
        return self.sender

    def carry(self) -> None:
        self.sender._carry(CertifiedStep(STEP, b"certificate"))

    @property
    def noted(self) -> list[bytes]:
        _, *raws = rlp.decode((self.state / PENDING).read_bytes())
        return [bytes(raw) for raw in raws]


STEP = Checkpoint(bytes(32), 0, 0, 9, NO_CHECKPOINT, bytes(32))


@pytest.fixture
def hire(tmp_path: Path) -> Callable[..., Line]:
    def line(base: int = 100, price_max: int | None = None) -> Line:
        made = Line(tmp_path, Mempool(base), price_max)
        made.start()
        return made

    return line


def spiked(line: Line) -> None:
    """Send a transaction while gas is cheap to a node where it then is not."""
    line.pool.base *= 4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line.pool, "fees", lambda: Fees(2 * 100 + TIP, TIP))
        with pytest.raises(TransactionNotMinedError):
            line.carry()


def test_a_transaction_that_waits_is_replaced_by_one_that_offers_an_eighth_more(hire: Callable[..., Line]) -> None:
    line = hire()
    spiked(line)
    assert len(line.noted) == 1
    line.carry()
    (step, gas), (first, last) = line.base.taken[0], line.pool.offers
    assert (step.certificate, gas) == (b"certificate", 21_000)
    assert [nonce_of(raw) for raw in line.pool.blocks] == [0]
    for dearer, before in ((last.gas_price_max, first.gas_price_max), (last.tip_max, first.tip_max)):
        assert 8 * dearer >= 9 * before


def test_a_transaction_is_not_replaced_before_it_had_its_time(hire: Callable[..., Line]) -> None:
    """After a kill the same bytes are sent again: nobody knows for how long they have waited."""
    line = hire()
    spiked(line)
    (raw,) = line.noted
    line.start()
    with pytest.raises(TransactionNotMinedError):
        line.carry()
    assert line.noted == [raw]


def test_a_replacement_that_was_noted_and_not_sent_serves_after_a_kill(hire: Callable[..., Line]) -> None:
    line = hire()
    spiked(line)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line.pool, "send", killed)
        with pytest.raises(KeyboardInterrupt):
            line.carry()
    first, second = line.noted
    line.start()
    line.carry()
    assert line.pool.blocks == [second]
    assert first != second


def killed(_: bytes) -> Receipt:
    raise KeyboardInterrupt


def test_the_first_one_counts_where_it_is_mined_after_all(hire: Callable[..., Line]) -> None:
    line = hire()
    spiked(line)
    (raw,) = line.noted
    line.pool.base = 100
    line.pool.mine()
    line.carry()
    assert line.pool.blocks == [raw]
    assert line.base.taken[0][1] == 21_000


def test_above_the_bound_nothing_is_sent_or_noted(hire: Callable[..., Line]) -> None:
    line = hire(base=100, price_max=107)
    with pytest.raises(GasCeilingError, match="costs 108 wei, more than the bound of 107"):
        line.carry()
    assert not (line.state / PENDING).exists()
    line.pool.base = 99
    line.carry()
    assert line.pool.offers == [Fees(107, TIP)]


def test_a_transaction_that_would_become_too_dear_waits_and_is_mined_when_gas_is_cheap_again(
    hire: Callable[..., Line],
) -> None:
    line = hire(price_max=230)
    spiked(line)
    with pytest.raises(GasCeilingError, match="costs 408 wei"):
        line.carry()
    assert len(line.noted) == 1
    line.pool.base = 50
    line.pool.mine()
    line.carry()
    assert line.pool.offers == [Fees(208, TIP)]
    assert line.base.taken


def test_over_a_gap_of_nonces_a_transaction_is_made_anew(hire: Callable[..., Line]) -> None:
    """A transaction of the account that the noted one waits for is gone: no block can ever take it."""
    line = hire()
    line.sender._write_note(b"certificate", [signed(3)])
    line.carry()
    assert [nonce_of(raw) for raw in line.pool.blocks] == [0]
    assert line.base.taken


def signed(nonce: int, data: bytes = STEP.digest, price: int = 208) -> bytes:
    return sign_transaction(
        ACCOUNT,
        chain_id=5,
        nonce=nonce,
        fees=Fees(price, TIP),
        gas_max=21_000,
        to=CONTRACT,
        value=0,
        data=data,
    )


def test_behind_another_transaction_of_the_account_it_waits_and_offers_no_more(hire: Callable[..., Line]) -> None:
    line = hire()
    line.pool.waiting[0] = signed(0, b"another's", price=1)
    for _ in range(3):
        with pytest.raises(TransactionNotMinedError):
            line.carry()
    assert [nonce_of(raw) for raw in line.noted] == [1]
    assert set(line.pool.offers) == {Fees(208, TIP)}
    line.pool.waiting[0] = signed(0, b"another's", price=400)
    line.pool.mine()
    line.carry()
    assert len(line.pool.blocks) == 2


def test_a_replacement_that_is_refused_leaves_the_first_to_wait(hire: Callable[..., Line]) -> None:
    line = hire()
    line.pool.raise_asked = 500
    spiked(line)
    (raw,) = line.noted
    with pytest.raises(NonceSpentError, match="its replacement was refused: replacement transaction underpriced"):
        line.carry()
    assert line.noted == [raw]
    line.pool.base = 100
    line.pool.mine()
    line.carry()
    assert line.pool.blocks == [raw]


def test_replacements_are_bounded_in_number(hire: Callable[..., Line]) -> None:
    line = hire()
    raws = [signed(0, price=208 + more) for more in range(REPLACEMENTS_MAX + 1)]
    line.pool.base = 10**6
    line.sender._write_note(b"certificate", raws)
    for _ in range(2):
        with pytest.raises(TransactionNotMinedError):
            line.carry()
    assert line.noted == raws
