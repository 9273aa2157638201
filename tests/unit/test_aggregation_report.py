"""A report and its sealed columns: what is bound to what, and that every smallest change is refused by name."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from _round_stage import RANDOM, SEATS, committee, re_sign, update_of, upload_of

from collegium import algebra
from collegium.aggregation import (
    AUDIT_COLUMNS,
    AUDIT_DOMAIN,
    COMMITTEE_DOMAIN,
    KEY_CODE,
    AuditFailedError,
    Budget,
    ColumnsRejectedError,
    EntryOutOfRangeError,
    KeyClaim,
    KeyClaimRefusedError,
    Layout,
    MalformedReportError,
    Receipt,
    ReceiptRejectedError,
    Report,
    ReportRejectedError,
    RoundTerms,
    SealedColumnsError,
    SeatColumns,
    SeatTerms,
    SumInvalidError,
    Upload,
    add_columns,
    begin_upload,
    check_claim,
    check_columns,
    check_receipt,
    check_report,
    decode_ciphertext,
    encode_ciphertext,
    finish_upload,
    issue_receipt,
    make_upload,
    open_columns,
    open_sum,
    sign_key_sum,
    weighted_total,
)
from collegium.aggregation import _report as report_module
from collegium.aggregation._masking import mask_under
from collegium.aggregation._sum import receipt_digest
from collegium.commitment import SALT_BYTES, CommittedMatrix, MultiproofError
from collegium.crypto import BadAccountSignatureError, SealKey
from collegium.errors import CollegiumError

FULL = os.environ.get("COLLEGIUM_FULL") == "1"
FLIPS = 4000 if FULL else 120

REPORT = upload_of(0).report
SEAT = 4


def own_columns(upload: Upload, seat: int = SEAT, terms: RoundTerms | None = None) -> SeatColumns:
    return open_columns(terms or committee().terms, upload.report, seat, upload.boxes[seat], secret_of(seat))


def secret_of(seat: int) -> SealKey:
    return committee().first_seals[seat]


def other_terms() -> dict[str, RoundTerms]:
    """By field: the terms of a round that differs in it alone."""
    terms = committee().terms
    seats = (terms.seats[1], terms.seats[0], *terms.seats[2:])
    return {
        "task": replace(terms, task=bytes(32)),
        "round": replace(terms, round=1),
        "previous": replace(terms, previous=bytes(32)),
        "model": replace(terms, model=bytes(32)),
        "beacon": replace(terms, beacon=bytes(32)),
        "seats": replace(terms, seats=seats),
        "layout": replace(terms, layout=Layout(terms.layout.entries, Budget(999, trainers_max=8))),
    }


# ------------------------------------------------------------------------------------------------ public checks


def test_an_honest_report_passes_everywhere_and_round_trips() -> None:
    terms, upload = committee().terms, upload_of(0)
    check_report(terms, upload.report)
    data = upload.report.to_bytes()
    again = Report.from_bytes(data, SEATS)
    assert (again.id, again.to_bytes()) == (upload.report.id, data)
    check_report(terms, again)
    for seat in range(SEATS):
        check_columns(terms, upload.report, seat, own_columns(upload, seat))


def test_the_seats_columns_are_one_codeword_of_the_key() -> None:
    symbols = np.concatenate([own_columns(upload_of(0), seat).symbols for seat in range(SEATS)])
    whole = algebra.coset_intt(np.ascontiguousarray(symbols.T), COMMITTEE_DOMAIN.shift)
    assert not whole[:, KEY_CODE.degree_bound :].any()


def test_the_same_update_twice_shares_no_public_byte_but_the_head() -> None:
    one, two = upload_of(0), upload_of(0, draw=1)
    assert one.ciphertext[:64] != two.ciphertext[:64]
    assert one.report.committee_root != two.report.committee_root
    assert (one.report.combination != two.report.combination).mean() > 0.99


def test_every_sampled_flip_of_a_reports_bit_is_refused() -> None:
    """By the decoder, or by the checks; never with the same id under another encoding."""
    data = REPORT.to_bytes()
    rng = random.Random(17)
    named = (MalformedReportError, ReportRejectedError, AuditFailedError, MultiproofError, BadAccountSignatureError)
    head = range(252)
    for at in [*rng.sample(head, 20), *range(len(data) - 65, len(data), 8), *rng.sample(range(len(data)), FLIPS)]:
        flipped = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        try:
            report = Report.from_bytes(flipped, SEATS)
        except MalformedReportError:
            continue
        assert report.to_bytes() == flipped
        assert (report.id == REPORT.id) == (at >= len(data) - 65)
        with pytest.raises(named):
            check_report(committee().terms, report)


def test_truncated_and_extended_reports_are_refused() -> None:
    data = REPORT.to_bytes()
    for wrong in (b"", data[:100], data[: len(data) // 2], data[:-65], data[:-1], data + b"\0", data + data):
        with pytest.raises(MalformedReportError):
            Report.from_bytes(wrong, SEATS)
    with pytest.raises(MalformedReportError):
        Report.from_bytes(data, 2 * SEATS)


def test_an_element_that_is_not_below_p_is_refused() -> None:
    data = REPORT.to_bytes()
    at = 252 + 32 * SEATS
    with pytest.raises(MalformedReportError, match="report: "):
        Report.from_bytes(data[:at] + algebra.P.to_bytes(8, "little") + data[at + 8 :], SEATS)


@pytest.mark.parametrize("field", other_terms())
def test_a_report_of_other_terms_is_refused(field: str) -> None:
    with pytest.raises(ReportRejectedError, match="report is for round 0"):
        check_report(other_terms()[field], REPORT)


def test_a_report_names_one_box_a_seat() -> None:
    with pytest.raises(ReportRejectedError, match="15 boxes for 16 seats"):
        check_report(committee().terms, replace(REPORT, boxes=REPORT.boxes[:-1]))


def test_a_report_is_signed_by_its_trainer_over_everything() -> None:
    other_boxes = (bytes(32), *REPORT.boxes[1:])
    with pytest.raises(ReportRejectedError, match="is signed by"):
        check_report(committee().terms, replace(REPORT, boxes=other_boxes))
    check_report(committee().terms, re_sign(upload_of(0), 0, boxes=other_boxes).report)
    with pytest.raises(ReportRejectedError, match="is signed by"):
        check_report(committee().terms, re_sign(upload_of(0), 1).report)
    with pytest.raises(ReportRejectedError, match="is signed by"):  # who has found that out need not recover it again
        check_report(committee().terms, REPORT, signer=upload_of(1).report.trainer)
    check_report(committee().terms, REPORT, signer=REPORT.trainer)


# ------------------------------------------------------------------------------------------------ the audit


def test_an_audited_column_must_fit_the_combination_and_the_root() -> None:
    audit = REPORT.audit
    assert audit.symbols.shape == (AUDIT_COLUMNS, 6)
    for row in range(6):
        symbols = audit.symbols.copy()
        symbols[-1, row] ^= np.uint64(1)
        changed = re_sign(upload_of(0), 0, audit=replace(audit, symbols=symbols)).report
        with pytest.raises(AuditFailedError, match="1 of 172 audited columns"):
            check_report(committee().terms, changed)
    for name in ("salts", "proof"):
        value = getattr(audit, name)
        changed = re_sign(upload_of(0), 0, audit=replace(audit, **{name: bytes([value[0] ^ 1]) + value[1:]})).report
        with pytest.raises(MultiproofError):
            check_report(committee().terms, changed)


def test_a_combination_that_is_not_the_rows_fails_the_audit() -> None:
    combination = REPORT.combination.copy()
    combination[0, -1] ^= np.uint64(1)
    changed = re_sign(upload_of(0), 0, combination=combination).report
    with pytest.raises(AuditFailedError):
        check_report(committee().terms, changed)


def cheating_upload(spoil: Any) -> Upload:
    """Return a report made in the right order by a trainer that commits to `spoil`ed words."""

    def commit(key: np.ndarray, random: Any) -> tuple[np.ndarray, CommittedMatrix, bytes]:
        coefficients, _, seeds = honest(key, random)
        words = [KEY_CODE.encode(coefficients, domain) for domain in (COMMITTEE_DOMAIN, AUDIT_DOMAIN)]
        spoil(words)
        salts = [report_module._salts(seeds), bytes(SALT_BYTES * words[1].shape[1])]
        return coefficients, CommittedMatrix(words, salts), seeds

    honest = report_module._commit_key
    with pytest.MonkeyPatch.context() as cheat:
        cheat.setattr(report_module, "_commit_key", commit)
        return make_upload(committee().terms, committee().trainers[0], update_of(0), RANDOM.split("cheat"))


def test_committed_words_far_from_the_code_fail_the_audit_and_one_wrong_seat_sees_it_itself() -> None:
    def half(words: list[np.ndarray]) -> None:
        words[1][0, ::2] ^= np.uint64(1)

    with pytest.raises(AuditFailedError):
        check_report(committee().terms, cheating_upload(half).report)

    def one_column(words: list[np.ndarray]) -> None:
        words[0][3, SEAT * 512 + 511] ^= np.uint64(1)

    upload = cheating_upload(one_column)
    check_report(committee().terms, upload.report)  # the audit looks at other points
    check_columns(committee().terms, upload.report, SEAT - 1, own_columns(upload, SEAT - 1))
    with pytest.raises(ColumnsRejectedError, match="root comes out"):
        check_columns(committee().terms, upload.report, SEAT, own_columns(upload))


# ------------------------------------------------------------------------------------------------ with a proof

PROOF = b"whatever a proof is"
POINT = (3, 5)


def proved_upload(proof: bytes = PROOF, point: tuple[int, int] = POINT) -> tuple[Upload, KeyClaim]:
    """Return an upload that carries these bytes as its proof, and a true claim about its key matrix."""
    terms, trainer = committee().terms, committee().trainers[0]
    draft = begin_upload(terms, trainer.address, update_of(0), RANDOM.split("proved"))
    values = algebra.evaluate_ext(draft.coefficients, point)
    assert not isinstance(values, tuple)
    claim = KeyClaim(point, values)
    return finish_upload(terms, draft, trainer, proof, claim, registration=bytes([7]) * 32), claim


def test_a_draft_is_what_its_upload_says() -> None:
    terms, trainer = committee().terms, committee().trainers[0]
    draft = begin_upload(terms, trainer.address, update_of(0), RANDOM.split("proved"))
    assert encode_ciphertext(draft.ciphertext) == draft.ciphertext_bytes
    masked = mask_under(terms.layout, terms.matrix_seed, draft.key, draft.update, draft.noise)
    np.testing.assert_array_equal(masked, draft.ciphertext)
    np.testing.assert_array_equal(KEY_CODE.messages(draft.coefficients[:4]).reshape(-1), draft.key)
    plain = finish_upload(terms, draft, trainer)
    whole = make_upload(terms, trainer, update_of(0), RANDOM.split("proved"))
    assert plain.ciphertext == whole.ciphertext == draft.ciphertext_bytes
    np.testing.assert_array_equal(plain.report.combination, whole.report.combination)
    assert (plain.report.proof, plain.proof) == (bytes(32), b"")


def test_a_true_claim_about_the_key_matrix_passes() -> None:
    upload, claim = proved_upload()
    report = upload.report
    assert (report.proof, report.registration) == (sha256(PROOF).digest(), bytes([7]) * 32)
    check_report(committee().terms, report, claim)
    check_claim(report, claim)
    for seat in range(SEATS):
        check_columns(committee().terms, report, seat, own_columns(upload, seat))
    again = Report.from_bytes(report.to_bytes(), SEATS)
    assert (again.id, again.proof, again.registration) == (report.id, report.proof, report.registration)


@pytest.mark.parametrize("row", range(6))
def test_a_claim_with_another_value_of_any_row_is_refused(row: int) -> None:
    upload, claim = proved_upload()
    for part in range(2):
        values = claim.values.copy()
        values[part, row] ^= np.uint64(1)
        with pytest.raises(KeyClaimRefusedError, match="the proof's values of the key rows give"):
            check_report(committee().terms, upload.report, replace(claim, values=values))


def test_a_claim_at_another_point_or_of_another_key_is_refused() -> None:
    upload, claim = proved_upload()
    with pytest.raises(KeyClaimRefusedError):
        check_claim(upload.report, replace(claim, point=(3, 6)))
    with pytest.raises(KeyClaimRefusedError):
        check_claim(upload_of(1).report, claim)
    with pytest.raises(KeyClaimRefusedError, match="shape"):
        check_claim(upload.report, replace(claim, values=claim.values[:, :5].copy()))
    draft = begin_upload(committee().terms, committee().trainers[0].address, update_of(0), RANDOM.split("another"))
    with pytest.raises(KeyClaimRefusedError):
        finish_upload(committee().terms, draft, committee().trainers[0], PROOF, claim)


def test_the_factors_are_drawn_after_the_proof_is_fixed() -> None:
    """Another proof under the same report is refused, and so is naming none: the combination was made for this one."""
    report = proved_upload()[0].report
    for proof in (sha256(b"another").digest(), bytes(32)):
        changed = re_sign(proved_upload()[0], 0, proof=proof).report
        assert changed.id != report.id
        with pytest.raises(AuditFailedError):
            check_report(committee().terms, changed)
    other = proved_upload(b"another proof")[0].report
    assert (other.committee_root, other.ciphertext) == (report.committee_root, report.ciphertext)
    assert (other.combination != report.combination).mean() > 0.99


def test_a_report_is_signed_over_the_registration_that_its_proof_is_about() -> None:
    report = proved_upload()[0].report
    with pytest.raises(ReportRejectedError, match="is signed by"):
        check_report(committee().terms, replace(report, registration=bytes(32)))


def stale_upload(weight_max: int, staleness: int) -> tuple[RoundTerms, Upload]:
    """Return terms under which reports weigh up to so much, and a report that says how stale it is."""
    terms = committee().terms
    terms = replace(terms, layout=replace(terms.layout, budget=replace(terms.layout.budget, weight_max=weight_max)))
    account = committee().trainers[0]
    draft = begin_upload(terms, account.address, update_of(0), RANDOM.split("stale"))
    return terms, finish_upload(terms, draft, account, staleness=staleness)


@pytest.mark.parametrize(("weight_max", "weights"), [(1, [1]), (4, [4, 2, 1])])
def test_a_report_says_how_stale_it_is_and_weighs_half_for_each_round(weight_max: int, weights: list[int]) -> None:
    for staleness, weight in enumerate(weights):
        terms, upload = stale_upload(weight_max, staleness)
        assert (terms.staleness_max, terms.weight(staleness)) == (len(weights) - 1, weight)
        again = Report.from_bytes(upload.report.to_bytes(), SEATS)
        assert (again.id, again.staleness) == (upload.report.id, staleness)
        check_report(terms, again)
        with pytest.raises(ReportRejectedError):
            check_report(terms, replace(again, staleness=staleness + 1))
        if staleness:
            with pytest.raises(ReportRejectedError, match="is signed by"):
                check_report(terms, replace(again, staleness=staleness - 1))
    terms, upload = stale_upload(weight_max, len(weights))
    with pytest.raises(ReportRejectedError, match=f"report is {len(weights)} rounds stale, round 0 takes up to"):
        check_report(terms, upload.report)
    assert terms.weight(upload.report.staleness) == 0


# ------------------------------------------------------------------------------------------------ a seat's own columns


def test_columns_must_be_the_committed_ones_and_fit() -> None:
    terms, columns = committee().terms, own_columns(upload_of(0))
    symbols = columns.symbols.copy()
    symbols[7, 2] ^= np.uint64(1)
    with pytest.raises(ColumnsRejectedError):
        check_columns(terms, REPORT, SEAT, replace(columns, symbols=symbols))
    with pytest.raises(ColumnsRejectedError):
        check_columns(terms, REPORT, SEAT + 1, columns)
    for name in ("seeds", "proof"):
        value = getattr(columns, name)
        with pytest.raises(ColumnsRejectedError, match="root comes out"):
            check_columns(terms, REPORT, SEAT, replace(columns, **{name: bytes([value[0] ^ 1]) + value[1:]}))
    with pytest.raises(ColumnsRejectedError, match="bytes of salt"):
        check_columns(terms, REPORT, SEAT, replace(columns, seeds=columns.seeds[:-16]))


def test_each_symbol_of_a_seat_is_bound_by_root_and_combination_together() -> None:
    """The mask rows' symbols are what the combination demands: move a key row and they move too, away from the root."""
    columns = own_columns(upload_of(0))
    rng = np.random.default_rng(3)
    for _ in range(200 if FULL else 8):
        column, row = rng.integers(512), rng.integers(4)
        symbols = columns.symbols.copy()
        symbols[column, row] = (int(symbols[column, row]) + int(rng.integers(1, 2**62))) % algebra.P
        with pytest.raises(ColumnsRejectedError, match="root comes out"):
            check_columns(committee().terms, REPORT, SEAT, replace(columns, symbols=symbols))


