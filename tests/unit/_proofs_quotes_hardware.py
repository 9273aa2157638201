"""Hardware of our own: vendors' chains with test roots, and quotes, reports and collateral signed under them.

Formats as in docs/spec/attestation.md. Nothing here is secret, and nothing here is trusted by a default policy.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from collegium.proofs._quote_encoding import Quote, QuoteKind
from collegium.proofs._quote_intel import COLLATERAL_FIELDS

ROUND_TIME = 1_800_000_000
DAY_S = 86_400
START = datetime.fromtimestamp(ROUND_TIME - 100 * DAY_S, UTC)
END = datetime.fromtimestamp(ROUND_TIME + 100 * DAY_S, UTC)
PSS = padding.PSS(mgf=padding.MGF1(SHA384()), salt_length=48)

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Issuer:
    certificate: x509.Certificate
    key: Key

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def digest(self) -> bytes:
        return self.certificate.fingerprint(SHA256())

    @property
    def key_digest(self) -> bytes:
        spki = self.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return sha256(spki).digest()

    def resigned(self) -> bytes:
        """The certificate with the other signature that ECDSA allows, r || n - s: no key is needed for it."""
        order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
        r, s = decode_dss_signature(self.certificate.signature)
        signature = encode_dss_signature(r, order - s)
        _, tbs, rest = self.der.partition(self.certificate.tbs_certificate_bytes)
        head = rest[: 2 + rest[1]]
        return _der(0x30, tbs, head, _der(3, b"\0", signature))


@cache
def rsa_key(name: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def ec_key(name: str, curve: ec.EllipticCurve) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(sha256(name.encode()).digest()[:31]), curve)


def issue(
    name: str,
    key: Key,
    issuer: Issuer | None,
    *,
    authority: bool = True,
    signs: bool | None = None,
    extensions: Sequence[tuple[str, bytes]] = (),
    serial: int | None = None,
    start: datetime = START,
    end: datetime = END,
) -> Issuer:
    """A certificate for `key`, by `issuer` or by itself. `signs`: what its key usage says, if not as `authority`."""
    signs = authority if signs is None else signs
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=issuer.certificate.subject if issuer else subject,
        public_key=key.public_key(),
        serial_number=serial or int.from_bytes(sha256(name.encode()).digest()[:8]) + 1,
        not_valid_before=start,
        not_valid_after=end,
    )
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
    )
    builder = builder.add_extension(x509.BasicConstraints(authority, None), critical=True)
    builder = builder.add_extension(
        x509.KeyUsage(digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, decipher_only=False, **usage),
        critical=True,
    )
    for oid, value in extensions:
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
        builder = builder.add_extension(unknown, critical=False)
    signer = issuer.key if issuer else key
    if isinstance(signer, rsa.RSAPrivateKey):
        return Issuer(builder.sign(signer, SHA384(), rsa_padding=PSS), key)
    return Issuer(builder.sign(signer, _hash(signer)), key)


def _hash(key: ec.EllipticCurvePrivateKey) -> HashAlgorithm:
    return SHA256() if isinstance(key.curve, ec.SECP256R1) else SHA384()


def raw_signature(key: Key, message: bytes, byteorder: str = "big", size: int = 0) -> bytes:
    """r || s, each as wide as the curve or `size` bytes."""
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    width = size or (key.curve.key_size + 7) // 8
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(_hash(key))))
    return r.to_bytes(width, byteorder) + s.to_bytes(width, byteorder)  # type: ignore[arg-type]


# AMD


@dataclass(frozen=True)
class Amd:
    """One chip of AMD's, its firmware and a guest on it. Change a field, get another report."""

    versions: tuple[int, int, int, int] = (3, 0, 22, 213)
    certified: tuple[int, int, int, int] | None = None
    chip: bytes = sha256(b"chip").digest() * 2
    certified_chip: bytes | None = None
    product: bytes = b"Milan-B0"
    leaf_name: str = "SEV-VCEK"
    measurement: bytes = b"\x11" * 48
    guest_policy: int = 0x30000
    level: int = 0
    key_info: int = 0
    report_version: int = 2
    algorithm: int = 1
    authority: bool = True
    signs: bool = True
    product_tag: int = 0x16
    reserved: bytes = bytes(4)
    end: datetime = END

    @property
    def root(self) -> Issuer:
        return _ark()

    @cache  # noqa: B019
    def chain(self) -> tuple[Issuer, Issuer, Issuer]:
        ask = _ask(self.authority, self.signs)
        versions = self.certified or self.versions
        numbers = dict(zip(("3.1", "3.2", "3.3", "3.8"), versions, strict=True))
        extensions = [(name, _integer(value)) for name, value in numbers.items()]
        extensions += [("2", bytes([self.product_tag, len(self.product)]) + self.product)]
        extensions += [("4", self.chip if self.certified_chip is None else self.certified_chip)]
        named = [("1.3.6.1.4.1.3704.1." + name, value) for name, value in extensions]
        key = ec_key("vcek", ec.SECP384R1())
        vcek = issue(self.leaf_name, key, ask, authority=False, extensions=named, end=self.end)
        return vcek, ask, self.root

    def quote(self, report_data: bytes) -> Quote:
        chain = self.chain()
        report = bytearray(1184)
        for at, value in (
            (0x00, self.report_version),
            (0x30, self.level),
            (0x34, self.algorithm),
            (0x48, self.key_info),
        ):
            report[at : at + 4] = value.to_bytes(4, "little")
        report[0x08:0x10] = self.guest_policy.to_bytes(8, "little")
        report[0x50:0x90] = report_data
        report[0x90:0xC0] = self.measurement
        report[0x180:0x188] = bytes([*self.versions[:2], *self.reserved, *self.versions[2:]])
        report[0x1A0:0x1E0] = self.chip
        report[0x2A0:0x330] = raw_signature(chain[0].key, bytes(report[:0x2A0]), "little", 72)
        return Quote(QuoteKind.SNP, bytes(report), tuple(each.der for each in chain))


