"""Certificates name members, and a handshake with anybody else fails. No sockets: both ends are fed from memory."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from collegium.node._tls import (
    Authority,
    CredentialsExistError,
    CredentialsFileError,
    CredentialsModeError,
    Identity,
    IdentityError,
    PinnedCertificateError,
    Role,
    TlsFiles,
    UnexpectedPeerError,
    anonymous_client_context,
    certificate_digest,
    certificate_expires,
    check_peer,
    client_context,
    create_authority,
    gateway_context,
    identity_from_uri,
    issue,
    load_authority,
    load_credentials,
    peer_identity,
    peer_tls,
    save_authority,
    save_credentials,
    server_context,
)

TASK = bytes(range(32))
OTHER_TASK = bytes(32)
ACCOUNT = bytes(range(20))
NOW = datetime.now(UTC)


def validator(index: int) -> Identity:
    return Identity(TASK, Role.VALIDATOR, index)


def trainer() -> Identity:
    return Identity(TASK, Role.TRAINER, ACCOUNT)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return create_authority(TASK, NOW)


@pytest.fixture(scope="module")
def other_authority() -> Authority:
    return create_authority(TASK, NOW)


def member(
    folder: Path, authority: Authority, identity: Identity, *, now: datetime = NOW, trusts: Authority | None = None
) -> TlsFiles:
    """A member's folder; `trusts` is whose members it believes, its own authority's by default."""
    folder.mkdir()
    files = TlsFiles.inside(folder)
    save_credentials(files, issue(authority, identity, now, days=30), trusts or authority)
    return files


def shake(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Carry bytes between two ends until both are done; an end that refuses raises."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [server.wrap_bio(up, down, server_side=True), client.wrap_bio(down, up)]
    waiting = list(ends)
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
    return ends[0], ends[1]


# ------------------------------------------------------------------------------------------------------------- names


ACCOUNTS = [Identity(TASK, role, ACCOUNT) for role in (Role.STEWARD, Role.EVALUATOR)]


@pytest.mark.parametrize("identity", [validator(0), validator(65535), trainer(), *ACCOUNTS])
def test_a_member_has_one_uri(identity: Identity) -> None:
    assert identity_from_uri(identity.uri) == identity


@pytest.mark.parametrize(
    "uri",
    [
        validator(3).uri + "0" * 5,
        validator(3).uri.replace("/3", "/03"),
        validator(3).uri.replace("/3", "/-3"),
        validator(3).uri.replace("validator", "trainer"),
        validator(3).uri.replace("validator", "leader"),
        validator(3).uri.upper(),
        validator(3).uri.replace("collegium:", ""),
        validator(3).uri + "\n",
        trainer().uri[:-1],
        trainer().uri.replace("trainer", "validator"),
        "",
    ],
)
def test_nothing_else_names_a_member(uri: str) -> None:
    with pytest.raises(IdentityError):
        identity_from_uri(uri)


# -------------------------------------------------------------------------------------------------------- handshakes


def test_two_members_know_each_other(tmp_path: Path, authority: Authority) -> None:
    three = member(tmp_path / "3", authority, validator(3))
    five = member(tmp_path / "5", authority, validator(5))
    server, client = shake(server_context(three), client_context(five, expected=validator(3)))
    assert (peer_identity(server), peer_identity(client)) == (validator(5), validator(3))
    assert server.version() == client.version() == "TLSv1.3"
    assert peer_tls(three, TASK).validator(server) == 5
    assert peer_tls(five, TASK).validator(client, expected=3) == 3


def test_a_member_of_another_authority_is_refused_at_both_ends(
    tmp_path: Path, authority: Authority, other_authority: Authority
) -> None:
    ours = member(tmp_path / "ours", authority, validator(3))
    theirs = member(tmp_path / "theirs", other_authority, validator(5))
    fooled = member(tmp_path / "fooled", authority, validator(5), trusts=other_authority)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(server_context(ours), client_context(theirs))
    liar = member(tmp_path / "liar", other_authority, validator(5), trusts=authority)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(server_context(ours), client_context(liar))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(server_context(fooled), client_context(theirs))


@pytest.mark.parametrize("days", [-400, +10])
def test_a_certificate_out_of_its_time_is_refused(tmp_path: Path, authority: Authority, days: int) -> None:
    ours = member(tmp_path / "ours", authority, validator(3))
    stale = member(tmp_path / "stale", authority, validator(5), now=NOW + timedelta(days=days))
    with pytest.raises(ssl.SSLCertVerificationError, match=r"expired|not yet valid"):
        shake(server_context(ours), client_context(stale))
    with pytest.raises(ssl.SSLCertVerificationError, match=r"expired|not yet valid"):
        shake(server_context(stale), client_context(ours))


def test_a_member_without_certificate_is_refused_by_validators(tmp_path: Path, authority: Authority) -> None:
    ours = member(tmp_path / "ours", authority, validator(3))
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        shake(server_context(ours), anonymous_client_context(ours.authority))


@pytest.mark.parametrize("old_end", ["server", "client"])
def test_tls_1_2_is_refused(tmp_path: Path, authority: Authority, old_end: str) -> None:
    ours = member(tmp_path / "ours", authority, validator(3))
    server, client = server_context(ours), client_context(ours)
    old = server if old_end == "server" else client
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"PROTOCOL|VERSION"):
        shake(server, client)


def test_another_role_is_not_a_validator(tmp_path: Path, authority: Authority) -> None:
    three = member(tmp_path / "3", authority, validator(3))
    stranger = member(tmp_path / "t", authority, trainer())
    server, _ = shake(server_context(three), client_context(stranger))
    with pytest.raises(UnexpectedPeerError):
        peer_tls(three, TASK).validator(server)


def test_another_index_is_not_the_expected_one(tmp_path: Path, authority: Authority) -> None:
    three = member(tmp_path / "3", authority, validator(3))
    five = member(tmp_path / "5", authority, validator(5))
    server, client = shake(server_context(three), client_context(five))
    with pytest.raises(UnexpectedPeerError):
        peer_tls(five, TASK).validator(client, expected=4)
    with pytest.raises(UnexpectedPeerError):
        peer_tls(three, OTHER_TASK).validator(server)
    with pytest.raises(ssl.CertificateError, match="found validator 3, expected validator 4"):
        shake(server_context(three), client_context(five, expected=validator(4)))


def test_a_pinned_certificate_is_the_only_one_of_its_member(tmp_path: Path, authority: Authority) -> None:
    three = member(tmp_path / "3", authority, validator(3))
    five = member(tmp_path / "5", authority, validator(5))
    again = member(tmp_path / "again", authority, validator(5))
    pin = certificate_digest(five.certificate.read_bytes())
    pinned = peer_tls(three, TASK, {5: pin})
    server, _ = shake(pinned.server, client_context(five))
    assert pinned.validator(server) == 5
    check_peer(server, validator(5), pin)
    server, _ = shake(pinned.server, client_context(again))
    with pytest.raises(PinnedCertificateError):
        pinned.validator(server)
    with pytest.raises(PinnedCertificateError):
        check_peer(server, validator(5), pin)


def test_a_gateway_lets_people_in_without_a_certificate_and_knows_who_has_one(
    tmp_path: Path, authority: Authority
) -> None:
    three = member(tmp_path / "3", authority, validator(3))
    known = member(tmp_path / "t", authority, trainer())
    server, _ = shake(gateway_context(three), client_context(known, expected=validator(3)))
    assert peer_identity(server) == trainer()
    server, _ = shake(gateway_context(three), anonymous_client_context(three.authority, expected=validator(3)))
    with pytest.raises(IdentityError):
        peer_identity(server)


def test_a_gateway_refuses_a_wrong_certificate(
    tmp_path: Path, authority: Authority, other_authority: Authority
) -> None:
    three = member(tmp_path / "3", authority, validator(3))
    liar = member(tmp_path / "liar", other_authority, trainer(), trusts=authority)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(gateway_context(three), client_context(liar))
    with pytest.raises(ssl.CertificateError):
        shake(gateway_context(three), anonymous_client_context(three.authority, expected=validator(4)))


# ------------------------------------------------------------------------------------------------------------- issuing


def test_an_authority_names_only_its_own_task(authority: Authority) -> None:
    with pytest.raises(UnexpectedPeerError):
        issue(authority, Identity(OTHER_TASK, Role.VALIDATOR, 3), NOW)


def test_no_certificate_outlives_its_authority(authority: Authority) -> None:
    leaf = issue(authority, validator(3), NOW, days=100_000)
    assert certificate_expires(leaf.certificate) <= certificate_expires(authority.credentials.certificate)


# --------------------------------------------------------------------------------------------------------------- files


def test_files_are_private_and_read_back(tmp_path: Path, authority: Authority) -> None:
    files = member(tmp_path / "3", authority, validator(3))
    assert files.key.stat().st_mode & 0o777 == 0o600
    assert load_credentials(files).digest == certificate_digest(files.certificate.read_bytes())
    save_authority(tmp_path, authority)
    assert (tmp_path / "authority.key").stat().st_mode & 0o777 == 0o600
    assert load_authority(tmp_path).task == TASK
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "authority.key", "authority.pem"]


def test_keys_are_never_overwritten(tmp_path: Path, authority: Authority) -> None:
    files = member(tmp_path / "3", authority, validator(3))
    before = files.key.read_bytes()
    with pytest.raises(CredentialsExistError):
        save_credentials(files, issue(authority, validator(3), NOW), authority)
    assert files.key.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o700])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, authority: Authority, mode: int) -> None:
    files = member(tmp_path / "3", authority, validator(3))
    files.key.chmod(mode)
    with pytest.raises(CredentialsModeError):
        server_context(files)


def test_a_key_behind_a_link_is_refused(tmp_path: Path, authority: Authority) -> None:
    files = member(tmp_path / "3", authority, validator(3))
    files.key.rename(tmp_path / "key")
    files.key.symlink_to(tmp_path / "key")
    with pytest.raises(CredentialsFileError):
        client_context(files)


@pytest.mark.parametrize("damage", ["garbage", "missing", "another", "two", "long"])
def test_files_that_do_not_belong_together_are_refused(tmp_path: Path, authority: Authority, damage: str) -> None:
    files = member(tmp_path / "3", authority, validator(3))
    other = issue(authority, validator(4), NOW).certificate
    text = {
        "garbage": b"-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n",
        "missing": b"",
        "another": other,
        "two": files.certificate.read_bytes() + other,
        "long": files.certificate.read_bytes() + b" " * 20_000,
    }[damage]
    files.certificate.write_bytes(text)
    with pytest.raises(CredentialsFileError):
        server_context(files)


def test_a_members_certificate_is_no_authority(tmp_path: Path, authority: Authority) -> None:
    leaf = issue(authority, validator(3), NOW)
    save_authority(tmp_path, Authority(TASK, leaf))
    with pytest.raises(CredentialsFileError):
        load_authority(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x42"),  # a version that does not exist
        (b"\x03\x42\x00\x04", b"\x03\x42\x00\x05"),  # a key that is no point
    ],
)
def test_damaged_certificates_are_refused_by_name(tmp_path: Path, authority: Authority, old: bytes, new: bytes) -> None:
    save_authority(tmp_path, authority)
    load_authority(tmp_path)
    encoded = ssl.PEM_cert_to_DER_cert(authority.credentials.certificate.decode())
    assert encoded.count(old) == 1
    (tmp_path / "authority.pem").write_text(ssl.DER_cert_to_PEM_cert(encoded.replace(old, new)))
    with pytest.raises(CredentialsFileError):
        load_authority(tmp_path)


def test_a_certificate_without_a_positive_number_is_refused(tmp_path: Path, authority: Authority) -> None:
    save_authority(tmp_path, authority)
    encoded = bytearray(ssl.PEM_cert_to_DER_cert(authority.credentials.certificate.decode()))
    encoded[encoded.index(b"\xa0\x03\x02\x01\x02\x02") + 7] |= 0x80  # the number's sign
    (tmp_path / "authority.pem").write_text(ssl.DER_cert_to_PEM_cert(bytes(encoded)))
    with pytest.raises(CredentialsFileError):
        load_authority(tmp_path)