@pytest.mark.parametrize("field", other_terms())
def test_a_box_sealed_under_other_terms_does_not_open(field: str) -> None:
    """Same trainer, same keys of the seats, even the same draws; yet sealed for one round is not for another."""
    foreign = make_upload(other_terms()[field], committee().trainers[0], update_of(0), RANDOM.split("upload 0 0"))
    assert foreign.report.key_root == REPORT.key_root
    moved = re_sign(upload_of(0), 0, boxes=foreign.report.boxes)
    with pytest.raises(SealedColumnsError, match="does not open"):
        open_columns(committee().terms, moved.report, SEAT, foreign.boxes[SEAT], secret_of(SEAT))
    own_columns(foreign, terms=other_terms()[field])


@pytest.mark.parametrize("thing", ["trainer", "key", "seat", "secret"])
def test_a_box_of_another_trainer_key_or_seat_does_not_open(thing: str) -> None:
    terms, secret, upload = committee().terms, secret_of(SEAT), upload_of(0)
    source, taken = {
        "trainer": (upload_of(1), SEAT),
        "key": (upload_of(0, draw=1), SEAT),
        "seat": (upload_of(0), SEAT + 1),
        "secret": (upload_of(0), SEAT),
    }[thing]
    if thing in ("seat", "secret"):
        secret = secret_of(SEAT + 1)
    boxes = (*REPORT.boxes[:SEAT], source.report.boxes[taken], *REPORT.boxes[SEAT + 1 :])
    moved = re_sign(upload, 0, boxes=boxes)
    with pytest.raises(SealedColumnsError, match="does not open") as refusal:
        open_columns(terms, moved.report, SEAT, source.boxes[taken], secret)
    assert refusal.value.values["seat"] == SEAT


