"""Writes tests/vectors/crypto.json without a line of `collegium.crypto`: hashlib, py-arkworks, eth-keys, RFC pages.

Every case has `name`, `function`, its arguments, and either `result` or `error` (the name of the error's class).
`source` says where published values come from; cases without one were computed here from docs/spec/crypto.md with other
libraries than the package uses. Bytes are hex; integers are numbers below 2^53.
"""

import hashlib
import hmac
import json
from itertools import count as count_from
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from eth_keys import keys as eth_keys
from py_arkworks_bls12381 import G1Point, G2Point, Scalar

OUT = Path(__file__).parents[2] / "tests" / "vectors" / "crypto.json"
Case = dict[str, Any]

GOLDILOCKS = 2**64 - 2**32 + 1
GROUP_ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
BASE_PRIME = 0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB
SECP_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
SIGNATURE_DOMAIN = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_"
POSSESSION_DOMAIN = b"BLS_POP_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_"
VRF_DOMAIN = b"COLLEGIUM-V1-VRF-BLS12381G1_XMD:SHA-256_SSWU_RO_"
BEACON_DOMAIN = b"COLLEGIUM-V1-BEACON-BLS12381G1_XMD:SHA-256_SSWU_RO_"


def draw(label: str) -> bytes:
    """32 bytes that anyone can derive."""
    return hashlib.sha256(label.encode()).digest()


def le8(value: int) -> bytes:
    """8 little-endian bytes."""
    return value.to_bytes(8, "little")


def hash_fields(tag: str, *fields: bytes | int) -> bytes:
    """docs/spec/crypto.md, section 1."""
    pieces = [f"collegium/v1/{tag}".encode(), *(le8(f) if isinstance(f, int) else f for f in fields)]
    return hashlib.sha256(b"".join(le8(len(piece)) + piece for piece in pieces)).digest()


# --- hashing, transcripts, streams ------------------------------------------------------------------------------------


def hash_cases() -> list[Case]:
    """Framing: where the bytes are the same but the fields are not, the digests differ."""
    lists: list[tuple[str, list[bytes | int]]] = [
        ("empty", []),
        ("one", [b""]),
        ("two", [b"ab", b"c"]),
        ("two", [b"a", b"bc"]),
        ("number", [0]),
        ("number", [2**53 - 1, b"\x00" * 32]),
    ]
    cases: list[Case] = [
        {
            "function": "hash_fields",
            "tag": tag,
            "fields": [f if isinstance(f, int) else f.hex() for f in fields],
            "result": hash_fields(tag, *fields).hex(),
        }
        for tag, fields in lists
    ]
    cases.append({"function": "hash_fields", "tag": "number", "fields": [-1], "error": "FieldRangeError"})
    cases.append({"function": "hash_fields", "tag": "", "fields": [], "error": "FieldRangeError"})
    return cases


class PlainTranscript:
    """docs/spec/crypto.md, section 2, one word at a time."""

    def __init__(self, tag: str, *fields: bytes | int) -> None:
        self.state = hash_fields("transcript", tag.encode(), *fields)

    def absorb(self, label: str, data: bytes) -> None:
        self.state = hash_fields("transcript/absorb", self.state, label.encode(), data)

    def draw(self, label: str, kind: str, count: int, bound: int = 0) -> Any:
        self.state = hash_fields("transcript/challenge", self.state, label.encode(), kind.encode(), count, bound)
        seed = self.state
        octets = (octet for number in count_from() for octet in hash_fields("transcript/block", seed, number))
        if kind == "bytes":
            return bytes(next(octets) for _ in range(count)).hex()
        values: list[int] = []
        wanted = 2 * count if kind == "ext" else count
        while len(values) < wanted:
            word = int.from_bytes(bytes(next(octets) for _ in range(8)), "little")
            if kind == "indices":
                if word < 2**64 // bound * bound and word % bound not in values:
                    values.append(word % bound)
            elif word < GOLDILOCKS:
                values.append(word)
        if kind == "indices":
            return sorted(values)
        texts = [str(value) for value in values]
        return [texts[0::2], texts[1::2]] if kind == "ext" else texts


