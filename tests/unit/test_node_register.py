"""An owner's register: what it publishes, what it refuses, and that no commitment is ever used twice."""

from __future__ import annotations

import random
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from collegium import learning, proofs
from collegium.crypto import AccountKey, Stream
from collegium.errors import CollegiumError
from collegium.learning import EmptyTableError, ModelSpec, NotANumberError, Rule, UnknownLabelError
from collegium.node import (
    NO_PREVIOUS,
    CommitmentCountError,
    CommitmentUsedError,
    DataRegistration,
    Event,
    Experiment,
    LearningTask,
    LicenceBytesError,
    LicenceMismatchError,
    LicenceRequest,
    LicenceSignatureError,
    LicenceTerms,
    NoRegistrationError,
    OtherRegistrationError,
    OwnerError,
    OwnerRows,
    OwnerRowsError,
    Register,
    Registered,
    RegisterError,
    RegisterModeError,
    RegistrationBytesError,
    RegistrationLinkError,
    RegistrationSignatureError,
    RepeatedCommitmentError,
    RepeatedRowsError,
    RowsChangedError,
    ScalingFileError,
    WorldError,
    check_licence,
    data_context,
    decode_data_registration,
    decode_experiment,
    decode_licence,
    encode_data_registration,
    encode_licence,
    load_owner_rows,
    load_statistics,
    terms_digest,
    verify_continuation,
    verify_data_registration,
    verify_licence,
)
from collegium.proofs import ProofRejectedError

EXPERIMENT = """
[task]
name = "hospitals"
rounds = 1
seed = 1
level = "unproved"
[data]
path = "elsewhere.csv"
site = "hospital"
label = "sick"
negative = "no"
missing = "?"
[schema]
age = { kind = "numeric", lower = 0, upper = 100 }
sex = { kind = "category", values = ["f", "m"] }
[model]
kind = "logistic"
[rule]
learning_rate = 0.5
[committee]
seats = 16
"""
ROWS = ["20,f,no,A", "30,m,yes,A", "40,f,yes,A", "50,?,no,A", "?,f,no,A"]
OTHER_ROWS = ["21,f,no,A", "31,m,yes,A"]
TERMS = LicenceTerms(terms_digest(b"for research only"), 1_000, 2_000)
KEY = AccountKey(bytes(31) + b"\x01")
STRANGER = AccountKey(bytes(31) + b"\x02")


def experiment(text: str = EXPERIMENT) -> Experiment:
    return decode_experiment(text.encode(), Path())


def write_csv(path: Path, rows: list[str] = ROWS) -> Path:
    path.write_text("\n".join(["age,sex,sick,hospital", *rows]) + "\n")
    return path


def owner_rows(folder: Path, rows: list[str] = ROWS, name: str = "a.csv", text: str = EXPERIMENT) -> OwnerRows:
    return load_owner_rows(write_csv(folder / name, rows), experiment(text))


@pytest.fixture
def rows(tmp_path: Path) -> OwnerRows:
    return owner_rows(tmp_path)


@pytest.fixture
def register(tmp_path: Path) -> Iterator[Register]:
    with Register(tmp_path / "register", KEY) as opened:
        yield opened


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Registered:
    """One registration of two commitments, for tests that only look at what is published."""
    folder = tmp_path_factory.mktemp("published")
    with Register(folder / "register", KEY) as opened:
        return opened.register(owner_rows(folder), 2, TERMS)


@pytest.fixture(scope="module")
def continued(tmp_path_factory: pytest.TempPathFactory) -> tuple[DataRegistration, DataRegistration]:
    """A registration and the one that continues it."""
    folder = tmp_path_factory.mktemp("continued")
    with Register(folder / "register", KEY) as opened:
        first = opened.register(owner_rows(folder), 3, TERMS)
        return first.registration, opened.refresh(owner_rows(folder), 3, TERMS).registration


def resigned(registration: DataRegistration, key: AccountKey = KEY) -> DataRegistration:
    """What a dishonest owner can do: change anything, and sign that."""
    return replace(registration, signature=key.sign(registration.signed_digest))


# what is published: the registration


def test_what_is_published_verifies_and_decodes_to_itself(published: Registered) -> None:
    registration = decode_data_registration(published.registration_bytes)
    assert registration == published.registration
    assert encode_data_registration(registration) == published.registration_bytes
    verify_data_registration(registration)
    assert (registration.owner, registration.previous) == (KEY.address, NO_PREVIOUS)
    assert (registration.shape.rows, registration.shape.inputs, registration.shape.outputs) == (5, 3, 1)
    assert registration.round_positions == range(1)


