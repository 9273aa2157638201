"""Reads settlement.json (format: docs/spec/settlement.md, "Vectors") with Python and with the contracts."""

import json
from pathlib import Path
from typing import Any

import pytest

from collegium.crypto import (
    AccountKey,
    BlsPublicKey,
    BlsSecretKey,
    Stream,
    g1_uncompressed,
    g2_uncompressed,
    hash_fields,
    verify_possession,
)
from collegium.errors import CollegiumError
from collegium.settlement import (
    Checkpoint,
    ContractRefusedError,
    Deployment,
    EmbeddedChain,
    Genesis,
    contract,
    deploy,
    handover_digest,
    header_root,
    open_first_epoch,
    possession_context,
    register_validator,
    verify_header,
)

DOCUMENT = json.loads((Path(__file__).parent / "settlement.json").read_text())
CASES: list[dict[str, Any]] = DOCUMENT["cases"]
DEPLOYER = AccountKey.generate(Stream(hash_fields("test-settlement-vectors")))


def of(*functions: str) -> Any:
    cases = [case for case in CASES if case["function"] in functions]
    return pytest.mark.parametrize("case", cases, ids=lambda case: case["name"])


def checkpoint(fields: dict[str, Any]) -> Checkpoint:
    task, previous, root = (bytes.fromhex(fields[name]) for name in ("task", "previous", "root"))
    return Checkpoint(task, fields["epoch"], fields["first_round"], fields["last_round"], previous, root)


def run(case: dict[str, Any]) -> bytes:
    match case["function"]:
        case "checkpoint_digest":
            return checkpoint(case).digest
        case "handover_digest":
            keys = [BlsPublicKey(bytes.fromhex(key)) for key in case["keys"]]
            task, previous = bytes.fromhex(case["task"]), bytes.fromhex(case["previous"])
            return handover_digest(task, case["epoch"], previous, keys)
        case "prove_possession":
            secret = BlsSecretKey.from_bytes(bytes.fromhex(case["secret"]))
            registry, account = bytes.fromhex(case["registry"]), bytes.fromhex(case["account"])
            proof = secret.prove_possession(possession_context(case["chain_id"], registry, account))
            verify_possession(secret.public_key(), possession_context(case["chain_id"], registry, account), proof)
            assert g2_uncompressed(secret.public_key()).hex() == case["key"]
            return g1_uncompressed(proof)
        case "header_root":
            return header_root([bytes.fromhex(header) for header in case["headers"]])
        case _:
            siblings = [bytes.fromhex(sibling) for sibling in case["siblings"]]
            verify_header(checkpoint(case), case["round"], bytes.fromhex(case["header"]), siblings)
            return b""


@pytest.fixture(scope="module")
def chain() -> EmbeddedChain:
    return EmbeddedChain(Genesis(31337, 1_800_000_000, ((DEPLOYER.address, 10**21),)))


@pytest.fixture(scope="module")
def towns(chain: EmbeddedChain) -> dict[int, Deployment]:
    """By number of seats, a deployment whose first set is that of the `settle` cases."""
    opened = {}
    for case in CASES:
        if case["function"] != "settle" or len(case["secrets"]) in opened:
            continue
        deployment = deploy(chain, DEPLOYER, bytes.fromhex(case["checkpoint"]["task"]), stake_min_wei=1)
        context = possession_context(chain.chain_id, deployment.registry, DEPLOYER.address)
        secrets = [BlsSecretKey.from_bytes(bytes.fromhex(secret)) for secret in case["secrets"]]
        ids = [
            register_validator(chain, deployment, DEPLOYER, secret.public_key(), secret.prove_possession(context), 1)
            for secret in secrets
        ]
        open_first_epoch(chain, deployment, DEPLOYER, ids)
        opened[len(secrets)] = deployment
    return opened


def test_the_format_is_the_one_documented() -> None:
    assert DOCUMENT["format"] == "collegium/vectors/settlement/1"


@of("checkpoint_digest", "handover_digest", "prove_possession", "header_root", "verify_header")
def test_case_in_python(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(CollegiumError) as refusal:
            run(case)
        assert type(refusal.value).__name__ == case["error"]
    else:
        assert run(case) == bytes.fromhex(case["result"])


@of("checkpoint_digest")
def test_case_of_a_digest_in_the_contract(
    case: dict[str, Any], chain: EmbeddedChain, towns: dict[int, Deployment]
) -> None:
    fields = checkpoint(case)
    struct = (fields.epoch, fields.first_round, fields.last_round, fields.previous, fields.root)
    call = contract("Settlement").call("checkpointDigest", struct)
    assert chain.call(DEPLOYER.address, towns[1].settlement, call).hex() == case["result"]


@of("settle")
def test_case_of_a_certificate_in_the_contract(
    case: dict[str, Any], chain: EmbeddedChain, towns: dict[int, Deployment]
) -> None:
    deployment = towns[len(case["secrets"])]
    fields = checkpoint(case["checkpoint"])
    rounds = (fields.epoch, fields.first_round, fields.last_round)
    certificate = (int(case["bitmap"], 16), bytes.fromhex(case["signature"]))
    call = contract("Settlement").call("checkpoint", *rounds, fields.root, *certificate)
    if "error" in case:
        with pytest.raises(ContractRefusedError) as refusal:
            chain.call(DEPLOYER.address, deployment.settlement, call)
        assert refusal.value.values["error"] == case["error"]
    else:
        assert chain.call(DEPLOYER.address, deployment.settlement, call) == b""
        assert fields.digest.hex() == case["result"]