def transcript_cases() -> list[Case]:
    """One long conversation, and the same with one label changed."""
    cases: list[Case] = []
    for label in ("roots", "root"):
        transcript = PlainTranscript("vectors", b"statement", 7)
        steps: list[Case] = []
        transcript.absorb(label, draw("roots"))
        steps.append({"absorb": label, "data": draw("roots").hex()})
        for name, kind, count, bound in (
            ("salt", "bytes", 40, 0),
            ("rows", "field", 5, 0),
            ("point", "ext", 3, 0),
            ("audit", "indices", 12, 100),
            ("all", "indices", 8, 8),
            ("none", "field", 0, 0),
        ):
            drawn = transcript.draw(name, kind, count, bound)
            steps.append({"challenge": name, "kind": kind, "count": count, "bound": bound, "result": drawn})
            transcript.absorb("reply", name.encode())
            steps.append({"absorb": "reply", "data": name.encode().hex()})
        cases.append(
            {
                "function": "transcript",
                "tag": "vectors",
                "fields": [b"statement".hex(), 7],
                "steps": steps,
                "result": transcript.state.hex(),
            }
        )
    return cases


def hkdf_expand(key: bytes, info: bytes) -> bytes:
    """HKDF-Expand of RFC 5869 for 32 bytes: its first block."""
    return hmac.digest(key, info + b"\x01", "sha256")