HEAD_FIELDS = {  # offset of one byte of each field of the head
    "magic": (0, RegistrationBytesError),
    "rows": (26, RegistrationSignatureError),
    "inputs": (30, RegistrationSignatureError),
    "outputs": (34, RegistrationBytesError),  # 1 ^ 1 = 0 outputs
    "limit": (38, RegistrationSignatureError),
    "message_len": (42, RegistrationBytesError),  # no power of two
    "owner": (46, RegistrationSignatureError),
    "context": (66, RegistrationSignatureError),
    "previous": (98, RegistrationSignatureError),
    "count": (130, RegistrationBytesError),
    "proof length": (132, RegistrationBytesError),
    "root": (136, RegistrationSignatureError),
    "last root": (168 + 31, RegistrationSignatureError),
    "proof": (200, RegistrationSignatureError),
    "end of the proof": (-66, RegistrationSignatureError),
    "signature": (-65, None),
    "recovery byte": (-1, RegistrationSignatureError),
}


@pytest.mark.parametrize("name", HEAD_FIELDS)
def test_a_changed_byte_of_any_field_is_refused(published: Registered, name: str) -> None:
    offset, error = HEAD_FIELDS[name]
    data = bytearray(published.registration_bytes)
    data[offset] ^= 1
    with pytest.raises(error or CollegiumError):  # a changed signature has some other signer, or is none at all
        verify_data_registration(decode_data_registration(bytes(data)))


def _shape(**change: int) -> Callable[[DataRegistration], DataRegistration]:
    return lambda registration: replace(registration, shape=replace(registration.shape, **change))


