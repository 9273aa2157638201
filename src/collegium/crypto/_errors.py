"""Why bytes, a signature, a certificate, a beacon value or a key file was refused.

No message and no value here ever holds a secret: at most its length, its kind, or the path of its file.
"""

from collegium.errors import CollegiumError

__all__ = [
    "BadAccountSignatureError",
    "BadBeaconError",
    "BadBitmapError",
    "BadCertificateError",
    "BadPossessionError",
    "BadProofError",
    "BadShareError",
    "BadSignatureError",
    "ByteLengthError",
    "ChallengeRangeError",
    "FieldRangeError",
    "IdentityPointError",
    "KeyFileError",
    "KeyFileExistsError",
    "KeyFileModeError",
    "MalformedPointError",
    "MalformedSecretError",
    "NotEnoughPartialsError",
    "NothingToAggregateError",
    "QuorumNotReachedError",
    "SealError",
    "SealKeyError",
    "SelfTestError",
    "ThresholdError",
]


class ByteLengthError(CollegiumError):
    """A digest, key, signature, seed or stream request has the wrong number of bytes."""


class FieldRangeError(CollegiumError):
    """An integer to be hashed lies outside [0, 2^64), or a tag or label is empty or not printable ASCII."""


class ChallengeRangeError(CollegiumError):
    """A challenge of a negative count, or of more distinct indices than there are."""


class SelfTestError(CollegiumError):
    """The curve library does not reproduce a published value: nothing it says can be believed."""


class MalformedPointError(CollegiumError):
    """Bytes are not the canonical encoding of a point of the prime-order group."""


class IdentityPointError(CollegiumError):
    """A key, a signature or a sum of keys is the neutral element, for which anything verifies."""


class MalformedSecretError(CollegiumError):
    """A secret scalar or seed has the wrong length, is zero, or is not below the group order."""


class BadSignatureError(CollegiumError):
    """A BLS signature is not the keys' signature of this digest."""


class BadPossessionError(CollegiumError):
    """A proof of possession is not this key's, or was made for another context."""


class NothingToAggregateError(CollegiumError):
    """An aggregate of no signatures, or a check against no keys."""


class BadBitmapError(CollegiumError):
    """A bitmap of seats has the wrong length, or a bit beyond the last seat."""


class QuorumNotReachedError(CollegiumError):
    """A certificate names fewer signers than the quorum."""


class BadCertificateError(CollegiumError):
    """A certificate's aggregate signature is not that of the seats in its bitmap."""


class BadAccountSignatureError(CollegiumError):
    """A secp256k1 signature is not 65 bytes, not low-s, has another recovery byte than 0 or 1, or has no signer."""


class SealKeyError(CollegiumError):
    """A public X25519 key is not 32 bytes, or is a point of small order."""


class SealError(CollegiumError):
    """A sealed box does not open: damaged, or sealed to another key or for another purpose."""


class BadProofError(CollegiumError):
    """A VRF proof is malformed, or is not this key's proof for this input."""


class ThresholdError(CollegiumError):
    """A threshold outside [1, members], dealings of different shapes, or a member that does not exist."""


class BadShareError(CollegiumError):
    """A secret share does not lie on the polynomial that its dealer committed to."""


class NotEnoughPartialsError(CollegiumError):
    """Fewer valid partial signatures than the threshold."""


class BadBeaconError(CollegiumError):
    """A beacon's proof is not the group's signature for this epoch, round and purpose."""


class KeyFileError(CollegiumError):
    """A key file is missing, unreadable, or not exactly what `save_keys` writes."""


class KeyFileModeError(KeyFileError):
    """A key file is not a regular file of the caller, or others may read or write it."""


class KeyFileExistsError(KeyFileError):
    """A key file is in the way: keys are never overwritten."""