def stream_bytes(seed: bytes, count: int) -> bytes:
    """docs/spec/crypto.md, section 3: the AES block cipher on a counter, block by block."""
    key = hkdf_expand(seed, b"collegium/v1/stream/key")
    encryptor = Cipher(algorithms.AES256(key), modes.ECB()).encryptor()  # noqa: S305  the counter is written out below
    blocks = -(-count // 16)
    return b"".join(encryptor.update(number.to_bytes(16, "big")) for number in range(blocks))[:count]


def stream_cases() -> list[Case]:
    """The first bytes of a stream and of one split from it."""
    seed = draw("stream")
    child = hkdf_expand(seed, b"collegium/v1/stream/split/masks")
    return [
        {"function": "stream", "seed": seed.hex(), "count": 100, "result": stream_bytes(seed, 100).hex()},
        {
            "function": "stream",
            "seed": seed.hex(),
            "split": "masks",
            "count": 100,
            "result": stream_bytes(child, 100).hex(),
        },
        {"function": "stream", "seed": seed[:-1].hex(), "count": 1, "error": "ByteLengthError"},
    ]


# --- BLS --------------------------------------------------------------------------------------------------------------

RFC_9380 = "RFC 9380, appendix J.9.1"
RFC_9380_DOMAIN = b"QUUX-V01-CS02-with-BLS12381G1_XMD:SHA-256_SSWU_RO_"
RFC_9380_POINTS = {
    b"": (
        "052926add2207b76ca4fa57a8734416c8dc95e24501772c814278700eed6d1e4e8cf62d9c09db0fac349612b759e79a1",
        "08ba738453bfed09cb546dbb0783dbb3a5f1f566ed67bb6be0e8c67e2e81a4cc68ee29813bb7994998f3eae0c9c6a265",
    ),
    b"abc": (
        "03567bc5ef9c690c2ab2ecdf6a96ef1c139cc0b2f284dca0a9a7943388a49a3aee664ba5379a7655d3c68900be2f6903",
        "0b9c15f3fe6e5cf4211f346271d7b01c8f3b28be689c8429c85b67af215533311f0b8dfaaa154fa6b88176c229f2885d",
    ),
    b"abcdef0123456789": (
        "11e0b079dea29a68f0383ee94fed1b940995272407e3bb916bbf268c263ddd57a6a27200a784cbc248e84f357ce82d98",
        "03a87ae2caf14e8ee52e51fa2ed8eefe80f02457004ba4d486d6aa1f517c0889501dc7413753f9599b099ebcbbd2d709",
    ),
}
EIP_2333 = "EIP-2333, test cases 0 to 3: derive_master_SK, which is KeyGen"
EIP_2333_SEEDS = {
    "c55257c360c07c72029aebc1b53c05ed0362ada38ead3e3e9efa3708e53495531f09a6987599d18264c1e1c92f2cf141630c7a3c4ab7c81b2f"
    "001698e7463b04": 6083874454709270928345386274498605044986640685124978867557563392430687146096,
    "3141592653589793238462643383279502884197169399375105820974944592": (
        29757020647961307431480504535336562678282505419141012933316116377660817309383
    ),
    "0099FF991111002299DD7744EE3355BBDD8844115566CC55663355668888CC00": (
        27580842291869792442942448775674722299803720648445448686099262467207037398656
    ),
    "d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3": (
        19022158461524446591288038168518313374041767046816487870552872741050760015818
    ),
}
DRAND = "drand 'quicknet', chain 52db9ba70e0cc0f6eaf7803dd07447a1f5477735fd3f661792ba94600c84e971, round 1000"
DRAND_KEY = (
    "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d106451"
    "0d1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a"
)
DRAND_SIGNATURE = "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39"
DRAND_VALUE = "fe290beca10872ef2fb164d2aa4442de4566183ec51c56ff3cd603d930e54fdd"


def scalar(label: str) -> int:
    """A secret that anyone can derive."""
    return int.from_bytes(draw(label), "big") % GROUP_ORDER


def key_of(secret: int) -> bytes:
    return bytes((G2Point() * Scalar(secret)).to_compressed_bytes())


def sign(domain: bytes, secret: int, digest: bytes) -> bytes:
    return bytes((G1Point.hash_to_curve(digest, domain) * Scalar(secret)).to_compressed_bytes())


def add_g1(points: list[bytes]) -> bytes:
    total = G1Point.identity()
    for point in points:
        total = total + G1Point.from_compressed_bytes(point)
    return bytes(total.to_compressed_bytes())


def published_bls_cases() -> list[Case]:
    """Values that others printed."""
    cases: list[Case] = [
        {
            "function": "hash_to_g1",
            "source": RFC_9380,
            "message": message.hex(),
            "domain": RFC_9380_DOMAIN.hex(),
            "result": x + y,
        }
        for message, (x, y) in RFC_9380_POINTS.items()
    ]
    cases += [
        {"function": "derive_scalar", "source": EIP_2333, "material": seed.lower(), "result": f"{value:064x}"}
        for seed, value in EIP_2333_SEEDS.items()
    ]
    message = hashlib.sha256((1000).to_bytes(8, "big")).digest()
    drand = {
        "function": "check_signature",
        "source": DRAND,
        "domain": b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_".hex(),
        "key": DRAND_KEY,
        "signature": DRAND_SIGNATURE,
    }
    other = hashlib.sha256((1001).to_bytes(8, "big")).digest()
    assert hashlib.sha256(bytes.fromhex(DRAND_SIGNATURE)).hexdigest() == DRAND_VALUE
    cases.append({**drand, "digest": message.hex(), "result": True})
    cases.append({**drand, "digest": other.hex(), "error": "BadSignatureError"})
    return cases


def signature_cases() -> list[Case]:
    """One signature, one proof of possession, and what each must not be taken for."""
    secret, digest, context = scalar("signer"), draw("digest"), b"registry"
    key, signature = key_of(secret), sign(SIGNATURE_DOMAIN, secret, digest)
    possession = sign(POSSESSION_DOMAIN, secret, hash_fields("bls-possession", key, context))
    base = {"function": "bls_verify", "key": key.hex(), "digest": digest.hex()}
    proof = {"function": "verify_possession", "key": key.hex(), "context": context.hex()}
    confused = sign(SIGNATURE_DOMAIN, secret, hash_fields("bls-possession", key, context))
    wrong_domain = sign(POSSESSION_DOMAIN, secret, digest)
    cases: list[Case] = [
        {**base, "secret": f"{secret:064x}", "signature": signature.hex(), "result": True},
        {**base, "digest": draw("other").hex(), "signature": signature.hex(), "error": "BadSignatureError"},
        {**base, "signature": wrong_domain.hex(), "error": "BadSignatureError"},
        {**base, "key": key_of(secret + 1).hex(), "signature": signature.hex(), "error": "BadSignatureError"},
        {**proof, "proof": possession.hex(), "result": True},
        {**proof, "proof": confused.hex(), "error": "BadPossessionError"},
        {**proof, "context": b"another".hex(), "proof": possession.hex(), "error": "BadPossessionError"},
    ]
    g1 = bytes(G1Point.from_compressed_bytes(signature).to_xy_bytes_be())
    g2 = bytes(G2Point.from_compressed_bytes(key).to_xy_bytes_be())
    cases.append({"function": "g1_uncompressed", "signature": signature.hex(), "result": g1.hex()})
    cases.append({"function": "g2_uncompressed", "key": key.hex(), "result": g2.hex()})
    return cases + malformed_cases(key, digest, signature)


def malformed_cases(key: bytes, digest: bytes, signature: bytes) -> list[Case]:
    """Encodings that are no point of the group, or name the neutral one."""
    identity_1, identity_2 = bytes([0xC0, *bytes(47)]), bytes([0xC0, *bytes(95)])
    beyond = bytearray(BASE_PRIME.to_bytes(48, "big"))
    beyond[0] |= 0x80
    signatures = {
        "short": (signature[:-1], "MalformedPointError"),
        "long": (signature + b"\0", "MalformedPointError"),
        "empty": (b"", "MalformedPointError"),
        "neutral": (identity_1, "IdentityPointError"),
        "neutral with a coordinate": (identity_1[:-1] + b"\1", "IdentityPointError"),
        "no compression flag": (bytes([signature[0] & 0x7F]) + signature[1:], "MalformedPointError"),
        "coordinate not below the prime": (bytes(beyond), "MalformedPointError"),
        "outside the group": (bytes([0x80, *bytes(46), 4]), "MalformedPointError"),
        "the negative": (bytes([signature[0] ^ 0x20]) + signature[1:], "BadSignatureError"),
    }
    keys = {
        "short": (key[:-1], "MalformedPointError"),
        "neutral": (identity_2, "IdentityPointError"),
        "neutral with a sign": (bytes([0xE0]) + identity_2[1:], "IdentityPointError"),
        "coordinate not below the prime": (bytes(beyond) + key[48:], "MalformedPointError"),
        "outside the group": (outside_g2(), "MalformedPointError"),
        "no flags": (bytes([key[0] & 0x1F]) + key[1:], "MalformedPointError"),
    }
    base = {"function": "bls_verify", "key": key.hex(), "digest": digest.hex(), "signature": signature.hex()}
    return [
        {**base, "what": f"signature: {what}", "signature": data.hex(), "error": error}
        for what, (data, error) in signatures.items()
    ] + [{**base, "what": f"key: {what}", "key": data.hex(), "error": error} for what, (data, error) in keys.items()]


def outside_g2() -> bytes:
    """The first small x of a curve point over the quadratic extension whose order is composite."""
    for x in count_from(1):
        data = bytes([0x80, *bytes(47)]) + x.to_bytes(48, "big")
        try:
            point = G2Point.from_compressed_bytes_unchecked(data)
        except ValueError:
            continue
        if not point.is_in_subgroup():
            return data
    raise AssertionError


def aggregate_cases() -> list[Case]:
    """Aggregates over one digest and over several; certificates at, above and below the quorum."""
    secrets = [scalar(f"seat {seat}") for seat in range(10)]
    keys = [key_of(secret).hex() for secret in secrets]
    digest, other = draw("block"), draw("other block")
    signatures = [sign(SIGNATURE_DOMAIN, secret, digest) for secret in secrets]
    some, rest = add_g1(signatures[:6]), [sign(SIGNATURE_DOMAIN, secret, other) for secret in secrets[6:]]
    both = add_g1([some, *rest]).hex()
    opposite = [key_of(5).hex(), key_of(GROUP_ORDER - 5).hex()]
    groups = [{"keys": keys[:6], "digest": digest.hex()}, {"keys": keys[6:], "digest": other.hex()}]
    crossed = [{"keys": keys[:6], "digest": other.hex()}, {"keys": keys[6:], "digest": digest.hex()}]
    one = {"function": "verify_aggregate", "digest": digest.hex(), "signature": some.hex()}
    cases: list[Case] = [
        {**one, "keys": keys[:6], "result": True},
        {**one, "keys": keys[:5], "error": "BadSignatureError"},
        {**one, "keys": opposite, "error": "IdentityPointError"},
        {**one, "keys": [], "error": "NothingToAggregateError"},
        {"function": "verify_aggregate_many", "groups": groups, "signature": both, "result": True},
        {"function": "verify_aggregate_many", "groups": crossed, "signature": both, "error": "BadSignatureError"},
        {"function": "verify_aggregate_many", "groups": [], "signature": both, "error": "NothingToAggregateError"},
    ]

    def certificate(seats: list[int], bitmap: bytes | None = None) -> str:
        own = sum(1 << seat for seat in seats).to_bytes(2, "little")
        return ((own if bitmap is None else bitmap) + add_g1([signatures[seat] for seat in seats])).hex()

    seven = [0, 1, 3, 4, 6, 8, 9]
    shared = {"function": "verify_certificate", "keys": keys, "quorum": 7, "digest": digest.hex()}
    cases += [
        {**shared, "certificate": certificate(seven), "result": seven},
        {**shared, "certificate": certificate(list(range(10))), "result": list(range(10))},
        {**shared, "certificate": certificate(seven[:6]), "error": "QuorumNotReachedError"},
        {**shared, "certificate": certificate(seven, b"\xdb\x02"), "error": "BadCertificateError"},
        {**shared, "certificate": certificate(seven, b"\x5b\x07"), "error": "BadBitmapError"},
        {**shared, "certificate": certificate(seven) + "00", "error": "ByteLengthError"},
        {**shared, "certificate": certificate(seven), "digest": other.hex(), "error": "BadCertificateError"},
    ]
    return cases


# --- verifiable randomness --------------------------------------------------------------------------------------------

RFC_9381 = "RFC 9381, appendix B.3, examples 16 to 18 (ECVRF-EDWARDS25519-SHA512-TAI)"
RFC_9381_EXAMPLES = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "8657106690b5526245a92b003bb079ccd1a92130477671f6fc01ad16f26f723f26f8a57ccaed74ee1b190bed1f479d97"
        "27d2d0f9b005a6e456a35d4fb0daab1268a1b0db10836d9826a528ca76567805",
        "90cf1df3b703cce59e2a35b925d411164068269d7b2d29f3301c03dd757876ff"
        "66b71dda49d2de59d03450451af026798e8f81cd2e333de5cdf4f3e140fdd8ae",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "f3141cd382dc42909d19ec5110469e4feae18300e94f304590abdced48aed5933bf0864a62558b3ed7f2fea45c92a465"
        "301b3bbf5e3e54ddf2d935be3b67926da3ef39226bbc355bdc9850112c8f4b02",
        "eb4440665d3891d668e7e0fcaf587f1b4bd7fbfe99d0eb2211ccec90496310eb"
        "5e33821bc613efb94db5e5b54c70a848a0bef4553a41befc57663b56373a5031",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "9bc0f79119cc5604bf02d23b4caede71393cedfbb191434dd016d30177ccbf8096bb474e53895c362d8628ee9f9ea3c0"
        "e52c7a5c691b6c18c9979866568add7a2d41b00b05081ed0f58ee5e31b3a970e",
        "645427e5d00c62a23fb703732fa5d892940935942101e456ecca7bb217c61c45"
        "2118fec1219202a0edcf038bb6373241578be7217ba85a2687f7a0310b2df19f",
    ),
]


