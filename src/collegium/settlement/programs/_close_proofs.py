"""Public work: every report that a close admits carries a proof that verifies, but for those that the header says fail.

Header -> close -> reports. That a report which the header calls failed does fail is not judged.
"""

from __future__ import annotations

from collegium.settlement.programs._plan import read_plan
from collegium.settlement.programs._reading import (
    digest_at,
    digest_field,
    field_size,
    field_start,
    integer_field,
    same_digest,
)
from collegium.settlement.programs._room import allocate
from collegium.settlement.programs._round import (
    C_REPORTS,
    C_TERMS,
    H_FAILED,
    H_ROUND,
    count_reports,
    read_close,
    read_header,
)
from collegium.settlement.programs._vouched import check_report_of
from collegium.settlement.programs._words import accept, memory


def main() -> None:
    """Accept if the proofs of the reports that the header behind the statement stands by verify."""
    header = read_header(0)
    close = read_close(header)
    number, terms = integer_field(header, H_ROUND), digest_field(close, C_TERMS)
    read_plan()
    digest = allocate(4)
    for index in range(count_reports(close)):
        digest_at(memory[close], field_start(close, C_REPORTS) + 32 * index, digest)
        if is_failed(header, digest) == 0:
            check_report_of(digest, number, terms)
    accept()


def is_failed(header: int, digest: int) -> int:
    """Return 1 if a header calls a report's proof failed, else 0."""
    size, failed = field_size(header, H_FAILED), allocate(4)
    assert size % 32 == 0
    for index in range(size // 32):
        digest_at(memory[header], field_start(header, H_FAILED) + 32 * index, failed)
        if same_digest(failed, digest) == 1:
            return 1
    return 0
