"""What a trainer signs before it uploads: which bytes, for which round, to which validator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256

import msgspec

from collegium.crypto import ACCOUNT_SIGNATURE_BYTES, ADDRESS_BYTES, DIGEST_BYTES, AccountKey, Digest, hash_fields
from collegium.crypto import recover_address as recover
from collegium.errors import CollegiumError

from ._gateway_problems import ForgedTicketError, MalformedRequestError
from ._json import decode_canonical

__all__ = ["TICKET_BYTES_MAX", "UploadTicket", "check_ticket", "decode_ticket", "encode_ticket", "make_ticket"]

TICKET_BYTES_MAX = 1024
NUMBER_MAX = 2**53 - 1


@dataclass(frozen=True)
class UploadTicket:
    """The promise of one upload.

    Attributes:
        length: of the upload in bytes.
        sha256: of the upload.
        trainer: its account address.
    """

    round: int
    length: int
    sha256: Digest
    trainer: bytes
    signature: bytes = b""

    def digest(self, task: Digest, validator: int) -> Digest:
        """What the trainer signs: it holds at one validator, so that no other can speak for the trainer there."""
        return hash_fields("upload-ticket", task, validator, self.round, self.length, self.sha256)

    def identity(self, task: Digest, validator: int) -> str:
        """Return the name of the upload in addresses: nobody else can tell it, for it depends on the signature."""
        return hash_fields("upload-id", self.digest(task, validator), self.signature).hex()


def make_ticket(account: AccountKey, task: Digest, validator: int, round_number: int, upload: bytes) -> UploadTicket:
    """Return the signed ticket of an upload to one validator."""
    unsigned = UploadTicket(round_number, len(upload), sha256(upload).digest(), account.address)
    return replace(unsigned, signature=account.sign(unsigned.digest(task, validator)))


def check_ticket(ticket: UploadTicket, task: Digest, validator: int) -> None:
    """Return if the ticket's trainer signed it for this task and validator.

    Raises:
        ForgedTicketError: it did not.
    """
    try:
        signer = recover(ticket.digest(task, validator), ticket.signature)
    except CollegiumError as error:
        raise ForgedTicketError(f"ticket: {error}", trainer=ticket.trainer) from error
    if signer != ticket.trainer:
        raise ForgedTicketError(
            f"ticket of trainer {ticket.trainer.hex()} for validator {validator} is signed by {signer.hex()}, if it is "
            "for this task and validator",
            trainer=ticket.trainer,
            signer=signer,
        )


def encode_ticket(ticket: UploadTicket) -> bytes:
    """Return a ticket as canonical JSON, bytes as base64."""
    return msgspec.json.encode(ticket)


def decode_ticket(data: bytes) -> UploadTicket:
    """Decode a ticket strictly; whether it is signed is `check_ticket`'s business.

    Raises:
        MalformedRequestError: not canonical, or a field out of its bounds.
    """
    ticket = decode_canonical(data, UploadTicket, "ticket", TICKET_BYTES_MAX, MalformedRequestError)
    lengths = (len(ticket.sha256), len(ticket.trainer), len(ticket.signature))
    expected = (DIGEST_BYTES, ADDRESS_BYTES, ACCOUNT_SIGNATURE_BYTES)
    if lengths != expected:
        raise MalformedRequestError(f"digest, trainer and signature of a ticket have {lengths} bytes, not {expected}")
    if not (0 <= ticket.round <= NUMBER_MAX and 0 < ticket.length <= NUMBER_MAX):
        raise MalformedRequestError(
            f"ticket for round {ticket.round} and {ticket.length} bytes, expected 0..2^53-1 and 1..2^53-1"
        )
    return ticket
