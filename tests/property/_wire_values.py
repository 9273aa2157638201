"""One value of each kind that is said in a round, every field of it filled."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from _round_stage import RANDOM, TASK, committee, deny, update_of

from collegium.aggregation import (
    KeySum,
    Receipt,
    Upload,
    begin_upload,
    decode_ciphertext,
    finish_upload,
    proof_digest,
)
from collegium.algebra import P
from collegium.consensus import (
    Announcement,
    BeaconWord,
    Close,
    CloseOffer,
    FailingProof,
    FalseReceipt,
    FalseReject,
    Header,
    HeaderProposal,
    HeaderVote,
    Held,
    ObjectRequest,
    ProofReject,
    RecordOffer,
    Release,
    ReportReply,
    ReportRequest,
    ResultOffer,
    ResultVote,
    SeatReceipt,
    ShardBatch,
    ShardMessage,
    ShardResult,
    Voucher,
    encode_shard_payload,
)


def key_sum(width: int, seed: int, seat: int = 3) -> KeySum:
    random = RANDOM.split(f"key sum {width} {seed}")
    rows = np.frombuffer(random(32 * width), "<u8") % np.uint64(P)
    return KeySum(TASK, 5, random(32), seat, rows.reshape(width, 4), random(65))


@cache
def proved_upload() -> Upload:
    """An upload with one box alone, a proof and a registration, signed."""
    terms, account, registration = committee().terms, committee().trainers[0], b"registered"
    draft = begin_upload(terms, account.address, update_of(0), RANDOM.split("proved upload"))
    upload = finish_upload(terms, draft, account, b"a proof", registration=proof_digest(registration), staleness=1)
    return replace(deny(upload, 0, range(1, 16)), registration=registration)


@cache
def held() -> Held:
    upload = proved_upload()
    ciphertext = decode_ciphertext(committee().terms.layout, upload.ciphertext)
    return Held(upload.report, ciphertext, upload.proof, upload.registration)


@cache
def small_values() -> tuple[Any, ...]:
    """One short message of each kind that is an array, every field of it filled."""
    digest, signature, share = bytes(range(32)), bytes(range(65)), bytes(range(48))
    announcement = Announcement(7, 6, digest, signature)
    header = Header(
        digest, 5, "proved", digest, digest, "opened", ((3, digest),), digest, digest, (4,), share, (1, 2),
        (announcement,), (digest,), digest, digest[::-1],
    )  # fmt: skip
    return (
        SeatReceipt(5, Receipt(3, (bytes(32), digest), (digest,), signature)),
        ProofReject(5, digest, 300, signature),
        announcement,
        Release(5, 7, digest, (key_sum(32, 0),), share, signature),
        HeaderProposal(header, (key_sum(32, 0),), 7, signature),
        HeaderVote(5, digest, 7, share),
        ReportRequest(5, 7, (digest, digest)),
        ObjectRequest(7, (digest, digest)),
    )


@cache
def large_values() -> tuple[Any, ...]:
    upload, kept = proved_upload(), held()
    receipt = Receipt(3, (kept.report.id,), (kept.report.id,), bytes(65))
    return (
        upload,
        ReportReply(5, upload.report, upload.ciphertext, upload.proof, upload.registration),
        FailingProof(kept),
        FalseReceipt(kept, receipt),
        FalseReject(kept, ProofReject(5, kept.report.id, 300, bytes(65))),
    )


@cache
def shard_values() -> tuple[Any, ...]:
    """One short message of each kind that is said where a round has shards, every field of it filled."""
    digest, signature, share = bytes(range(32)), bytes(range(65)), bytes(range(48))
    close = Close(digest, 5, digest, (3,), (digest,), (1,), (digest,), ((b"\1", b"\1", signature),))
    result = ShardResult(digest, 5, 2, "proved", digest, "opened", ((3, digest),), digest, (4,), (digest,))
    record = encode_shard_payload(ShardBatch(digest, 5, lost=(0, 2)))
    receipt, reject, _, release, _, _, request, objects = small_values()
    offers = (
        CloseOffer(7, close),
        Voucher(7, digest, share),
        ResultOffer(7, result, (key_sum(512, 1),)),
        ResultVote(7, digest, share),
    )
    inside = (*offers, receipt, reject, release, request, objects)
    return (*(ShardMessage(5, 2, message) for message in inside), RecordOffer(5, record), BeaconWord(5, 7, share))