CHANGES: dict[str, Callable[[DataRegistration], DataRegistration]] = {
    "rows": _shape(rows=6),
    "inputs": _shape(inputs=4),
    "outputs": _shape(outputs=2),
    "limit": _shape(limit=16383),
    "message_len": _shape(message_len=4096),
    "context": lambda it: replace(it, context=bytes(32)),
    "roots in another order": lambda it: replace(it, roots=it.roots[::-1]),
    "a root": lambda it: replace(it, roots=(it.roots[0], bytes(32))),
    "a root more": lambda it: replace(it, roots=(*it.roots, bytes(32))),
    "first byte of the proof": lambda it: replace(it, proof=bytes([it.proof[0] ^ 1]) + it.proof[1:]),
    "last byte of the proof": lambda it: replace(it, proof=it.proof[:-1] + bytes([it.proof[-1] ^ 1])),
    "a byte more": lambda it: replace(it, proof=it.proof + b"\0"),
    "a byte less": lambda it: replace(it, proof=it.proof[:-1]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_owner_who_signs_something_else_has_no_proof_of_it(published: Registered, name: str) -> None:
    changed = resigned(CHANGES[name](published.registration))
    with pytest.raises(ProofRejectedError):
        verify_data_registration(changed)


def test_nobody_can_take_over_a_registration(published: Registered) -> None:
    with pytest.raises(RegistrationSignatureError):
        verify_data_registration(resigned(published.registration, STRANGER))
    with pytest.raises(ProofRejectedError):
        verify_data_registration(resigned(replace(published.registration, owner=STRANGER.address), STRANGER))


@pytest.mark.parametrize("cut", [0, 10, 135, -1, -65])
def test_a_registration_that_ends_too_soon_is_refused(published: Registered, cut: int) -> None:
    with pytest.raises(RegistrationBytesError):
        decode_data_registration(published.registration_bytes[:cut])


def test_a_registration_with_anything_behind_it_is_refused(published: Registered) -> None:
    with pytest.raises(RegistrationBytesError):
        decode_data_registration(published.registration_bytes + b"\0")


@pytest.mark.parametrize("count", [1, 257])
def test_too_few_or_too_many_commitments_are_refused(published: Registered, count: int) -> None:
    roots = tuple(number.to_bytes(32, "little") for number in range(count))
    with pytest.raises(RegistrationBytesError):
        decode_data_registration(encode_data_registration(replace(published.registration, roots=roots)))


def test_a_root_that_stands_twice_is_refused(published: Registered) -> None:
    head = encode_data_registration(published.registration)
    with pytest.raises(RegistrationBytesError, match="all different"):
        decode_data_registration(head[:168] + head[136:168] + head[200:])


def test_more_rows_than_the_proof_can_be_about_are_refused_before_anything_is_built(published: Registered) -> None:
    huge = _shape(rows=1 << 24, inputs=15)(published.registration)
    with pytest.raises(RegistrationBytesError, match="expected at least"):
        decode_data_registration(encode_data_registration(huge))


@pytest.mark.parametrize("seed", range(3))
def test_random_damage_is_a_named_refusal(published: Registered, seed: int) -> None:
    choose = random.Random(seed)
    for _ in range(60):
        data = bytearray(published.registration_bytes if choose.random() < 0.5 else published.licence_bytes)
        at, length = choose.randrange(len(data)), choose.randrange(1, 9)
        data[at : at + length] = choose.choice([b"", choose.randbytes(length), choose.randbytes(2 * length)])
        if bytes(data) in (published.registration_bytes, published.licence_bytes):
            continue
        with pytest.raises(CollegiumError):
            verify_data_registration(decode_data_registration(bytes(data)))
        with pytest.raises(CollegiumError):
            verify_licence(decode_licence(bytes(data)))


@pytest.mark.slow
def test_random_damage_to_a_proof_is_refused_even_when_its_owner_signs_it(published: Registered) -> None:
    choose = random.Random(1)
    for _ in range(30):
        proof = bytearray(published.registration.proof)
        proof[choose.randrange(len(proof))] ^= 1 << choose.randrange(8)
        with pytest.raises(ProofRejectedError):
            verify_data_registration(resigned(replace(published.registration, proof=bytes(proof))))


# what is published: the licence request


def test_a_licence_request_verifies_and_decodes_to_itself(published: Registered) -> None:
    request = decode_licence(published.licence_bytes)
    assert request == published.licence
    assert encode_licence(request) == published.licence_bytes
    verify_licence(request)
    check_licence(request, published.registration)
    assert (request.terms, request.valid_from, request.valid_until) == (TERMS.terms, 1_000, 2_000)


LICENCE_CHANGES: dict[str, tuple[object, type[CollegiumError]]] = {
    "format": ("collegium/v2/licence-request", LicenceBytesError),
    "owner": ("00" * 20, LicenceSignatureError),
    "data_root": ("00" * 32, LicenceSignatureError),
    "terms": ("00" * 32, LicenceSignatureError),
    "rows": (6, LicenceSignatureError),
    "valid_from": (1_001, LicenceSignatureError),
    "valid_until": (2_001, LicenceSignatureError),
    "nonce": ("00" * 32, LicenceSignatureError),
    "signature": ("00" * 65, CollegiumError),  # no signature at all
}


@pytest.mark.parametrize("name", LICENCE_CHANGES)
def test_a_changed_field_of_a_licence_request_is_refused(published: Registered, name: str) -> None:
    value, error = LICENCE_CHANGES[name]
    mapping = msgspec.json.decode(published.licence_bytes)
    assert set(mapping) == set(LICENCE_CHANGES)
    with pytest.raises(error):
        verify_licence(decode_licence(msgspec.json.encode(mapping | {name: value})))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rows", 0),
        ("rows", "5"),
        ("rows", True),
        ("valid_until", 1_000),
        ("valid_until", 1 << 41),
        ("nonce", "00" * 31),
        ("nonce", "zz" * 32),
        ("owner", "AB" * 20),
        ("owner", "ab " * 20),
        ("more", 1),
    ],
)
def test_a_malformed_licence_request_is_refused(published: Registered, name: str, value: object) -> None:
    mapping = msgspec.json.decode(published.licence_bytes)
    with pytest.raises(LicenceBytesError):
        decode_licence(msgspec.json.encode(mapping | {name: value}))


