"""A consortium's folder: what is in it, who may read it, and what is refused."""

from __future__ import annotations

import asyncio
import io
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from _tiny_network import tiny_experiment

from collegium.crypto import KeyFileModeError, load_secret
from collegium.node import (
    Consortium,
    ConsortiumError,
    EvaluatorSettings,
    Event,
    Experiment,
    ExperimentRefusedError,
    FolderInUseError,
    ForeignKeyError,
    PortsTakenError,
    RelayerSettings,
    TrainerSettings,
    ValidatorSettings,
    Warning_,
    WorldError,
    experiment_to_bytes,
    found_consortium,
    load_experiment,
    load_settings,
    open_consortium,
)
from collegium.node._chain_record import decode_chain_record
from collegium.node._client_line import ClientLimits, open_lines
from collegium.node._consortium import free_ports, load_account, load_validator_secrets, read_genesis
from collegium.node._gateway_server import GatewayAddressError
from collegium.node._genesis import GenesisError, check_genesis, open_beacon
from collegium.node._peers import PeerAddressError
from collegium.node._row_files import read_rows
from collegium.node._setup import read_data
from collegium.node._telemetry import logger
from collegium.node._tls import (
    CredentialsFileError,
    ForeignCertificateError,
    Identity,
    Role,
    TlsFiles,
    certificate_digest,
    create_authority,
    issue,
    load_authority,
    load_credentials,
    save_credentials,
)
from collegium.node._validator_process import ValidatorProcess

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PRIVATE = (".key", "rows.csv")


def ignore(event: Event) -> None:
    """Do nothing."""


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Consortium]:
    home = tmp_path_factory.mktemp("consortium")
    experiment = tiny_experiment(home)
    return experiment, found_consortium(experiment, home / "consortium", ignore, NOW)


@pytest.fixture
def folder(founded: tuple[Experiment, Consortium], tmp_path: Path) -> Iterator[Path]:
    """A copy that a test may spoil."""
    copy = tmp_path / "copy"
    shutil.copytree(founded[1].folder, copy)
    yield copy
    shutil.rmtree(copy)


def settings_of(consortium: Consortium, name: str) -> object:
    (member,) = (member for member in consortium.members if member.name == name)
    return load_settings(consortium.config(member))


def test_every_member_has_a_folder_that_its_process_can_start_from(founded: tuple[Experiment, Consortium]) -> None:
    _, consortium = founded
    roles = [member.role for member in consortium.members]
    assert roles == ["validator"] * 4 + ["trainer"] * 6 + ["evaluator", "relayer"]
    kinds = (ValidatorSettings, TrainerSettings, EvaluatorSettings, RelayerSettings)
    assert {type(load_settings(consortium.config(member))) for member in consortium.members} == set(kinds)
    assert open_consortium(consortium.folder) == consortium


def test_genesis_holds_every_proof(founded: tuple[Experiment, Consortium]) -> None:
    experiment, consortium = founded
    check_genesis(consortium.genesis, open_beacon(consortium.genesis), experiment.committee.seats)
    assert len(consortium.genesis.validators) == 4
    assert consortium.genesis.experiment == experiment_to_bytes(experiment)


def test_each_validator_finds_its_peers_and_each_client_every_gateway(founded: tuple[Experiment, Consortium]) -> None:
    _, consortium = founded
    validators = [settings_of(consortium, f"validator {index}") for index in range(4)]
    assert all(isinstance(settings, ValidatorSettings) for settings in validators)
    for settings in validators:
        assert settings.peers == {v.index: v.listen for v in validators if v.index != settings.index}
    for name in ("trainer east/0", "evaluator", "relayer"):
        assert settings_of(consortium, name).validators == {v.index: v.gateway for v in validators}


def test_each_secret_is_the_one_that_genesis_lists(founded: tuple[Experiment, Consortium]) -> None:
    _, consortium = founded
    genesis = consortium.genesis
    for index in range(4):
        settings = settings_of(consortium, f"validator {index}")
        found = load_validator_secrets(settings, genesis)
        assert found.seal is not None
        found.beacon.verify_partial(0, 0, index, found.beacon.partial(0, 0))
    for account, name in genesis.trainers:
        load_account(settings_of(consortium, f"trainer {name}").account_key, account)
    for name in ("evaluator", "relayer"):
        load_account(settings_of(consortium, name).operator_key, genesis.operator)


