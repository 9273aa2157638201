"""Why an object, a record or a whole lineage was refused."""

from collegium.errors import CollegiumError


class MalformedDigestError(CollegiumError):
    """A digest is not 32 bytes."""


class MissingObjectError(CollegiumError):
    """The store holds no object under this digest."""


class CorruptObjectError(CollegiumError):
    """The stored bytes do not hash to the name they are stored under."""


class TooLargeError(CollegiumError):
    """A stored object is larger than the reader allows."""


class MalformedRecordError(CollegiumError):
    """A record's kind, number, text, parent or attribute is outside its bounds."""


class UnknownParentError(CollegiumError):
    """A record names a parent that no earlier record has as its digest."""


class MissingLineageError(CollegiumError):
    """There is no lineage to read at this path."""


class NotALineageError(CollegiumError):
    """The database exists, but is damaged or has other tables than a lineage."""


class BrokenRecordError(CollegiumError):
    """A record does not follow from the ones before it; `values["seq"]` is the first such record."""


class WrongTipError(CollegiumError):
    """The log ends in another link than expected: records were cut off, or other ones added."""


class UnknownModelError(CollegiumError):
    """No record of kind `model` has this digest."""


class UnknownDatasetError(CollegiumError):
    """No record of kind `dataset` has this digest."""


class DifferentLineageError(CollegiumError):
    """Two lineage files hold different bytes or different records."""