@cache
def _ark() -> Issuer:
    return issue("ARK-Test", rsa_key("ark"), None)


@cache
def _ask(authority: bool, signs: bool) -> Issuer:
    return issue("SEV-Test", rsa_key("ask"), _ark(), authority=authority, signs=signs)


def _integer(value: int) -> bytes:
    return bytes([2, 1, value]) if value < 128 else bytes([2, 2, 0, value])


# NVIDIA


@dataclass(frozen=True)
class Nvidia:
    """One GPU and its firmware."""

    serial: str = "0"
    driver: bytes = b"550.90.07\0"
    vbios: bytes = bytes.fromhex("009f009601000000")
    blocks: tuple[bytes, ...] = tuple(bytes([index]) * 48 for index in range(1, 5))
    firmware_id: bytes = b"\x22" * 48
    certified_firmware_id: bytes | None = None
    request: bytes = bytes.fromhex("11e001ff")
    response: bytes = bytes.fromhex("1160")
    indices: tuple[int, ...] = (1, 2, 3, 4)
    block_format: int = 1
    extra: bytes = b""

    @property
    def root(self) -> Issuer:
        return _gpu_root()

    @cache  # noqa: B019
    def chain(self) -> tuple[Issuer, ...]:
        curve = ec.SECP384R1()
        root = self.root
        maker = issue("GPU Maker", ec_key("maker", curve), root)
        chip = issue(f"GPU Chip {self.serial}", ec_key(f"gpu {self.serial}", curve), maker)
        certified = self.firmware_id if self.certified_firmware_id is None else self.certified_firmware_id
        dice = [("2.23.133.5.4.1", b"\x30\x32\x04\x30" + certified)]
        key = ec_key(f"firmware {self.serial}", curve)
        return issue("GPU Firmware", key, chip, authority=False, extensions=dice), chip, maker, root

    def quote(self, report_data: bytes) -> Quote:
        chain = self.chain()
        record = b"".join(
            bytes([index, self.block_format, len(value) + 3, 0, 1, len(value), 0]) + value
            for index, value in zip(self.indices, self.blocks, strict=False)
        )
        fields = ((3, self.driver), (6, self.vbios), (20, self.firmware_id))
        opaque = b"".join(bytes([name, 0, len(value), 0]) + value for name, value in fields) + self.extra
        request = self.request + report_data[:32] + b"\0"
        response = self.response + bytes([0, 0, len(self.blocks)]) + len(record).to_bytes(3, "little") + record
        response += sha256(b"the GPU's own nonce").digest() + len(opaque).to_bytes(2, "little") + opaque
        signature = raw_signature(chain[0].key, request + response)
        return Quote(QuoteKind.GPU, request + response + signature, tuple(each.der for each in chain))


@cache
def _gpu_root() -> Issuer:
    return issue("GPU Root", ec_key("gpu root", ec.SECP384R1()), None)


