"""What a withdrawal of consent touches: the licence on the chain, and the versions that carry weight from its data."""

from __future__ import annotations

from dataclasses import dataclass

from collegium.crypto import Digest
from collegium.lineage import Lineage, Record
from collegium.settlement._chain import Chain
from collegium.settlement._errors import ConsentStandsError
from collegium.settlement._licences import DataLicence, MoneySite, read_licence

__all__ = ["Withdrawal", "read_withdrawal"]


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A licence that was revoked, and the model versions that carry weight from its data, in the log's order."""

    number: int
    licence: DataLicence
    versions: tuple[Record, ...]

    @property
    def models(self) -> tuple[Digest, ...]:
        """Their digests."""
        return tuple(record.digest for record in self.versions)


def read_withdrawal(chain: Chain, site: MoneySite, licence: int, lineage: Lineage) -> Withdrawal:
    """Return what the withdrawal of a licence touches in a lineage.

    The licence names its data by `data_root`: in the lineage that is the digest of the dataset (of a registration, at
    level proved).

    Raises:
        ConsentStandsError: the licence is not revoked.
        UnknownDatasetError: its data is not in this lineage.
        ContractRefusedError: there is no such licence.
    """
    found = read_licence(chain, site, licence)
    if not found.revoked_at_s:
        raise ConsentStandsError(
            f"licence {licence} of {found.holder.hex()} stands: nobody revoked it", licence=licence
        )
    return Withdrawal(licence, found, lineage.erasure(found.data_root))
