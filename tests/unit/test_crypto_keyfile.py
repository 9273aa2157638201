"""Key files: private, whole, strict, never overwritten."""

import json
import os
from pathlib import Path

import pytest

from collegium.crypto import (
    KeyFileError,
    KeyFileExistsError,
    KeyFileModeError,
    MemberKeys,
    Stream,
    load_keys,
    load_secret,
    save_keys,
    save_secret,
)

KEYS = MemberKeys.generate(Stream(b"k" * 32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_keys(tmp_path / "keys.json", KEYS)
    return tmp_path / "keys.json"


def test_keys_come_back(path: Path) -> None:
    keys = load_keys(path)
    assert keys.account.secret == KEYS.account.secret
    assert keys.bls.scalar == KEYS.bls.scalar
    assert keys.seal.secret == KEYS.seal.secret


def test_the_file_is_private_whatever_the_umask_and_nothing_else_is_left(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        save_keys(tmp_path / "keys.json", KEYS)
    finally:
        os.umask(before)
    assert [entry.name for entry in tmp_path.iterdir()] == ["keys.json"]
    assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600


def test_keys_are_never_overwritten(path: Path) -> None:
    text = path.read_text()
    with pytest.raises(KeyFileExistsError):
        save_keys(path, MemberKeys.generate(Stream(b"x" * 32)))
    assert path.read_text() == text
    assert [entry.name for entry in path.parent.iterdir()] == ["keys.json"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o700])
def test_a_looser_mode_is_refused(path: Path, mode: int) -> None:
    path.chmod(0o400)
    load_keys(path)
    path.chmod(mode)
    with pytest.raises(KeyFileModeError):
        load_keys(path)


def test_links_and_directories_are_refused(path: Path) -> None:
    link = path.parent / "link"
    link.symlink_to(path)
    with pytest.raises(KeyFileError):
        load_keys(link)
    with pytest.raises(KeyFileModeError):
        load_keys(path.parent)
    with pytest.raises(KeyFileError):
        load_keys(path.parent / "missing")


def spoil(text: str) -> dict[str, str]:
    fields = json.loads(text)
    return {
        "trailing byte": text + "\n",
        "no newline": text[:-1],
        "other spacing": json.dumps(fields),
        "unknown field": json.dumps({**fields, "more": ""}, indent=2) + "\n",
        "field missing": json.dumps({k: v for k, v in fields.items() if k != "seal"}, indent=2) + "\n",
        "other format": text.replace("collegium/v1/keys", "collegium/v2/keys"),
        "upper case": text.replace(fields["seal"], fields["seal"].upper()),
        "space in hex": text.replace(fields["seal"], fields["seal"][:-1] + " "),
        "number": text.replace(f'"{fields["seal"]}"', "7"),
        "zero scalar": text.replace(fields["bls"], "0" * 64),
        "short": text.replace(fields["account"], fields["account"][2:]),
        "twice": text.replace("{", '{\n  "format": "collegium/v1/keys",', 1),
        "no object": "[]\n",
        "deep": "[" * 4000,
        "empty": "",
        "long": text + " " * 4096,
        "not ASCII": text.replace("collegium", "collègium"),
    }


@pytest.mark.parametrize("what", list(spoil(json.dumps({"format": "", "account": "", "bls": "", "seal": ""}))))
def test_anything_else_than_what_was_written_is_refused_without_quoting_it(path: Path, what: str) -> None:
    text = path.read_text()
    other = spoil(text)[what]
    assert other != text
    path.write_text(other)
    with pytest.raises(KeyFileError) as refusal:
        load_keys(path)
    error: BaseException | None = refusal.value
    while error is not None:
        assert KEYS.seal.secret.hex()[:16] not in f"{error!r} {vars(error)}".lower()
        error = error.__cause__ or error.__context__


# one secret alone


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    save_secret(tmp_path / "voting.key", "voting", b"v" * 32)
    return tmp_path / "voting.key"


def test_a_secret_comes_back_from_a_private_file(secret: Path) -> None:
    assert load_secret(secret, "voting") == b"v" * 32
    assert secret.stat().st_mode & 0o777 == 0o600


def test_a_secret_of_another_use_is_refused(secret: Path) -> None:
    with pytest.raises(KeyFileError, match="for use 'beacon'"):
        load_secret(secret, "beacon")


def test_a_secret_is_never_overwritten(secret: Path) -> None:
    with pytest.raises(KeyFileExistsError):
        save_secret(secret, "voting", b"w" * 32)
    assert load_secret(secret, "voting") == b"v" * 32


def test_a_secret_that_others_may_read_is_refused(secret: Path) -> None:
    secret.chmod(0o640)
    with pytest.raises(KeyFileModeError):
        load_secret(secret, "voting")


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_secret_of_another_length_is_not_written(tmp_path: Path, length: int) -> None:
    with pytest.raises(KeyFileError, match="expected 32"):
        save_secret(tmp_path / "short.key", "account", bytes(length))
    assert not (tmp_path / "short.key").exists()


def test_any_other_text_is_no_secret_and_no_message_quotes_it(secret: Path) -> None:
    good, spelled = secret.read_text(), (b"v" * 32).hex()
    for bad in (good + " ", good.replace("7", "G", 1), good.replace("\n", "\r\n"), good.upper(), spelled, "{}", ""):
        secret.write_text(bad)
        with pytest.raises(KeyFileError) as caught:
            load_secret(secret, "voting")
        assert spelled[:16] not in str(caught.value)
