"""What every model version was made from: content-addressed objects and a hash-linked log of their making.

`Store` keeps the bytes of reports and models under their SHA-256. `Lineage` keeps one record for each of them, with
weighted edges to what it was made from, and answers who fed a model version. The reasoning is in docs/spec/lineage.md.
"""

from collegium.lineage._compare import same_database
from collegium.lineage._errors import (
    BrokenRecordError,
    CorruptObjectError,
    DifferentLineageError,
    MalformedDigestError,
    MalformedRecordError,
    MissingLineageError,
    MissingObjectError,
    NotALineageError,
    TooLargeError,
    UnknownDatasetError,
    UnknownModelError,
    UnknownParentError,
    WrongTipError,
)
from collegium.lineage._log import Lineage
from collegium.lineage._record import FIRST_LINK, KINDS, Parent, Record
from collegium.lineage._store import Store
from collegium.lineage._trace import Carried, Contribution, Influence

__all__ = [
    "FIRST_LINK",
    "KINDS",
    "BrokenRecordError",
    "Carried",
    "Contribution",
    "CorruptObjectError",
    "DifferentLineageError",
    "Influence",
    "Lineage",
    "MalformedDigestError",
    "MalformedRecordError",
    "MissingLineageError",
    "MissingObjectError",
    "NotALineageError",
    "Parent",
    "Record",
    "Store",
    "TooLargeError",
    "UnknownDatasetError",
    "UnknownModelError",
    "UnknownParentError",
    "WrongTipError",
    "same_database",
]
