"""What hardware a task accepts: measurements, firmware, roots and age, all of it set before any quote is seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from collegium.crypto import DIGEST_BYTES, Digest, hash_fields

from ._quote_encoding import GPUS_MAX, QuoteKind
from ._quote_errors import QuotePolicyError

__all__ = [
    "AMD_GENOA_ROOT",
    "AMD_MILAN_ROOT",
    "INTEL_ROOT",
    "NVIDIA_ROOT",
    "GpuFirmware",
    "GpuPolicy",
    "IntelPolicy",
    "QuotePolicy",
    "SgxMeasurement",
    "SnpPolicy",
    "SnpTcb",
    "TdxMeasurement",
    "decode_policy",
    "encode_policy",
]

# SHA-256 of the vendors' self-signed root certificates (DER): Intel SGX Root CA, AMD ARK, NVIDIA Device Identity CA.
INTEL_ROOT: Final = bytes.fromhex("44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3")
AMD_MILAN_ROOT: Final = bytes.fromhex("69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd")
AMD_GENOA_ROOT: Final = bytes.fromhex("4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1")
NVIDIA_ROOT: Final = bytes.fromhex("102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48")

SHA384_BYTES: Final = 48
POLICY_BYTES_MAX: Final = 1 << 20
INTEL_STATUSES: Final = frozenset(
    {
        "UpToDate",
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
    }
)


@dataclass(frozen=True, slots=True)
class SgxMeasurement:
    """An enclave: its exact code (`mrenclave`), or its signer, product and least version. None: not compared."""

    mrenclave: bytes | None = None
    mrsigner: bytes | None = None
    product: int = 0
    version_min: int = 0

    def __post_init__(self) -> None:
        if self.mrenclave is None and self.mrsigner is None:
            raise QuotePolicyError("an SGX measurement names neither mrenclave nor mrsigner")
        _lengths("mrenclave or mrsigner", DIGEST_BYTES, [self.mrenclave, self.mrsigner])


@dataclass(frozen=True, slots=True)
class TdxMeasurement:
    """A trust domain: its first image, and the four registers that its boot extended. None: not compared.

    `mrtd` alone covers the virtual firmware only; kernel and programs are in the registers.
    """

    mrtd: bytes
    rtmrs: tuple[bytes | None, bytes | None, bytes | None, bytes | None]

    def __post_init__(self) -> None:
        _lengths("mrtd or rtmr", SHA384_BYTES, [self.mrtd, *self.rtmrs])
        if len(self.rtmrs) != 4:
            raise QuotePolicyError(f"a trust domain has 4 registers, not {len(self.rtmrs)}", count=len(self.rtmrs))


@dataclass(frozen=True, slots=True)
class IntelPolicy:
    """Accepted enclaves and trust domains. Debug, migratable and service domains are never accepted.

    `statuses` are Intel's words for the platform's firmware; `evaluation_min` is the least number of Intel's TCB
    recovery that the collateral may come from; collateral older than `age_s_max` seconds at the round's time is stale.
    """

    sgx: tuple[SgxMeasurement, ...] = ()
    tdx: tuple[TdxMeasurement, ...] = ()
    statuses: frozenset[str] = frozenset({"UpToDate"})
    evaluation_min: int = 0
    age_s_max: int = 30 * 86_400
    roots: frozenset[Digest] = frozenset({INTEL_ROOT})

    def __post_init__(self) -> None:
        if not (self.sgx or self.tdx):
            raise QuotePolicyError("the policy for Intel accepts no measurement")
        if unknown := self.statuses - INTEL_STATUSES:
            raise QuotePolicyError(f"not a TCB status that can be accepted: {sorted(unknown)}", unknown=unknown)
        _lengths("root", DIGEST_BYTES, self.roots)


@dataclass(frozen=True, slots=True)
class SnpTcb:
    """Versions of the four parts of AMD's firmware. One is at least another if each part is."""

    bootloader: int = 0
    tee: int = 0
    snp: int = 0
    microcode: int = 0

    def at_least(self, other: SnpTcb) -> bool:
        return (
            self.bootloader >= other.bootloader
            and self.tee >= other.tee
            and self.snp >= other.snp
            and self.microcode >= other.microcode
        )