def test_rows_are_those_of_the_split(founded: tuple[Experiment, Consortium]) -> None:
    experiment, consortium = founded
    _, split = read_data(experiment, ignore)
    expected = {f"trainer {trainer.name}": trainer.rows for trainer in split.trainers} | {"evaluator": split.test}
    for name, rows in expected.items():
        settings = settings_of(consortium, name)
        found = read_rows(settings.test_rows if name == "evaluator" else settings.data, experiment.data.label)
        assert found.table.columns == rows.table.columns
        assert found.table.cells == rows.table.cells
        assert np.array_equal(found.labels, rows.labels)


def test_the_chain_is_founded_as_a_verifier_demands(founded: tuple[Experiment, Consortium]) -> None:
    _, consortium = founded
    record = decode_chain_record(settings_of(consortium, "relayer").chain.read_bytes())
    assert record.checkpoints == ()
    assert record.transcript is not None
    assert len(record.transcript.transactions) == 5 + 4 + 1


def test_certificates_are_the_authority_s_and_its_key_lies_apart(founded: tuple[Experiment, Consortium]) -> None:
    _, consortium = founded
    authority = load_authority(consortium.folder / "authority")
    assert authority.task == consortium.genesis.task
    for member in consortium.members:
        tls = load_settings(consortium.config(member)).tls
        load_credentials(tls)
        assert tls.authority.read_bytes() == authority.credentials.certificate
        assert not any(path.name == "authority.key" for path in consortium.config(member).parent.rglob("*"))


def test_whatever_is_secret_is_private_and_nothing_public_repeats_it(founded: tuple[Experiment, Consortium]) -> None:
    _, consortium = founded
    files = [path for path in consortium.folder.rglob("*") if path.is_file()]
    private = [path for path in files if path.name.endswith(PRIVATE)]
    public = [path.read_bytes() for path in files if not path.name.endswith(PRIVATE)]
    assert len(private) == 4 * 5 + 6 * 3 + 2 * 2 + 1 + 1
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in private)
    assert not any(b"PRIVATE KEY" in data for data in public)
    uses = ("account", "voting", "beacon", "seal")
    secrets = [load_secret(path, use) for path in private for use in uses if f'"use": "{use}"' in path.read_text()]
    assert len(set(secrets)) == 4 * 4 + 6 + 1  # evaluator and relayer act as one operator
    for secret in secrets:
        shapes = (secret, secret[::-1], secret.hex().encode(), secret.hex().upper().encode())
        assert not any(shape in data for shape in shapes for data in public)
    for home in consortium.folder.glob("*/[0-9]*"):
        assert home.stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
def test_two_consortia_of_one_experiment_share_no_key(founded: tuple[Experiment, Consortium], tmp_path: Path) -> None:
    experiment, consortium = founded
    other = found_consortium(experiment, tmp_path / "other", ignore, NOW)
    for path in consortium.folder.rglob("*.key"):
        assert path.read_bytes() != (other.folder / path.relative_to(consortium.folder)).read_bytes()
    assert other.genesis.anchor != consortium.genesis.anchor