def ecvrf_cases() -> list[Case]:
    """The RFC's examples, and each field of one proof spoilt."""
    cases: list[Case] = [
        {
            "function": "ecvrf",
            "source": RFC_9381,
            "seed": seed,
            "key": key,
            "alpha": alpha,
            "proof": proof,
            "result": beta,
        }
        for seed, key, alpha, proof, beta in RFC_9381_EXAMPLES
    ]
    _, key, alpha, proof, _ = RFC_9381_EXAMPLES[2]
    spoilt = bytes.fromhex(proof)
    order = 2**252 + 27742317777372353535851937790883648493
    too_large = (int.from_bytes(spoilt[48:], "little") + order).to_bytes(32, "little")
    for what, data in {
        "Gamma": bytes([spoilt[0] ^ 1]) + spoilt[1:],
        "c": spoilt[:32] + bytes([spoilt[32] ^ 1]) + spoilt[33:],
        "s": spoilt[:48] + bytes([spoilt[48] ^ 1]) + spoilt[49:],
        "s plus the order": spoilt[:48] + too_large,
        "short": spoilt[:-1],
        "Gamma neutral": bytes([1, *bytes(31)]) + spoilt[32:],
        "c zero": spoilt[:32] + bytes(16) + spoilt[48:],
    }.items():
        cases.append(
            {
                "function": "ecvrf",
                "what": what,
                "key": key,
                "alpha": alpha,
                "proof": data.hex(),
                "error": "BadProofError",
            }
        )
    small = {"function": "ecvrf", "what": "key of small order", "key": "01" + "00" * 31, "alpha": alpha}
    cases.append({**small, "proof": proof, "error": "BadProofError"})
    return cases