@pytest.mark.parametrize("change", [lambda data: data + b" ", lambda data: b" " + data, lambda data: data[:-1]])
def test_a_licence_request_in_other_bytes_is_refused(published: Registered, change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(LicenceBytesError):
        decode_licence(change(published.licence_bytes))


@pytest.mark.parametrize("change", [{"rows": 6}, {"data_root": bytes(32)}, {"owner": STRANGER.address}])
def test_a_licence_request_for_other_data_is_refused(published: Registered, change: dict[str, object]) -> None:
    other: LicenceRequest = replace(published.licence, **change)
    with pytest.raises(LicenceMismatchError):
        check_licence(other, published.registration)


# the folder


def test_everything_in_the_register_is_for_its_owner_alone(register: Register, rows: OwnerRows, tmp_path: Path) -> None:
    register.register(rows, 2, TERMS)
    folder = tmp_path / "register"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == dict.fromkeys(
        ["register.db", "row-tags.key", "registration-0001.seed", "registration-0001.bin", "licence-0001.json"], 0o600
    )


@pytest.mark.parametrize("name", ["", "register.db", "row-tags.key", "registration-0001.seed"])
def test_a_register_that_others_can_read_is_refused(
    register: Register, rows: OwnerRows, tmp_path: Path, name: str
) -> None:
    register.register(rows, 2, TERMS)
    path = tmp_path / "register" / name
    path.chmod(path.stat().st_mode | 0o040)
    with pytest.raises(RegisterModeError), Register(tmp_path / "register", KEY) as opened:
        opened.use(1, 0, rows)


def test_a_link_to_a_register_is_refused(register: Register, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "register")
    with pytest.raises(RegisterModeError):
        Register(tmp_path / "link", KEY)


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir(mode=0o700)
    (folder / "thesis.txt").write_text("precious")
    with pytest.raises(RegisterError, match="thesis"):
        Register(folder, KEY)
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_a_register_that_was_begun_to_be_made_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "begun"
    folder.mkdir(mode=0o700)
    (folder / "row-tags.key").write_text("half")
    (folder / "register.db.new").write_text("half")
    Register(folder, KEY).__exit__(None, None, None)
    assert sorted(path.name for path in folder.iterdir()) == ["register.db", "row-tags.key"]


def test_a_register_is_its_owners(register: Register, tmp_path: Path) -> None:
    with pytest.raises(OwnerError):
        Register(tmp_path / "register", STRANGER)


@pytest.mark.parametrize(
    ("name", "text"), [("register.db", "no database"), ("row-tags.key", "ab" * 31), ("row-tags.key", "AB" * 32 + "\n")]
)
def test_a_broken_file_of_a_register_is_refused(register: Register, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "register" / name).write_text(text)
    with pytest.raises(RegisterError):
        Register(tmp_path / "register", KEY)


def test_a_registration_changed_in_the_register_is_refused(register: Register, rows: OwnerRows, tmp_path: Path) -> None:
    done = register.register(rows, 2, TERMS)
    assert register.load(1) == done.registration
    path = tmp_path / "register" / "registration-0001.bin"
    path.write_bytes(encode_data_registration(replace(done.registration, context=bytes(32))))
    with pytest.raises(RegisterError, match="is not the registration"):
        register.load(1)


def test_the_register_tells_nothing_about_rows_without_its_key(
    register: Register, rows: OwnerRows, tmp_path: Path
) -> None:
    register.register(rows, 2, TERMS)
    data = (tmp_path / "register" / "register.db").read_bytes()
    assert not [identity for identity in (*rows.identities, rows.file) if identity in data]
    assert tags(tmp_path / "register").isdisjoint(rows.identities)
    with Register(tmp_path / "second", KEY) as second:
        second.register(rows, 2, TERMS)
    assert tags(tmp_path / "register").isdisjoint(tags(tmp_path / "second"))
    assert len(tags(tmp_path / "second")) == len(ROWS)


def tags(folder: Path) -> set[bytes]:
    connection = sqlite3.connect(folder / "register.db")
    try:
        return {tag for (tag,) in connection.execute("SELECT tag FROM row_tag")}
    finally:
        connection.close()


def test_a_register_that_somebody_else_locks_is_the_worlds_failure(
    register: Register, rows: OwnerRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collegium.node._register.BUSY_S", 0.01)
    with register._transaction(), pytest.raises(WorldError, match="locked"):
        Register(tmp_path / "register", KEY)
    Register(tmp_path / "register", KEY).__exit__(None, None, None)


# repeats


def test_a_row_that_stands_twice_in_a_file_is_refused(register: Register, tmp_path: Path) -> None:
    with pytest.raises(RepeatedRowsError, match="row 6 repeats row 2") as refused:
        register.register(owner_rows(tmp_path, [*ROWS, ROWS[1]]), 2, TERMS)
    assert refused.value.values["repeats"] == ((6, 2),)
    register.register(owner_rows(tmp_path, [*ROWS, "30,m,no,A"]), 2, TERMS)  # the other label: another row


def test_a_row_that_was_registered_before_is_refused(register: Register, tmp_path: Path) -> None:
    register.register(owner_rows(tmp_path), 2, TERMS)
    with pytest.raises(RepeatedRowsError, match="row 2 is row 4 of registration 1") as refused:
        register.register(owner_rows(tmp_path, [OTHER_ROWS[0], ROWS[3], OTHER_ROWS[1]], "b.csv"), 2, TERMS)
    assert refused.value.values["repeats"] == ((2, 4),)
    assert register.register(owner_rows(tmp_path, OTHER_ROWS, "b.csv"), 2, TERMS).number == 2


def test_a_row_in_another_spelling_or_scaling_is_the_same_row(register: Register, tmp_path: Path) -> None:
    register.register(owner_rows(tmp_path, ["20,f,no,A", "90,f,yes,A"]), 2, TERMS)
    with pytest.raises(RepeatedRowsError):
        register.register(owner_rows(tmp_path, ["2.0e1,f,no,B"], "b.csv"), 2, TERMS)
    statistics = np.array([2, 3000, 5_000_000], np.int64)
    scaled = load_owner_rows(write_csv(tmp_path / "c.csv", ["90,f,yes,C"]), experiment(), statistics=statistics)
    with pytest.raises(RepeatedRowsError):
        register.register(scaled, 2, TERMS)


def test_a_long_list_of_repeats_is_cut(register: Register, tmp_path: Path) -> None:
    many = [f"{age},f,no,A" for age in range(20)]
    with pytest.raises(RepeatedRowsError, match="row 30 repeats row 10; and 10 more") as refused:
        register.register(owner_rows(tmp_path, many * 2), 2, TERMS)
    assert len(refused.value.values["repeats"]) == 20  # type: ignore[arg-type]


def test_a_refused_file_leaves_nothing_behind(register: Register, tmp_path: Path) -> None:
    before = {path.name for path in (tmp_path / "register").iterdir()}
    with pytest.raises(RepeatedRowsError):
        register.register(owner_rows(tmp_path, [*ROWS, ROWS[0]]), 2, TERMS)
    assert {path.name for path in (tmp_path / "register").iterdir()} == before
    assert not tags(tmp_path / "register")


def test_a_file_is_registered_once_whatever_the_schema(register: Register, rows: OwnerRows, tmp_path: Path) -> None:
    register.register(rows, 2, TERMS)
    with pytest.raises(RepeatedCommitmentError, match="is registered already"):
        register.register(rows, 2, TERMS)
    with pytest.raises(RepeatedCommitmentError, match="is registered already"):
        register.register(owner_rows(tmp_path, text=EXPERIMENT.replace("upper = 100", "upper = 99")), 2, TERMS)


def test_a_commitment_that_comes_out_again_is_refused(tmp_path: Path) -> None:
    def broken(count: int) -> bytes:
        return bytes(count)

    with Register(tmp_path / "register", KEY, broken) as register:
        register.register(owner_rows(tmp_path), 2, TERMS)
        renamed = [row.replace("f,", "w,") for row in ROWS]  # other cells and another schema, the same features
        other = owner_rows(tmp_path, renamed, "b.csv", EXPERIMENT.replace('"f"', '"w"'))
        with pytest.raises(RepeatedCommitmentError, match="same randomness"):
            register.register(other, 2, TERMS)


@pytest.mark.parametrize("count", [1, 257])
def test_a_number_of_commitments_out_of_bounds_is_refused(register: Register, rows: OwnerRows, count: int) -> None:
    with pytest.raises(CommitmentCountError):
        register.register(rows, count, TERMS)


# use


def test_a_commitment_is_made_again_bit_for_bit_and_used_once(
    register: Register, rows: OwnerRows, tmp_path: Path
) -> None:
    done = register.register(rows, 4, TERMS)
    assert register.unused(1) == (0, 1, 2)
    committed = register.use(1, 1, rows)
    assert committed.root == done.registration.roots[1]
    seed = bytes.fromhex((tmp_path / "register" / "registration-0001.seed").read_text())
    again = proofs.commit_data(rows.shape, rows.features, rows.labels, Stream(seed).split("commitment 1"))
    assert (committed.pads == again.pads).all()
    assert (committed.columns == again.columns).all()
    assert register.unused(1) == (0, 2)
    with pytest.raises(CommitmentUsedError, match="is used already"):
        register.use(1, 1, rows)
    with Register(tmp_path / "register", KEY) as reopened, pytest.raises(CommitmentUsedError, match="is used already"):
        reopened.use(1, 1, rows)


@pytest.mark.parametrize("position", [-1, 2, 3])
def test_the_spare_commitment_is_for_no_round(register: Register, rows: OwnerRows, position: int) -> None:
    register.register(rows, 3, TERMS)
    with pytest.raises(CommitmentUsedError, match="is for no round"):
        register.use(1, position, rows)


def test_changed_rows_are_refused_and_cost_no_commitment(register: Register, rows: OwnerRows, tmp_path: Path) -> None:
    register.register(rows, 2, TERMS)
    swapped = owner_rows(tmp_path, [ROWS[1], ROWS[0], *ROWS[2:]], "b.csv")
    with pytest.raises(RowsChangedError):
        register.use(1, 0, swapped)
    with pytest.raises(OtherRegistrationError):
        register.use(1, 0, owner_rows(tmp_path, ROWS[:-1], "b.csv"))
    assert register.unused(1) == (0,)


def test_no_other_registration_is_used(register: Register, rows: OwnerRows) -> None:
    with pytest.raises(NoRegistrationError):
        register.use(1, 0, rows)
    with pytest.raises(NoRegistrationError):
        register.unused(1)


def test_every_write_is_on_the_disk_before_it_counts(register: Register) -> None:
    with register._transaction() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (3,)  # EXTRA: file and folder
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


class Killed(BaseException):
    """The process ends here."""


def test_a_kill_after_the_mark_loses_the_commitment(
    register: Register, rows: OwnerRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register.register(rows, 3, TERMS)
    spend = Register._spend

    class KilledAfterCommit(Register):
        def use(self, number: int, position: int, rows: OwnerRows) -> proofs.CommittedRows:
            super().use(number, position, rows)
            raise Killed

    with KilledAfterCommit(tmp_path / "register", KEY) as killed, pytest.raises(Killed):
        killed.use(1, 0, rows)
    assert register.unused(1) == (1,)
    with pytest.raises(CommitmentUsedError):
        register.use(1, 0, rows)

    def killed_before_commit(self: Register, *arguments: object) -> None:
        spend(self, *arguments)  # type: ignore[arg-type]
        raise Killed

    monkeypatch.setattr(Register, "_spend", killed_before_commit)
    with Register(tmp_path / "register", KEY) as killed, pytest.raises(Killed):
        killed.use(1, 1, rows)  # nothing was given out
    monkeypatch.undo()
    assert register.unused(1) == (1,)
    register.use(1, 1, rows)


@pytest.mark.slow
def test_a_mark_outlives_a_process_that_is_killed(register: Register, rows: OwnerRows, tmp_path: Path) -> None:
    register.register(rows, 3, TERMS)
    program = """
import os, sys
from pathlib import Path
from collegium.crypto import AccountKey
from collegium.node import Register, decode_experiment, load_owner_rows
folder = Path(sys.argv[1])
rows = load_owner_rows(folder / "a.csv", decode_experiment(sys.argv[2].encode(), folder))
register = Register(folder / "register", AccountKey(bytes(31) + b"\\x01"))
register.use(1, 0, rows)
os._exit(9)  # nothing is closed, nothing flushed
"""
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path), EXPERIMENT], check=False)
    assert ended.returncode == 9
    assert register.unused(1) == (1,)
    with pytest.raises(CommitmentUsedError):
        register.use(1, 0, rows)