def test_no_box_and_a_box_that_the_report_does_not_name_are_refused() -> None:
    upload = upload_of(0)
    box = upload.boxes[SEAT]
    assert box is not None
    for wrong in (None, b"", box[:-1], box + b"\0", upload.boxes[SEAT + 1]):
        with pytest.raises(SealedColumnsError, match="is not the one in the report"):
            open_columns(committee().terms, upload.report, SEAT, wrong, secret_of(SEAT))


def test_sealed_bytes_of_a_wrong_length_are_refused() -> None:
    """The trainer seals well, but not columns."""
    info = report_module._seal_info(committee().terms, REPORT.trainer, REPORT.key_root, SEAT)
    data = own_columns(upload_of(0)).to_bytes()
    for plaintext in (b"", data[:-1], data + b"\0"):
        box = report_module.seal(secret_of(SEAT).public_bytes, info, plaintext)
        digests = (*REPORT.boxes[:SEAT], sha256(box).digest(), *REPORT.boxes[SEAT + 1 :])
        report = re_sign(upload_of(0), 0, boxes=digests).report
        with pytest.raises(SealedColumnsError, match="columns take"):
            open_columns(committee().terms, report, SEAT, box, secret_of(SEAT))


def test_a_seat_that_announced_no_key_gets_no_box() -> None:
    terms = committee().terms
    silent = SeatTerms(terms.seats[SEAT].validator, None)
    terms = replace(terms, seats=(*terms.seats[:SEAT], silent, *terms.seats[SEAT + 1 :]))
    upload = make_upload(terms, committee().trainers[0], update_of(0), RANDOM.split("silent"))
    check_report(terms, upload.report)
    assert [i for i, box in enumerate(upload.boxes) if box is None] == [SEAT]
    with pytest.raises(SealedColumnsError):
        open_columns(terms, upload.report, SEAT, upload.boxes[SEAT], secret_of(SEAT))