def bls_vrf_cases() -> list[Case]:
    """A ticket, and a vote on the same digest that must not pass for one."""
    secret, digest = scalar("ticket"), draw("beacon")
    ticket = sign(VRF_DOMAIN, secret, digest)
    vote = sign(SIGNATURE_DOMAIN, secret, digest)
    base = {"function": "bls_vrf", "key": key_of(secret).hex(), "digest": digest.hex()}
    output = hashlib.sha256(ticket).hexdigest()
    return [
        {**base, "secret": f"{secret:064x}", "ticket": ticket.hex(), "result": output},
        {**base, "ticket": vote.hex(), "error": "BadProofError"},
    ]


def beacon_cases() -> list[Case]:
    """Two dealers, five members, threshold three: everything from the coefficients to the value."""
    members, threshold, task = 5, 3, draw("task")
    rows = [[scalar(f"dealer {dealer} coefficient {k}") for k in range(threshold)] for dealer in range(2)]
    commitments = [[key_of(value).hex() for value in row] for row in rows]
    total = [sum(column) % GROUP_ORDER for column in zip(*rows, strict=True)]
    shares = [sum(c * (i + 1) ** k for k, c in enumerate(total)) % GROUP_ORDER for i in range(members)]
    message = hash_fields("beacon", task, 3, 14, b"round")
    partials = [sign(BEACON_DOMAIN, share, message) for share in shares]
    proof = sign(BEACON_DOMAIN, total[0], message)
    base = {
        "function": "beacon",
        "task": task.hex(),
        "members": members,
        "commitments": commitments,
        "epoch": 3,
        "round": 14,
        "purpose": "round",
    }
    made = {
        "shares": [f"{share:064x}" for share in shares],
        "public_shares": [key_of(share).hex() for share in shares],
        "key": key_of(total[0]).hex(),
        "partials": [partial.hex() for partial in partials],
    }
    value = hashlib.sha256(proof).hexdigest()
    return [
        {**base, **made, "proof": proof.hex(), "result": value},
        {**base, "round": 15, "proof": proof.hex(), "error": "BadBeaconError"},
        {**base, "purpose": "cohorts", "proof": proof.hex(), "error": "BadBeaconError"},
        {**base, "proof": partials[0].hex(), "error": "BadBeaconError"},
    ]


