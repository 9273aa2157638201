"""A verifiable random function from unique BLS signatures: the lottery's tickets."""

from hashlib import sha256

from collegium.crypto._bls import BlsPublicKey, BlsSecretKey, check_signature, key_point, sign_under
from collegium.crypto._errors import BadProofError, BadSignatureError, IdentityPointError, MalformedPointError
from collegium.crypto._hash import Digest

__all__ = ["BlsVrf"]

VRF_DOMAIN = b"COLLEGIUM-V1-VRF-BLS12381G1_XMD:SHA-256_SSWU_RO_"


class BlsVrf:
    """For each key and digest one ticket, the BLS signature under a domain of its own, and its SHA-256 as output.

    Unique, as a valid key and a digest have exactly one valid signature. An owner who can choose its key after the
    digest is known can still try many keys: keys must be registered before.
    """

    @staticmethod
    def prove(secret: BlsSecretKey, digest: Digest) -> bytes:
        """Return the 48-byte ticket of `digest`."""
        return sign_under(VRF_DOMAIN, secret.scalar, digest)

    @staticmethod
    def verify(key: BlsPublicKey, digest: Digest, ticket: bytes) -> Digest:
        """Return the output, after checking that `ticket` is the key's ticket of `digest`.

        Raises:
            BadProofError: it is not.
        """
        try:
            check_signature(VRF_DOMAIN, digest, key_point(key.data), ticket)
        except (BadSignatureError, MalformedPointError, IdentityPointError) as error:
            raise BadProofError(f"ticket of {key!r} refused: {error}", key=key.data) from error
        return BlsVrf.output(ticket)

    @staticmethod
    def output(ticket: bytes) -> Digest:
        """Return SHA-256 of a ticket that was verified or made here."""
        return sha256(ticket).digest()