# ------------------------------------------------------------------------------------------------ receipts


def test_a_receipt_says_whether_its_validator_has_verified_the_proof() -> None:
    report, account = upload_of(0).report, committee().accounts[SEAT]
    for verified in (False, True):
        receipt = issue_receipt(committee().terms, SEAT, [report.id], account, [report.id] if verified else [])
        check_receipt(committee().terms, receipt)
        with pytest.raises(ReceiptRejectedError, match="is signed by"):
            check_receipt(committee().terms, replace(receipt, verified=() if verified else (report.id,)))


# ------------------------------------------------------------------------------------------------ copied and shifted


def shifted_copy() -> tuple[Upload, bytes]:
    """Return the victim's upload and c + 2^nu d, whose message is the victim's with the first entry moved by 1."""
    victim, layout = upload_of(0), committee().terms.layout
    c = decode_ciphertext(layout, victim.ciphertext).copy()
    c[2, 0] = (int(c[2, 0]) + (1 << layout.budget.noise_bits)) % algebra.P
    return victim, encode_ciphertext(c)


@pytest.mark.parametrize("signed_by", ["victim", "thief"])
def test_a_copied_and_shifted_report_is_refused(signed_by: str) -> None:
    """The factors depend on the digest of c and on the trainer: under another one the copied combination is wrong."""
    victim, c = shifted_copy()
    thief = committee().trainers[1]
    stolen = replace(victim.report, ciphertext=sha256(c).digest())
    if signed_by == "thief":
        stolen = replace(stolen, trainer=thief.address)
        stolen = replace(stolen, signature=thief.sign(stolen.id))
    with pytest.raises(AuditFailedError):
        check_report(committee().terms, stolen)
    kept = replace(victim.report, trainer=thief.address)  # the same c, under the thief's name
    with pytest.raises(AuditFailedError):
        check_report(committee().terms, replace(kept, signature=thief.sign(kept.id)))