# --- accounts and boxes -----------------------------------------------------------------------------------------------


def account_cases() -> list[Case]:
    """An address known to every Ethereum developer, a signature by eth-keys, and its other encodings."""
    known = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
    digest = draw("transaction")
    key = eth_keys.PrivateKey(bytes.fromhex(known))
    signature = key.sign_msg_hash(digest).to_bytes()
    address = "f39fd6e51aad88f6f4ce6ab8827279cfffb92266"
    assert key.public_key.to_canonical_address().hex() == address
    r, s, v = signature[:32], int.from_bytes(signature[32:64], "big"), signature[64]
    high = r + (SECP_ORDER - s).to_bytes(32, "big") + bytes([1 - v])
    base = {"function": "recover_address", "digest": digest.hex()}
    bad = {
        "high s": high,
        "recovery byte 27": signature[:64] + bytes([27 + v]),
        "recovery byte 2": signature[:64] + b"\2",
        "short": signature[:64],
        "r zero": bytes(32) + signature[32:],
        "s zero": r + bytes(32) + signature[64:],
        "r the order": SECP_ORDER.to_bytes(32, "big") + signature[32:],
        "r no coordinate": (5).to_bytes(32, "big") + signature[32:],
    }
    good = {"source": "the first test account of Hardhat and Anvil", "secret": known}
    return [
        {**base, **good, "public_key": key.public_key.to_compressed_bytes().hex(), "signature": signature.hex()}
        | {"result": address}
    ] + [
        {**base, "what": what, "signature": data.hex(), "error": "BadAccountSignatureError"}
        for what, data in bad.items()
    ]