# interrupted registrations


class Interrupt:
    """Kills the process after `events` messages, and remembers the proofs made until then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.proofs: list[bytes] = []
        prove = proofs.prove_registration

        def recorded(*arguments: object) -> bytes:
            self.proofs.append(prove(*arguments))  # type: ignore[arg-type]
            return self.proofs[-1]

        monkeypatch.setattr(proofs, "prove_registration", recorded)

    def __call__(self, event: Event) -> None:
        if self.proofs:
            raise Killed


def test_an_interrupted_registration_ends_with_the_same_proof(
    register: Register, rows: OwnerRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt = Interrupt(monkeypatch)
    with pytest.raises(Killed):
        register.register(rows, 2, TERMS, interrupt)
    with pytest.raises(NoRegistrationError):
        register.unused(1)
    with pytest.raises(OtherRegistrationError, match="other commitments"):
        register.register(rows, 3, TERMS)
    with pytest.raises(OtherRegistrationError, match="other schema"):
        register.register(owner_rows(tmp_path, text=EXPERIMENT.replace("upper = 100", "upper = 99")), 2, TERMS)
    with pytest.raises(NoRegistrationError):
        register.refresh(rows, 3, TERMS)
    done = register.register(rows, 2, TERMS)
    assert interrupt.proofs == [done.registration.proof] * 2
    verify_data_registration(done.registration)


def test_a_seed_without_a_registration_is_replaced(register: Register, rows: OwnerRows, tmp_path: Path) -> None:
    seed = tmp_path / "register" / "registration-0001.seed"
    seed.write_text("torn")
    seed.chmod(0o600)
    register.register(rows, 2, TERMS)
    assert len(seed.read_text()) == 65


# refresh


@pytest.mark.slow
def test_a_refresh_proves_that_the_rows_are_the_same(register: Register, rows: OwnerRows) -> None:
    first = register.register(rows, 2, TERMS).registration
    done = register.refresh(rows, 4, TERMS)
    second = done.registration
    verify_data_registration(second)
    verify_continuation(second, first)
    assert second.roots[0] == first.roots[-1]
    assert second.round_positions == range(1, 3)
    assert register.unused(2) == (1, 2)
    with pytest.raises(CommitmentUsedError, match="is for no round"):
        register.use(2, 0, rows)
    assert register.use(2, 1, rows).root == second.roots[1]
    verify_continuation(register.refresh(rows, 3, TERMS).registration, second)  # and so on


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda it: replace(it, previous=bytes(32)), "continues"),
        (lambda it: replace(it, owner=bytes(20)), "another owner"),
        (lambda it: replace(it, context=bytes(32)), "another owner"),
        (lambda it: replace(it, shape=replace(it.shape, rows=6)), "another owner"),
        (lambda it: replace(it, roots=it.roots[::-1]), "another root"),
        (lambda it: replace(it, roots=it.roots[1:]), "another root"),
    ],
)
def test_a_registration_that_continues_another_is_refused(
    continued: tuple[DataRegistration, DataRegistration],
    change: Callable[[DataRegistration], DataRegistration],
    message: str,
) -> None:
    first, second = continued
    verify_continuation(second, first)
    with pytest.raises(RegistrationLinkError, match=message):
        verify_continuation(change(second), first)


def test_a_continuation_may_share_the_spare_alone(continued: tuple[DataRegistration, DataRegistration]) -> None:
    first, second = continued
    with pytest.raises(RegistrationLinkError, match="another root"):
        verify_continuation(replace(second, roots=(second.roots[0], first.roots[0], second.roots[2])), first)


def test_a_refresh_of_other_rows_is_refused(register: Register, rows: OwnerRows, tmp_path: Path) -> None:
    with pytest.raises(NoRegistrationError):
        register.refresh(rows, 3, TERMS)
    register.register(rows, 2, TERMS)
    with pytest.raises(NoRegistrationError):
        register.refresh(owner_rows(tmp_path, OTHER_ROWS, "b.csv"), 3, TERMS)
    changed = replace(rows, features=rows.features + 1)  # the file's digest alone would not notice
    with pytest.raises(RowsChangedError):
        register.refresh(changed, 3, TERMS)
    with pytest.raises(CommitmentCountError):
        register.refresh(rows, 2, TERMS)
    assert register.refresh(rows, 3, TERMS).number == 2


def test_an_interrupted_refresh_ends_with_the_same_proof(
    register: Register, rows: OwnerRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = register.register(rows, 2, TERMS).registration
    interrupt = Interrupt(monkeypatch)
    with pytest.raises(Killed):
        register.refresh(rows, 3, TERMS, interrupt)
    with pytest.raises(OtherRegistrationError):
        register.refresh(rows, 4, TERMS)
    second = register.refresh(rows, 3, TERMS).registration
    assert interrupt.proofs == [second.proof] * 2  # the spare was opened by one proof, made twice
    verify_continuation(second, first)


# the owner's file


def test_rows_are_scaled_by_the_declared_ranges_alone(tmp_path: Path) -> None:
    rows = owner_rows(tmp_path, ["0,f,no,A", "100,m,yes,A", "?,?,no,A", "1000,m,no,A"])
    assert rows.features[:2, 0].tolist() == [-7093, 7093]  # 4096 x 2047.5 / 1182.4
    assert rows.features[2].tolist() == [0, 0, 0]
    assert rows.features[3, 0] == 7093
    assert rows.labels.tolist() == [0, 1, 0, 0]
    alone = owner_rows(tmp_path, ["100,m,yes,A"], "b.csv")
    assert (alone.features[0] == rows.features[1]).all()  # no other row moves it


def test_a_scaling_is_read_from_what_a_task_writes(tmp_path: Path) -> None:
    settings = experiment()
    task = LearningTask(
        task=bytes(32),
        seed=bytes(32),
        level="unproved",
        rounds=1,
        schema=settings.schema,  # type: ignore[arg-type]
        spec=ModelSpec("logistic", 3, ()),
        rule=Rule(learning_rate=settings.rule.learning_rate),
        rows_max=64,
        trainers_max=4,
        cohort_min=2,
        lying_max=1,
    )
    total = np.array([4, 6000, 10_000_000, 4], np.int64)
    (tmp_path / "state").write_bytes(task.step(0, b"", total))
    assert load_statistics(tmp_path / "state", settings).tolist() == [4, 6000, 10_000_000]


def test_a_scaling_is_read_from_a_model_state_of_the_experiment(tmp_path: Path) -> None:
    settings = experiment()
    statistics = np.array([4, 6000, 10_000_000, 4], np.int64)
    path = tmp_path / "state"
    path.write_bytes(statistics.astype("<i8").tobytes() + bytes(4 * 4))  # 3 weights and a bias
    found = load_statistics(path, settings)
    assert found.tolist() == [4, 6000, 10_000_000]
    rows = load_owner_rows(write_csv(tmp_path / "a.csv"), settings, statistics=found)
    scaling = learning.scaling_from_total(settings.schema, found)  # type: ignore[arg-type]
    expected = learning.features(settings.schema, scaling, learning.load_table(tmp_path / "a.csv").blank(["?"]))  # type: ignore[arg-type]
    assert (rows.features == expected).all()
    assert rows.context != owner_rows(tmp_path).context
    assert rows.identities == owner_rows(tmp_path).identities


@pytest.mark.parametrize("data", [b"", bytes(47), bytes(49), b"\xff" * 48])
def test_a_file_that_is_no_model_state_gives_no_scaling(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "state").write_bytes(data)
    with pytest.raises(ScalingFileError):
        load_statistics(tmp_path / "state", experiment())
    with pytest.raises(ScalingFileError):
        load_statistics(tmp_path / "none", experiment())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("upper = 100", "upper = 101"),
        ('label = "sick"', 'label = "ill"'),
        ('negative = "no"', 'positive = "no"'),
        ('missing = "?"', 'missing = "-"'),
    ],
)
def test_the_context_says_what_features_and_labels_mean(before: str, after: str) -> None:
    assert data_context(experiment(), None) == data_context(
        experiment(EXPERIMENT.replace("rounds = 1", "rounds = 2")), None
    )
    assert data_context(experiment(), None) != data_context(experiment(EXPERIMENT.replace(before, after)), None)


def test_only_the_rows_of_a_site_are_taken(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ["1,f,no,A", "2,f,no,B", "3,f,no,A"])
    rows = load_owner_rows(path, experiment(), site="A")
    assert rows.numbers == (1, 3)
    assert rows.file != load_owner_rows(path, experiment(), site="B").file
    with pytest.raises(OwnerRowsError, match="'C'"):
        load_owner_rows(path, experiment(), site="C")


def test_an_experiment_without_a_schema_registers_nothing(tmp_path: Path) -> None:
    start, end = EXPERIMENT.index("[schema]"), EXPERIMENT.index("[model]")
    with pytest.raises(OwnerRowsError, match="schema"):
        owner_rows(tmp_path, text=EXPERIMENT[:start] + EXPERIMENT[end:])


@pytest.mark.parametrize(
    ("rows", "text", "error"),
    [
        ([], EXPERIMENT, EmptyTableError),
        (["old,f,no,A"], EXPERIMENT, NotANumberError),
        (
            ["1,f,maybe,A"],
            EXPERIMENT.replace('negative = "no"', 'negative = "no"\npositive = "yes"'),
            UnknownLabelError,
        ),
    ],
)
def test_a_bad_table_is_refused_by_its_own_error(
    tmp_path: Path, rows: list[str], text: str, error: type[CollegiumError]
) -> None:
    with pytest.raises(error):
        owner_rows(tmp_path, rows, text=text)