# Intel

FMSPC = bytes.fromhex("00906ea10000")
PPID = sha256(b"platform").digest()[:16]
QE_SIGNER = sha256(b"quoting enclave's signer").digest()
VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
SGX_OID = bytes.fromhex("2a864886f84d010d01")
ATTRIBUTES = (0x05).to_bytes(8, "little") + (0xE7).to_bytes(8, "little")
AUTH_DATA = bytes(range(32))


@dataclass(frozen=True)
class Intel:
    """One platform of Intel's with an enclave or a trust domain on it."""

    kind: QuoteKind = QuoteKind.SGX
    mrenclave: bytes = b"\x33" * 32
    mrsigner: bytes = b"\x44" * 32
    product: int = 7
    version: int = 5
    flags: int = 0x05
    mrtd: bytes = b"\x55" * 48
    registers: tuple[bytes, ...] = field(default=tuple(bytes([6 + index]) * 48 for index in range(4)))
    td_attributes: int = 1 << 28  # SEPT_VE_DISABLE
    service_domain: bytes | None = None  # a quote of version 5
    status: str = "UpToDate"
    evaluation: int = 17
    level: int = 2  # what Intel's collateral asks of every part of the platform
    issued_s: int = ROUND_TIME - DAY_S
    pck_revoked: bool = False

    @property
    def root(self) -> Issuer:
        return _intel_root()

    def quote(self, report_data: bytes) -> Quote:
        body = self._enclave(report_data) if self.kind == QuoteKind.SGX else self._domain(report_data)
        key = ec_key("attestation key", ec.SECP256R1())
        point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
        qe_data = sha256(point + AUTH_DATA).digest() + bytes(32)
        qe_report = _enclave_report(b"\x77" * 32, QE_SIGNER, 1 if self.kind == QuoteKind.SGX else 2, 8, 0x15, qe_data)
        pck, authority = _pck()
        pem = (pck.pem + authority.pem + self.root.pem).encode()
        certified = qe_report + raw_signature(pck.key, qe_report)
        certified += len(AUTH_DATA).to_bytes(2, "little") + AUTH_DATA + _typed(5, pem)
        if self.kind == QuoteKind.TDX:
            certified = _typed(6, certified)
        signature = raw_signature(key, body) + point + certified
        return Quote(self.kind, body + len(signature).to_bytes(4, "little") + signature, self._collateral())

    def _enclave(self, report_data: bytes) -> bytes:
        report = _enclave_report(self.mrenclave, self.mrsigner, self.product, self.version, self.flags, report_data)
        return _header(3, 0x00) + report

    def _domain(self, report_data: bytes) -> bytes:
        svn, attributes = bytes([self.level, *bytes(15)]), self.td_attributes.to_bytes(8, "little")
        body = svn + b"\x99" * 48 + bytes(48 + 8) + attributes + (0xE7).to_bytes(8, "little")
        body += self.mrtd + bytes(3 * 48) + b"".join(self.registers) + report_data
        assert len(body) == 584
        if self.service_domain is None:
            return _header(4, 0x81) + body
        return _header(5, 0x81) + _typed(3, body + svn + self.service_domain)

    def _collateral(self) -> tuple[bytes, ...]:
        issued, until = (_zulu(self.issued_s + more) for more in (0, 30 * DAY_S))
        signer = issue("TCB Signing", ec_key("tcb", ec.SECP256R1()), self.root, authority=False)
        chain = (signer.pem + self.root.pem).encode()
        dates = {"issueDate": issued, "nextUpdate": until, "tcbEvaluationDataNumber": self.evaluation}
        tcb_info, identity = (json.dumps(each | dates).encode() for each in (self._tcb_info(), self._identity()))
        pck, authority = _pck()
        revoked = [pck.certificate.serial_number] if self.pck_revoked else []
        fields = {
            "pck_crl_issuer_chain": (authority.pem + self.root.pem).encode(),
            "root_ca_crl": revocation_list(self.root, []),
            "pck_crl": revocation_list(authority, revoked),
            "tcb_info_issuer_chain": chain,
            "tcb_info": tcb_info,
            "tcb_info_signature": raw_signature(signer.key, tcb_info),
            "qe_identity_issuer_chain": chain,
            "qe_identity": identity,
            "qe_identity_signature": raw_signature(signer.key, identity),
        }
        return tuple(fields[name] for name in COLLATERAL_FIELDS)

    def _tcb_info(self) -> dict[str, object]:
        components = [{"svn": self.level}] + [{"svn": 0}] * 15
        tcb = {"sgxtcbcomponents": components, "tdxtcbcomponents": components, "pcesvn": 11}
        level = {"tcb": tcb, "tcbDate": "2026-01-01T00:00:00Z", "tcbStatus": self.status, "advisoryIDs": ["TEST-SA-1"]}
        module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "ff" * 8}
        info = {"version": 3, "fmspc": FMSPC.hex(), "pceId": "0000", "tcbType": 0, "tcbLevels": [level]}
        return info | ({"id": "SGX"} if self.kind == QuoteKind.SGX else {"id": "TDX", "tdxModule": module})

    def _identity(self) -> dict[str, object]:
        level = {"tcb": {"isvsvn": 8}, "tcbDate": "2026-01-01T00:00:00Z", "tcbStatus": "UpToDate"}
        return {
            "id": "QE" if self.kind == QuoteKind.SGX else "TD_QE",
            "version": 2,
            "miscselect": "00000000",
            "miscselectMask": "ffffffff",
            "attributes": "15" + "00" * 7 + "e7" + "00" * 7,
            "attributesMask": "ff" * 16,
            "mrsigner": QE_SIGNER.hex(),
            "isvprodid": 1 if self.kind == QuoteKind.SGX else 2,
            "tcbLevels": [level],
        }