RFC_9180_INFO = bytes.fromhex("4f6465206f6e2061204772656369616e2055726e")
RFC_9180_EPHEMERAL = bytes.fromhex("52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736")
RFC_9180_RECIPIENT = bytes.fromhex("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8")
RFC_9180_PLAINTEXT = bytes.fromhex("4265617574792069732074727574682c20747275746820626561757479")
RFC_9180_BOX = (
    "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431"
    "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a"
)


def hpke_seal(recipient: bytes, ephemeral: bytes, info: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """RFC 9180, SealBase for DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-128-GCM, written out."""

    def extract(suite: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
        return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + material, "sha256")

    def expand(suite: bytes, key: bytes, label: bytes, data: bytes, length: int) -> bytes:
        info = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + data
        return hmac.digest(key, info + b"\x01", "sha256")[:length]

    secret = X25519PrivateKey.from_private_bytes(ephemeral)
    encapsulated = secret.public_key().public_bytes_raw()
    shared = secret.exchange(X25519PublicKey.from_public_bytes(recipient))
    kem, suite = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x01"
    shared = expand(kem, extract(kem, b"", b"eae_prk", shared), b"shared_secret", encapsulated + recipient, 32)
    context = b"\x00" + extract(suite, b"", b"psk_id_hash", b"") + extract(suite, b"", b"info_hash", info)
    key_secret = extract(suite, shared, b"secret", b"")
    key, nonce = expand(suite, key_secret, b"key", context, 16), expand(suite, key_secret, b"base_nonce", context, 12)
    return encapsulated + AESGCM(key).encrypt(nonce, plaintext, aad)


def seal_cases() -> list[Case]:
    """A box made by a written-out HPKE that first reproduces the RFC's own."""
    recipient = X25519PrivateKey.from_private_bytes(RFC_9180_RECIPIENT).public_key().public_bytes_raw()
    arguments = (recipient, RFC_9180_EPHEMERAL, RFC_9180_INFO, RFC_9180_PLAINTEXT)
    assert hpke_seal(*arguments, b"Count-0").hex() == RFC_9180_BOX
    box = hpke_seal(*arguments, b"")
    base = {
        "function": "open_sealed",
        "secret": RFC_9180_RECIPIENT.hex(),
        "public_key": recipient.hex(),
        "info": RFC_9180_INFO.hex(),
    }
    source = "RFC 9180, A.1.1, keys, info and plaintext; associated data empty"
    return [
        {**base, "source": source, "box": box.hex(), "result": RFC_9180_PLAINTEXT.hex()},
        {**base, "what": "with associated data", "box": RFC_9180_BOX, "error": "SealError"},
        {**base, "what": "another info", "info": "00", "box": box.hex(), "error": "SealError"},
        {**base, "what": "one bit", "box": (box[:-1] + bytes([box[-1] ^ 1])).hex(), "error": "SealError"},
        {**base, "what": "short", "box": box[:40].hex(), "error": "SealError"},
        {**base, "what": "ephemeral key zero", "box": (bytes(32) + box[32:]).hex(), "error": "SealError"},
    ]


def main() -> None:
    """Write the file."""
    makers = (hash_cases, transcript_cases, stream_cases, published_bls_cases, signature_cases, aggregate_cases)
    makers += (ecvrf_cases, bls_vrf_cases, beacon_cases, account_cases, seal_cases)
    numbers: dict[str, int] = {}
    cases = []
    for case in (case for maker in makers for case in maker()):
        number = numbers.setdefault(case["function"], 0)
        numbers[case["function"]] += 1
        cases.append({"name": f"{case['function']} {number}", **case})
    OUT.write_text(json.dumps({"format": "collegium/vectors/crypto/1", "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
