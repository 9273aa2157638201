"""Public work: what stands behind every steward's record that a header's model counts proves it.

For tasks whose stewards prove their records (docs/spec/quality.md, section 11). Which records count the model state
says itself: it names them. That each is signed, and that all are named that counted, is not judged.
"""

from __future__ import annotations

from collegium.settlement.programs._evidence import check_evidence, is_known
from collegium.settlement.programs._plan import TRAINING, plan, read_plan
from collegium.settlement.programs._proof_cells import HASH, MODEL_BYTES, STEP
from collegium.settlement.programs._proof_step import read_model
from collegium.settlement.programs._quality_state import (
    Q_ROUND,
    Q_STEWARDS,
    QUALITY_AT,
    RECORD_DIGEST,
    STEWARD_WORDS,
    counted,
    read_part,
)
from collegium.settlement.programs._reading import digest_field, integer_field, is_no_digest
from collegium.settlement.programs._room import mark_room, release
from collegium.settlement.programs._round import H_MODEL, H_ROUND, OPENED, outcome_of, read_before, read_header
from collegium.settlement.programs._steward_record import check_record
from collegium.settlement.programs._task import ENTRIES, STEWARDS
from collegium.settlement.programs._words import accept, memory


def main() -> None:
    """Accept if the evidence of every record that the header behind the statement counts proves the record."""
    header = read_header(0)
    before = read_before(header)
    if before == 0 or outcome_of(header) != OPENED:
        accept()
    read_plan()
    memory[STEP] = plan(TRAINING)
    after = read_part(digest_field(header, H_MODEL))
    read_model(digest_field(before, H_MODEL))
    part, number = counted(memory[MODEL_BYTES] + QUALITY_AT), integer_field(header, H_ROUND)
    began = memory[part + Q_ROUND]
    for place in range(Q_STEWARDS, Q_STEWARDS + STEWARD_WORDS * STEWARDS, STEWARD_WORDS):
        if is_no_digest(after + place + RECORD_DIGEST) == 0:
            mark = mark_room()
            record = check_record(after + place + RECORD_DIGEST, number, ENTRIES - 1, part + place, began)
            check_evidence(record, number, is_known(part + place, began, number))
            memory[HASH] = 0
            release(mark)
    accept()
