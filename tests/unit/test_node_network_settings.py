"""The settings of one process of a network: what is accepted, and the smallest change that is refused by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from collegium.consensus import RoundTiming
from collegium.node import (
    EvaluatorSettings,
    LimitSettings,
    LogSettings,
    RelayerSettings,
    RoleSettings,
    SettingsRefusedError,
    SettingsUnreadableError,
    StewardSettings,
    TimingSettings,
    TlsFiles,
    TrainerSettings,
    ValidatorSettings,
    load_settings,
)
from collegium.node._network_settings import decode_settings, encode_settings

HOME = Path("/srv/member")
TLS = TlsFiles(HOME / "authority.pem", HOME / "tls.pem", HOME / "tls.key")
GATEWAYS = {index: ("127.0.0.1", 21_000 + index) for index in range(4)}
ROLES: dict[str, RoleSettings] = {
    "validator": ValidatorSettings(
        genesis=HOME / "genesis.json",
        index=2,
        state=HOME / "state",
        account_key=HOME / "account.key",
        voting_key=HOME / "voting.key",
        beacon_key=HOME / "beacon.key",
        seal_key=HOME / "seal.key",
        tls=TLS,
        listen=("127.0.0.1", 20_002),
        gateway=("::1", 21_002),
        peers={0: ("127.0.0.1", 20_000), 1: ("host-1.example", 20_001), 3: ("127.0.0.1", 20_003)},
        timing=TimingSettings(900, RoundTiming(grace_ms=1, deadline_ms=2, release_ms=3, turn_ms=4, verify_ms=5)),
        limits=LimitSettings(mailbox_messages=7),
        log=LogSettings("debug", HOME / "log.jsonl"),
        metrics=False,
        pins={0: bytes(32), 3: bytes(range(32))},
    ),
    "trainer": TrainerSettings(
        genesis=HOME / "genesis.json",
        state=HOME / "state",
        account_key=HOME / "account.key",
        data=HOME / "rows.csv",
        tls=TLS,
        validators=GATEWAYS,
        attest=("attest", "--now"),
    ),
    "steward": StewardSettings(
        genesis=HOME / "genesis.json",
        state=HOME / "state",
        account_key=HOME / "account.key",
        salts_key=HOME / "salts.key",
        shards=HOME / "shards",
        tls=TLS,
        validators=GATEWAYS,
    ),
    "evaluator": EvaluatorSettings(
        genesis=HOME / "genesis.json",
        state=HOME / "state",
        operator_key=HOME / "operator.key",
        test_rows=HOME / "test.csv",
        tls=TLS,
        validators=GATEWAYS,
    ),
    "relayer": RelayerSettings(
        genesis=HOME / "genesis.json",
        state=HOME / "state",
        operator_key=HOME / "operator.key",
        chain=HOME / "chain.json",
        url="http://127.0.0.1:8545",
        checkpoint_every=10,
        tls=TLS,
        validators=GATEWAYS,
        followers=(None, "http://127.0.0.1:8546"),
        confirmations=12,
        gas_price_max_gwei=40,
        replace_after_s=90,
    ),
}
SMALLEST = """
[node]
role = "validator"
index = 0
genesis = "genesis.json"
state = "state"
[keys]
account = "account.key"
voting = "voting.key"
beacon = "beacon.key"
seal = "seal.key"
[tls]
authority = "authority.pem"
certificate = "tls.pem"
key = "tls.key"
[listen]
peers = "127.0.0.1:20000"
gateway = "127.0.0.1:21000"
[peers]
1 = "127.0.0.1:20001"
"""


def problems(text: str) -> list[tuple[str, str]]:
    with pytest.raises(SettingsRefusedError) as caught:
        decode_settings(text.encode(), HOME / "config.toml")
    assert all("\n" not in str(problem) for problem in caught.value.problems)
    for problem in caught.value.problems:
        assert problem.where.startswith("/srv/member/config.toml: ")
    return [(problem.where.split(": ", 1)[1], problem.kind) for problem in caught.value.problems]


def changed(old: str, new: str) -> str:
    assert SMALLEST.count(old) == 1
    return SMALLEST.replace(old, new)


@pytest.mark.parametrize("role", ROLES)
def test_what_is_written_is_what_is_read(role: str) -> None:
    written = encode_settings(ROLES[role], HOME)
    assert decode_settings(written, HOME / "config.toml") == ROLES[role]


def test_paths_are_written_relative_to_the_file() -> None:
    written = encode_settings(ROLES["trainer"], HOME / "trainers" / "a").decode()
    assert 'genesis = "../../genesis.json"' in written
    assert str(HOME) not in written


def test_what_is_not_said_has_its_documented_default() -> None:
    settings = decode_settings(SMALLEST.encode(), HOME / "config.toml")
    assert isinstance(settings, ValidatorSettings)
    assert (settings.timing, settings.limits) == (TimingSettings(), LimitSettings())
    assert (settings.log, settings.metrics, settings.pins) == (LogSettings("info", None), True, {})
    assert settings.genesis == HOME / "genesis.json"


@pytest.mark.parametrize(
    ("old", "new", "where", "kind"),
    [
        ('role = "validator"', 'role = "witness"', "node.role", "range"),
        ("index = 0", "index = 1", "node.index", "conflict"),
        ("index = 0", "index = 256", "node.index", "range"),
        ("index = 0", 'index = "0"', "node.index", "type"),
        ("index = 0\n", "", "node.index", "missing"),
        ("index = 0", "index = 0\nstat = 1", "node.stat", "unknown"),
        ("[keys]", "[keys]\nbeakon = 1", "keys.beakon", "unknown"),
        ('authority = "authority.pem"\n', "", "tls.authority", "missing"),
        ('peers = "127.0.0.1:20000"', 'peers = "127.0.0.1"', "listen.peers", "range"),
        ('peers = "127.0.0.1:20000"', 'peers = "127.0.0.1:0"', "listen.peers", "range"),
        ('peers = "127.0.0.1:20000"', 'peers = "127.0.0.1:020000"', "listen.peers", "range"),
        ('peers = "127.0.0.1:20000"', 'peers = "127.0.0.1:65536"', "listen.peers", "range"),
        ('peers = "127.0.0.1:20000"', 'peers = "::1:20000"', "listen.peers", "range"),
        ('peers = "127.0.0.1:20000"', 'peers = "[host]:20000"', "listen.peers", "range"),
        ('peers = "127.0.0.1:20000"', 'peers = "127.0.0.1:21000"', "listen.gateway", "conflict"),
        ("[listen]", '[listen]\nmetrics = "yes"', "listen.metrics", "type"),
        ('1 = "127.0.0.1:20001"', '01 = "127.0.0.1:20001"', "peers.'01'", "unknown"),
        ('1 = "127.0.0.1:20001"', '256 = "127.0.0.1:20001"', "peers.256", "range"),
        ('1 = "127.0.0.1:20001"', "1 = 20001", "peers.1", "type"),
        ('1 = "127.0.0.1:20001"', "", "[peers]", "missing"),
        ("[peers]", "[timing]\nview_timeout_ms = 0\n[peers]", "timing.view_timeout_ms", "range"),
        ("[peers]", "[timing]\ngrace = 1\n[peers]", "timing.grace", "unknown"),
        ("[peers]", "[limits]\nmailbox_messages = 0\n[peers]", "limits.mailbox_messages", "range"),
        ("[peers]", '[log]\nlevel = "loud"\n[peers]', "log.level", "range"),
        ("[peers]", "[validators]\n[peers]", "[validators]", "unknown"),
        ("[peers]", "[peer]", "[peer]", "unknown"),
        ("[peers]", "[pins]\n[peers]", "[pins]", "missing"),
        ("[peers]", f'[pins]\n1 = "{63 * "0"}"\n[peers]', "pins.1", "range"),
        ("[peers]", f'[pins]\n1 = "{64 * "A"}"\n[peers]', "pins.1", "range"),
        ("[peers]", "[pins]\n1 = 0\n[peers]", "pins.1", "type"),
        ("[peers]", f'[pins]\n2 = "{64 * "0"}"\n[peers]', "pins.2", "conflict"),
        ("[peers]", f'[pins]\nfirst = "{64 * "0"}"\n[peers]', "pins.'first'", "unknown"),
    ],
)
def test_smallest_change_is_refused_by_its_name(old: str, new: str, where: str, kind: str) -> None:
    assert (where, kind) in problems(changed(old, new))


def test_an_unknown_key_is_told_its_nearest_neighbour() -> None:
    with pytest.raises(SettingsRefusedError, match=r"keys\.beakon: .*did you mean beacon\?"):
        decode_settings(changed("beacon = ", "beakon = ").encode(), HOME / "config.toml")
    with pytest.raises(SettingsRefusedError, match=r"\[limit\]: is no section of a validator's.*did you mean limits\?"):
        decode_settings(changed("[peers]", "[limit]\n[peers]").encode(), HOME / "config.toml")


def test_every_problem_is_listed() -> None:
    text = changed("index = 0", 'index = "x"').replace("beacon = ", "beakon = ")
    assert problems(text) == [("node.index", "type"), ("keys.beacon", "missing"), ("keys.beakon", "unknown")]


def test_a_file_without_a_role_is_refused() -> None:
    assert problems("") == [("[node]", "missing")]
    assert problems("node = 3") == [("[node]", "type")]


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"[node", "is not TOML"), (b"\xff", "is not TOML in UTF-8"), (b"#" * (1 << 20) + b"\n#", "is larger than")],
    ids=["syntax", "encoding", "size"],
)
def test_what_is_no_toml_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(SettingsUnreadableError, match=reason):
        decode_settings(data, HOME / "config.toml")


def test_loading_asks_for_the_files_that_are_named(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(SMALLEST)
    names = ("genesis.json", "account.key", "voting.key", "beacon.key", "authority.pem", "tls.pem", "tls.key")
    for name in names:
        (tmp_path / name).touch()
    assert isinstance(load_settings(config), ValidatorSettings)  # the sealing key of round 0 may be gone
    (tmp_path / "voting.key").unlink()
    with pytest.raises(SettingsRefusedError, match=r"config\.toml: keys\.voting: is .*expected a file that is there"):
        load_settings(config)
    config.unlink()
    with pytest.raises(SettingsUnreadableError, match="No such file"):
        load_settings(config)