@dataclass(frozen=True, slots=True)
class SnpPolicy:
    """Accepted guests by launch measurement, least firmware, and the least privileged level that may ask for a report.

    `allow_debug` is for trials: whoever runs the host of a debuggable guest reads and changes it.
    `revoked` are SHA-256 digests of public keys (SubjectPublicKeyInfo, DER) that are refused anywhere in a chain.
    """

    measurements: frozenset[bytes]
    tcb_min: SnpTcb
    vmpl_max: int = 0
    allow_debug: bool = False
    allow_migration: bool = False
    revoked: frozenset[Digest] = frozenset()
    roots: frozenset[Digest] = frozenset({AMD_MILAN_ROOT, AMD_GENOA_ROOT})

    def __post_init__(self) -> None:
        if not self.measurements:
            raise QuotePolicyError("the policy for SEV-SNP accepts no measurement")
        _lengths("measurement", SHA384_BYTES, self.measurements)
        _lengths("root or revoked key", DIGEST_BYTES, self.roots | self.revoked)


@dataclass(frozen=True, slots=True)
class GpuFirmware:
    """One accepted state of a GPU: versions as the report writes them, and measured blocks as (index, value).

    Which blocks have a fixed value is in NVIDIA's reference manifests for that driver and VBIOS. A block that is not
    named is not compared.
    """

    driver: str
    vbios: str
    measurements: tuple[tuple[int, bytes], ...]

    def __post_init__(self) -> None:
        indices = [index for index, _ in self.measurements]
        if not indices or indices != sorted(set(indices)):
            raise QuotePolicyError("measured blocks are none, come twice or are out of order", indices=indices)
        _lengths("measured block", SHA384_BYTES, (value for _, value in self.measurements))


@dataclass(frozen=True, slots=True)
class GpuPolicy:
    """Accepted GPUs, how many distinct ones at least, trusted roots, revoked keys. A GPU never stands alone."""

    firmware: tuple[GpuFirmware, ...]
    count_min: int = 1
    revoked: frozenset[Digest] = frozenset()
    roots: frozenset[Digest] = frozenset({NVIDIA_ROOT})

    def __post_init__(self) -> None:
        if not self.firmware:
            raise QuotePolicyError("the policy for GPUs accepts no firmware")
        if not 1 <= self.count_min <= GPUS_MAX:
            raise QuotePolicyError(f"{self.count_min} GPUs asked for, 1 to {GPUS_MAX} can be", count_min=self.count_min)
        _lengths("root or revoked key", DIGEST_BYTES, self.roots | self.revoked)


@dataclass(frozen=True, slots=True)
class QuotePolicy:
    """What a task accepts in place of a proof: one processor's quote of an accepted kind, and GPUs if `gpu` is set.

    A GPU's report says which firmware answered, not which program asked: without a processor's quote over the same
    report data, whoever owns the machine could have asked. So `gpu` alone is refused.
    """

    intel: IntelPolicy | None = None
    snp: SnpPolicy | None = None
    gpu: GpuPolicy | None = None
    kinds: frozenset[QuoteKind] = field(init=False)

    def __post_init__(self) -> None:
        accepted = {
            QuoteKind.SGX: self.intel is not None and bool(self.intel.sgx),
            QuoteKind.TDX: self.intel is not None and bool(self.intel.tdx),
            QuoteKind.SNP: self.snp is not None,
            QuoteKind.GPU: self.gpu is not None,
        }
        object.__setattr__(self, "kinds", frozenset(kind for kind, yes in accepted.items() if yes))
        if not self.kinds - {QuoteKind.GPU}:
            raise QuotePolicyError("the policy accepts no processor's quote", kinds=self.kinds)

    @property
    def digest(self) -> Digest:
        """What a task binds: H("quote-policy", canonical bytes)."""
        return hash_fields("quote-policy", encode_policy(self))


def encode_policy(policy: QuotePolicy) -> bytes:
    """Return the policy as canonical JSON: no spaces, fields in their classes' order, sets sorted, bytes base64."""
    body = {"gpu": policy.gpu, "intel": policy.intel, "snp": policy.snp}
    return msgspec.json.encode(body, order="deterministic")


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    gpu: GpuPolicy | None
    intel: IntelPolicy | None
    snp: SnpPolicy | None


def decode_policy(data: bytes) -> QuotePolicy:
    """Return the policy that `data` encodes.

    Raises:
        QuotePolicyError: not the canonical encoding of a policy.
    """
    if len(data) > POLICY_BYTES_MAX:
        raise QuotePolicyError(f"a policy has {len(data)} bytes, at most {POLICY_BYTES_MAX}", length=len(data))
    try:
        body = msgspec.json.decode(data, type=_Body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise QuotePolicyError(f"not a policy: {error}") from error
    policy = QuotePolicy(body.intel, body.snp, body.gpu)
    if encode_policy(policy) != data:
        raise QuotePolicyError("a policy is not in its canonical encoding")
    return policy


def _lengths(what: str, expected: int, values: Iterable[bytes | None]) -> None:
    for value in values:
        if value is not None and len(value) != expected:
            raise QuotePolicyError(f"{what} has {len(value)} bytes, expected {expected}", length=len(value))