def test_nothing_is_ever_written_over(founded: tuple[Experiment, Consortium], folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with pytest.raises(FolderInUseError, match="expected a new or empty folder"):
        found_consortium(founded[0], folder, ignore, NOW)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.slow
def test_whoever_is_interrupted_leaves_nothing(
    founded: tuple[Experiment, Consortium], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("collegium.node._consortium.write_rows", interrupt)
    with pytest.raises(KeyboardInterrupt):
        found_consortium(founded[0], tmp_path / "home" / "half", ignore, NOW)
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.parametrize("name", ["account.key", "voting.key", "beacon.key", "seal.key"])
def test_another_s_key_is_named(folder: Path, name: str) -> None:
    consortium = open_consortium(folder)
    settings = settings_of(consortium, "validator 1")
    shutil.copy(folder / "validators" / "02" / name, folder / "validators" / "01" / name)
    with pytest.raises(ForeignKeyError, match=name):
        load_validator_secrets(settings, consortium.genesis)


@pytest.mark.parametrize(
    ("files", "match"),
    [
        (
            "validators/02",
            r"tls.certificate.pem names \['collegium:[0-9a-f]{64}/validator/2'\], expected collegium:.*/1",
        ),
        ("trainers/01", r"tls.certificate.pem names \['collegium:[0-9a-f]{64}/trainer/0x[0-9a-f]{40}'\], expected"),
        ("another task", r"tls.authority.pem is the authority of task [0-9a-f]{16}, expected that of [0-9a-f]{16}"),
        ("garbage", r"tls.certificate.pem is not one PEM certificate"),
    ],
)
def test_a_validator_without_its_own_certificate_does_not_begin(folder: Path, files: str, match: str) -> None:
    settings = settings_of(open_consortium(folder), "validator 1")
    assert isinstance(settings, ValidatorSettings)
    genesis, own = open_consortium(folder).genesis, settings.tls
    load_validator_secrets(settings, genesis)
    if files == "garbage":
        own.certificate.write_bytes(b"-----BEGIN CERTIFICATE-----\n")
    else:
        authority, home = create_authority(bytes(32), NOW), folder / files
        if files == "another task":
            home.mkdir()
            member = Identity(bytes(32), Role.VALIDATOR, 1)
            save_credentials(TlsFiles.inside(home), issue(authority, member, NOW), authority)
        for name in ("authority", "certificate", "key"):
            shutil.copy(getattr(TlsFiles.inside(home), name), getattr(own, name))
    with pytest.raises(CredentialsFileError, match=match):
        load_validator_secrets(settings, genesis)


def test_whoever_asks_validators_needs_the_authority_of_their_task(folder: Path, tmp_path: Path) -> None:
    settings, task = settings_of(open_consortium(folder), "evaluator"), open_consortium(folder).genesis.task
    assert isinstance(settings, EvaluatorSettings)
    assert len(open_lines(task, settings.validators, settings.tls.authority, ClientLimits())) == 4
    with pytest.raises(ForeignCertificateError, match="is the authority of task"):
        open_lines(bytes(32), settings.validators, settings.tls.authority, ClientLimits())


def test_a_damaged_genesis_is_named_by_its_file(folder: Path) -> None:
    path = folder / "genesis.json"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(GenesisError, match=f"^{path}: "):
        read_genesis(path)


def test_an_address_in_use_is_the_worlds_and_named(folder: Path) -> None:
    settings = load_settings(folder / "validators" / "00" / "config.toml")
    assert isinstance(settings, ValidatorSettings)

    async def begin() -> None:
        process = await ValidatorProcess.open(settings, logger("validator", 0, io.StringIO()))
        try:
            await process.serve()
        finally:
            await process.close()

    for (host, port), error in ((settings.listen, PeerAddressError), (settings.gateway, GatewayAddressError)):
        with socket.create_server((host, port)):
            with pytest.raises(error, match=f"^cannot listen on {host}:{port}: Address already in use$") as failure:
                asyncio.run(begin())
            assert isinstance(failure.value, WorldError)


def test_a_key_that_others_may_read_is_refused(folder: Path) -> None:
    consortium = open_consortium(folder)
    (folder / "validators" / "01" / "voting.key").chmod(0o644)
    with pytest.raises(KeyFileModeError, match=r"voting\.key has mode 0644"):
        load_validator_secrets(settings_of(consortium, "validator 1"), consortium.genesis)


def test_the_first_sealing_key_may_be_gone(folder: Path) -> None:
    consortium = open_consortium(folder)
    (folder / "validators" / "01" / "seal.key").unlink()
    assert load_validator_secrets(settings_of(consortium, "validator 1"), consortium.genesis).seal is None


def test_any_other_folder_is_no_consortium(folder: Path) -> None:
    (folder / "members.json").write_text('{"members":[{"role":"a","name":"b","config":"../c"}]}')
    with pytest.raises(ConsortiumError, match="expected a path inside"):
        open_consortium(folder)
    (folder / "members.json").unlink()
    with pytest.raises(ConsortiumError, match="expected a consortium's folder"):
        open_consortium(folder)


def test_simulated_faults_are_said_to_play_no_part(tmp_path: Path) -> None:
    experiment = tiny_experiment(tmp_path)
    text = (tmp_path / "tiny.toml").read_text().replace("seats = 16", "seats = 16\nabsent = 1")
    (tmp_path / "tiny.toml").write_text(text)
    said: list[Event] = []
    found_consortium(load_experiment(tmp_path / "tiny.toml"), tmp_path / "out", said.append, NOW)
    assert any(isinstance(event, Warning_) and "committee.absent = 1" in event.text for event in said)
    assert experiment.committee.absent == 0


# ports


def test_ports_are_free_different_and_below_those_of_outgoing_connections() -> None:
    ports = free_ports("127.0.0.1", 40)
    assert len(set(ports)) == 40
    assert all(10_000 <= port < 61_000 for port in ports)


@pytest.mark.slow
def test_a_port_in_use_is_named_unless_others_may_be_taken(tmp_path: Path) -> None:
    first = next(port for port in free_ports("127.0.0.1", 20) if port < 32_000)
    with socket.create_server(("127.0.0.1", first + 1)):
        experiment = tiny_experiment(tmp_path, f"validators = 4\nport = {first}\n")
        with pytest.raises(PortsTakenError, match=f"{first + 1}.*cannot be listened on"):
            found_consortium(experiment, tmp_path / "a", ignore, NOW)
        consortium = found_consortium(experiment, tmp_path / "b", ignore, NOW, force_free_ports=True)
    assert settings_of(consortium, "validator 0").gateway[1] != first + 1


# [network]


def test_the_network_is_no_part_of_an_experiment_s_identity(tmp_path: Path) -> None:
    four = tiny_experiment(tmp_path / "a")
    eight = tiny_experiment(tmp_path / "b", 'validators = 8\nlog_level = "debug"\nview_timeout_ms = 9\n')
    assert (four.network.validators, eight.network.validators) == (4, 8)
    assert (eight.network.timing.view_timeout_ms, eight.network.log_level) == (9, "debug")
    assert experiment_to_bytes(four) == experiment_to_bytes(eight)


@pytest.mark.parametrize(
    ("network", "where", "kind"),
    [
        ("validators = 17\n", "network.validators", "range"),
        ("validators = 7\n", "network.validators", "liveness"),
        ("validator = 4\n", "network.validator", "unknown"),
        ('host = "no host"\n', "network.host", "range"),
        ("port = 0\n", "network.port", "range"),
        ('log_level = "loud"\n', "network.log_level", "range"),
        ("deadline_ms = -1\n", "network.deadline_ms", "range"),
    ],
)
def test_a_network_that_cannot_be_is_refused_by_its_name(tmp_path: Path, network: str, where: str, kind: str) -> None:
    with pytest.raises(ExperimentRefusedError) as caught:
        tiny_experiment(tmp_path, network)
    assert [(problem.where, problem.kind) for problem in caught.value.problems] == [(where, kind)]


def test_a_validators_process_believes_the_certificates_that_its_settings_pin(folder: Path) -> None:
    settings = load_settings(folder / "validators" / "00" / "config.toml")
    assert isinstance(settings, ValidatorSettings)
    homes = {index: folder / "validators" / f"{index:02d}" for index in settings.peers}
    pins = {i: certificate_digest(TlsFiles.inside(home).certificate.read_bytes()) for i, home in homes.items()}

    async def pinned(said: dict[int, bytes]) -> Mapping[int, bytes]:
        process = await ValidatorProcess.open(replace(settings, pins=said), logger("validator", 0, io.StringIO()))
        try:
            return process.peers._tls.pins
        finally:
            await process.close()

    assert asyncio.run(pinned(pins)) == pins
    assert asyncio.run(pinned({})) == {}
