"""Reads crypto.json (format: docs/spec/crypto.md, "Vectors")."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collegium.crypto import (
    AccountKey,
    BlsPublicKey,
    BlsSecretKey,
    BlsVrf,
    EcVrf,
    EcVrfSecretKey,
    SealKey,
    SecretShare,
    Stream,
    ThresholdBeacon,
    Transcript,
    bls_verify,
    combine_commitments,
    decode_certificate,
    encode_certificate,
    g1_uncompressed,
    g2_uncompressed,
    hash_fields,
    open_sealed,
    recover_address,
    verify_aggregate,
    verify_aggregate_many,
    verify_certificate,
    verify_possession,
)
from collegium.crypto import _bls as bls
from collegium.errors import CollegiumError

DOCUMENT = json.loads((Path(__file__).parent / "crypto.json").read_text())
Case = dict[str, Any]
octets = bytes.fromhex


def fields(case: Case) -> list[bytes | int]:
    return [field if isinstance(field, int) else octets(field) for field in case["fields"]]


def public_keys(texts: list[str]) -> list[BlsPublicKey]:
    return [BlsPublicKey(octets(text)) for text in texts]


def run_hash_fields(case: Case) -> object:
    return hash_fields(case["tag"], *fields(case)).hex()


def run_transcript(case: Case) -> object:
    transcript = Transcript(case["tag"], *fields(case))
    for step in case["steps"]:
        if "absorb" in step:
            transcript.absorb(step["absorb"], octets(step["data"]))
            continue
        label, count = step["challenge"], step["count"]
        drawn: Any
        if step["kind"] == "bytes":
            drawn = transcript.challenge_bytes(label, count).hex()
        elif step["kind"] == "indices":
            drawn = transcript.challenge_indices(label, count, step["bound"]).tolist()
        elif step["kind"] == "field":
            drawn = [str(value) for value in transcript.challenge_field(label, count)]
        else:
            drawn = [[str(value) for value in row] for row in transcript.challenge_ext(label, count)]
        assert drawn == step["result"]
    return transcript.state.hex()


def run_stream(case: Case) -> object:
    stream = Stream(octets(case["seed"]))
    return (stream.split(case["split"]) if "split" in case else stream)(case["count"]).hex()


def run_hash_to_g1(case: Case) -> object:
    curve = bls.backend()
    return g1_uncompressed(curve.encode_g1(curve.hash_to_g1(octets(case["message"]), octets(case["domain"])))).hex()


def run_derive_scalar(case: Case) -> object:
    return f"{bls.derive_scalar(octets(case['material'])):064x}"


def run_check_signature(case: Case) -> object:
    key = bls.key_point(octets(case["key"]))
    bls.check_signature(octets(case["domain"]), octets(case["digest"]), key, octets(case["signature"]))
    return True


def run_bls_verify(case: Case) -> object:
    key, digest, signature = BlsPublicKey(octets(case["key"])), octets(case["digest"]), octets(case["signature"])
    bls_verify(key, digest, signature)
    if "secret" in case:
        secret = BlsSecretKey.from_bytes(octets(case["secret"]))
        assert (secret.public_key(), secret.sign(digest)) == (key, signature)
    return True


def run_verify_possession(case: Case) -> object:
    verify_possession(BlsPublicKey(octets(case["key"])), octets(case["context"]), octets(case["proof"]))
    return True


def run_g1_uncompressed(case: Case) -> object:
    return g1_uncompressed(octets(case["signature"])).hex()


def run_g2_uncompressed(case: Case) -> object:
    return g2_uncompressed(BlsPublicKey(octets(case["key"]))).hex()


def run_verify_aggregate(case: Case) -> object:
    verify_aggregate(public_keys(case["keys"]), octets(case["digest"]), octets(case["signature"]))
    return True


def run_verify_aggregate_many(case: Case) -> object:
    groups = [(public_keys(group["keys"]), octets(group["digest"])) for group in case["groups"]]
    verify_aggregate_many(groups, octets(case["signature"]))
    return True


def run_verify_certificate(case: Case) -> object:
    keys, data = public_keys(case["keys"]), octets(case["certificate"])
    certificate = decode_certificate(data, len(keys))
    assert encode_certificate(certificate) == data
    return list(verify_certificate(keys, case["quorum"], octets(case["digest"]), certificate))


def run_ecvrf(case: Case) -> object:
    beta = EcVrf.verify(octets(case["key"]), octets(case["alpha"]), octets(case["proof"]))
    secret = EcVrfSecretKey(octets(case["seed"]))
    assert secret.public_key.hex() == case["key"]
    assert EcVrf.prove(secret, octets(case["alpha"])).hex() == case["proof"]
    return beta.hex()


def run_bls_vrf(case: Case) -> object:
    key, digest, ticket = BlsPublicKey(octets(case["key"])), octets(case["digest"]), octets(case["ticket"])
    output = BlsVrf.verify(key, digest, ticket)
    assert BlsVrf.prove(BlsSecretKey.from_bytes(octets(case["secret"])), digest) == ticket
    return output.hex()


def run_beacon(case: Case) -> object:
    at = (case["epoch"], case["round"])
    rows = [[octets(text) for text in row] for row in case["commitments"]]
    group = combine_commitments(case["members"], rows)
    observer = ThresholdBeacon(octets(case["task"]), group)
    value = observer.verify(*at, octets(case["proof"]), case["purpose"])
    assert (group.threshold, group.key.hex()) == (len(rows[0]), case["key"])
    assert [data.hex() for data in group.public_shares] == case["public_shares"]
    for member, (share, partial) in enumerate(zip(case["shares"], case["partials"], strict=True)):
        beacon = ThresholdBeacon(octets(case["task"]), group, SecretShare.from_bytes(member, octets(share)))
        assert beacon.partial(*at, case["purpose"]).hex() == partial
    partials = {member: octets(text) for member, text in enumerate(case["partials"])}
    assert observer.combine(*at, partials, case["purpose"]).hex() == case["proof"]
    return value.hex()


def run_recover_address(case: Case) -> object:
    address = recover_address(octets(case["digest"]), octets(case["signature"]))
    account = AccountKey(octets(case["secret"]))
    assert (account.address, account.public_key.hex()) == (address, case["public_key"])
    assert account.sign(octets(case["digest"])).hex() == case["signature"]
    return address.hex()


def run_open_sealed(case: Case) -> object:
    secret = SealKey(octets(case["secret"]))
    assert secret.public_bytes.hex() == case["public_key"]
    return open_sealed(secret, octets(case["info"]), octets(case["box"])).hex()


RUNNERS: dict[str, Callable[[Case], object]] = {
    name.removeprefix("run_"): runner for name, runner in list(globals().items()) if name.startswith("run_")
}


def test_the_format_is_the_one_documented() -> None:
    assert DOCUMENT["format"] == "collegium/vectors/crypto/1"
    assert {case["function"] for case in DOCUMENT["cases"]} == set(RUNNERS)


@pytest.mark.parametrize("case", DOCUMENT["cases"], ids=lambda case: case["name"])
def test_case(case: Case) -> None:
    if "error" not in case:
        assert RUNNERS[case["function"]](case) == case["result"]
        return
    with pytest.raises(CollegiumError) as refusal:
        RUNNERS[case["function"]](case)
    assert type(refusal.value).__name__ == case["error"]
