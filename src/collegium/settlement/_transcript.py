"""An embedded chain as data: whoever has its transcript can execute it again and see that nothing else came out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from collegium.crypto import Digest
from collegium.settlement._chain import Receipt, SentTransaction
from collegium.settlement._embedded import EmbeddedChain, Genesis
from collegium.settlement._errors import ReplayMismatchError, TranscriptError

__all__ = ["Transcript", "decode_transcript", "encode_transcript", "replay", "transcribe", "verify_replay"]

TRANSCRIPT_BYTES_MAX: Final = 256 << 20


@dataclass(frozen=True, slots=True)
class Transcript:
    """Everything that went into a chain, and everything that came out.

    Args:
        genesis: what was there before the first transaction.
        transactions: each the only one of its block.
        receipts: as many.
        state_root: root of all accounts, code and storage after the last block.
    """

    genesis: Genesis
    transactions: tuple[SentTransaction, ...]
    receipts: tuple[Receipt, ...]
    state_root: Digest


def transcribe(chain: EmbeddedChain) -> Transcript:
    """Return the transcript of a chain up to now."""
    return Transcript(chain.genesis, chain.sent, chain.receipts, chain.state_root)


def replay(genesis: Genesis, transactions: Sequence[SentTransaction]) -> EmbeddedChain:
    """Return the chain that these transactions make of a genesis, each in a block with its timestamp.

    Raises:
        TransactionRefusedError: one of them cannot enter its block.
        ReplayMismatchError: a timestamp is not later than the one before.
    """
    chain = EmbeddedChain(genesis)
    for index, transaction in enumerate(transactions):
        now_s = chain.timestamp_s()
        if transaction.timestamp_s <= now_s:
            raise ReplayMismatchError(
                f"transaction {index} has timestamp {transaction.timestamp_s}, expected above {now_s}", index=index
            )
        chain.advance_to(transaction.timestamp_s)
        chain.send(transaction.raw)
    return chain


def verify_replay(transcript: Transcript) -> EmbeddedChain:
    """Execute a transcript's transactions again, compare what comes out, and return the chain.

    Raises:
        TransactionRefusedError: a transaction cannot enter its block.
        ReplayMismatchError: another receipt, another number of them, or another state root comes out.
    """
    chain = replay(transcript.genesis, transcript.transactions)
    if len(transcript.receipts) != len(chain.receipts):
        raise ReplayMismatchError(
            f"{len(transcript.receipts)} receipts are recorded, {len(chain.receipts)} come out",
            recorded=len(transcript.receipts),
        )
    for index, (recorded, actual) in enumerate(zip(transcript.receipts, chain.receipts, strict=True)):
        if recorded != actual:
            raise ReplayMismatchError(f"receipt {index} comes out as {actual}, recorded is {recorded}", index=index)
    if transcript.state_root != chain.state_root:
        raise ReplayMismatchError(
            f"state root comes out as {chain.state_root.hex()}, recorded is {transcript.state_root.hex()}",
            state_root=chain.state_root,
        )
    return chain


def encode_transcript(transcript: Transcript) -> bytes:
    """Return a transcript as JSON: fields by name, bytes in base64."""
    return msgspec.json.encode(transcript)


def decode_transcript(data: bytes) -> Transcript:
    """Return the transcript that `encode_transcript` made these bytes of; it is not verified yet.

    Raises:
        TranscriptError: too long, or not the canonical encoding of a transcript.
    """
    if len(data) > TRANSCRIPT_BYTES_MAX:
        raise TranscriptError(f"transcript has {len(data)} bytes, expected at most {TRANSCRIPT_BYTES_MAX}")
    try:
        transcript = msgspec.json.decode(data, type=Transcript)
        canonical = encode_transcript(transcript) == data
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise TranscriptError(f"{len(data)} bytes are not a transcript: {error}", length=len(data)) from error
    if not canonical:
        raise TranscriptError("bytes are not the canonical encoding of their transcript", length=len(data))
    genesis = transcript.genesis
    numbers = [genesis.chain_id, genesis.timestamp_s, *(balance for _, balance in genesis.balances)]
    if any(len(address) != 20 for address, _ in genesis.balances) or not all(0 <= n < 1 << 256 for n in numbers):
        raise TranscriptError("genesis has an address that is not 20 bytes, or a number outside 256 bits")
    if any(not 0 <= transaction.timestamp_s < 1 << 63 for transaction in transcript.transactions):
        raise TranscriptError("a timestamp is outside [0, 2^63)")
    return transcript