@cache
def _intel_root() -> Issuer:
    return issue("Intel Root", ec_key("intel root", ec.SECP256R1()), None)


@cache
def _pck() -> tuple[Issuer, Issuer]:
    """The platform's certificate, whose firmware is at version 2 in its first part and 0 elsewhere, and its issuer."""
    authority = issue("PCK Authority", ec_key("pck ca", ec.SECP256R1()), _intel_root())
    svn = bytes([2, *bytes(15)])
    tcb = [_entry(2, part + 1, value=_integer(svn[part])) for part in range(16)]
    tcb += [_entry(2, 17, value=_integer(11)), _entry(2, 18, value=_der(4, svn))]
    entries = [_entry(1, value=_der(4, PPID)), _entry(2, value=_der(0x30, *tcb)), _entry(3, value=_der(4, bytes(2)))]
    entries += [_entry(4, value=_der(4, FMSPC)), _entry(5, value=_der(10, b"\0"))]
    extension = [("1.2.840.113741.1.13.1", _der(0x30, *entries))]
    key = ec_key("pck", ec.SECP256R1())
    return issue("PCK", key, authority, authority=False, extensions=extension), authority


def revocation_list(issuer: Issuer, serials: Sequence[int]) -> bytes:
    builder = x509.CertificateRevocationListBuilder(issuer.certificate.subject, START, END)
    builder = builder.add_extension(x509.CRLNumber(1), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
    )
    for serial in serials:
        entry = x509.RevokedCertificateBuilder(serial, START + timedelta(days=1)).build()
        builder = builder.add_revoked_certificate(entry)
    assert isinstance(issuer.key, ec.EllipticCurvePrivateKey)
    return builder.sign(issuer.key, SHA256()).public_bytes(Encoding.DER)


def _header(version: int, tee: int) -> bytes:
    head = version.to_bytes(2, "little") + (2).to_bytes(2, "little") + tee.to_bytes(4, "little")
    return head + bytes(4) + VENDOR + bytes(20)


def _enclave_report(code: bytes, signer: bytes, product: int, version: int, flags: int, report_data: bytes) -> bytes:
    report = bytearray(384)
    report[48:64] = flags.to_bytes(8, "little") + ATTRIBUTES[8:]
    report[64:96], report[128:160], report[320:384] = code, signer, report_data
    report[256:260] = product.to_bytes(2, "little") + version.to_bytes(2, "little")
    return bytes(report)


def _typed(kind: int, data: bytes) -> bytes:
    return kind.to_bytes(2, "little") + len(data).to_bytes(4, "little") + data


def _zulu(unix_time: int) -> str:
    return datetime.fromtimestamp(unix_time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _der(tag: int, *parts: bytes) -> bytes:
    data = b"".join(parts)
    size = bytes([len(data)]) if len(data) < 128 else bytes([0x82]) + len(data).to_bytes(2)
    return bytes([tag]) + size + data


def _entry(*arcs: int, value: bytes) -> bytes:
    return _der(0x30, _der(6, SGX_OID + bytes(arcs)), value)