def test_a_copied_ciphertext_under_the_thiefs_own_key_opens_nothing() -> None:
    """Nothing proves yet that c belongs to the key (level `unproved`): such a report passes, and spoils the sum."""
    terms, (victim, c) = committee().terms, shifted_copy()
    with pytest.MonkeyPatch.context() as cheat:
        cheat.setattr(report_module, "encode_ciphertext", lambda _: c)
        stolen = make_upload(terms, committee().trainers[1], update_of(1), RANDOM.split("thief"))
    check_report(terms, stolen.report)
    for uploads in ([victim, stolen], [stolen]):
        columns = {s: [own_columns(upload, s) for upload in uploads] for s in range(SEATS)}
        weights = [1] * len(uploads)
        sums = {
            s: sign_key_sum(terms, bytes(32), s, add_columns(columns[s], weights, 1), committee().accounts[s])
            for s in range(SEATS)
        }
        total = weighted_total([decode_ciphertext(terms.layout, u.ciphertext) for u in uploads], weights)
        with pytest.raises(SumInvalidError, match="not well formed"):
            open_sum(terms, sums, total, len(uploads))


# ------------------------------------------------------------------------------------------------ receipts


def test_a_receipt_is_one_seats_word_on_some_reports_under_one_rounds_terms() -> None:
    terms, account = committee().terms, committee().accounts[SEAT]
    ids = sorted([REPORT.id, upload_of(1).report.id])
    receipt = issue_receipt(terms, SEAT, reversed(ids), account, ids[:1])
    assert receipt.reports == tuple(ids)
    check_receipt(terms, receipt)
    check_receipt(terms, issue_receipt(terms, SEAT, [], account))
    flipped = bytes([receipt.signature[0] ^ 1]) + receipt.signature[1:]
    swapped, stranger = (ids[1], ids[0]), bytes(32)

    def signed(reports: tuple[bytes, ...], verified: tuple[bytes, ...] = ()) -> Receipt:
        return Receipt(SEAT, reports, verified, account.sign(receipt_digest(terms, SEAT, reports, verified)))

    refused: list[tuple[RoundTerms, Receipt, str]] = [
        (terms, replace(receipt, reports=tuple(ids[:1])), "is signed by"),
        (terms, replace(receipt, verified=()), "is signed by"),
        (terms, replace(receipt, seat=SEAT + 1), "is signed by"),
        (terms, replace(receipt, seat=SEATS), "there are 16"),
        (terms, replace(receipt, seat=-1), "there are 16"),
        (terms, replace(receipt, signature=flipped), "receipt of seat"),
        (terms, replace(receipt, signature=receipt.signature[:-1]), "receipt of seat"),
        (other_terms()["beacon"], receipt, "is signed by"),
        (terms, issue_receipt(terms, SEAT, ids, committee().accounts[0]), "is signed by"),
        (terms, signed(swapped), "not strictly increasing"),
        (terms, signed((ids[0], ids[0])), "not strictly increasing"),
        (terms, signed(tuple(ids), swapped), "not strictly increasing"),
        (terms, signed(tuple(ids), (stranger,)), "that it does not name"),
    ]
    for at, wrong, reason in refused:
        with pytest.raises(ReceiptRejectedError, match=reason):
            check_receipt(at, wrong)


def test_an_update_beyond_the_bound_never_becomes_a_report() -> None:
    update = update_of(0)
    update[0] = 1001
    with pytest.raises(EntryOutOfRangeError):
        make_upload(committee().terms, committee().trainers[0], update, RANDOM.split("bound"))
    assert issubclass(EntryOutOfRangeError, CollegiumError)
