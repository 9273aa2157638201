"""Stewards in a consortium's folder and among the cards: keys and rows to which the genesis binds them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from _tiny_network import tiny_experiment

from collegium.crypto import AccountKey, load_secret
from collegium.node import Experiment, StewardSettings, found_consortium, load_experiment, load_settings
from collegium.node._consortium import ForeignKeyError, load_steward
from collegium.node._experiment import OpenedRowsNetworkError
from collegium.node._member_cards import BadCardError, CardSetError, JoinCard, StewardCard, sign_card
from collegium.node._membership import (
    assemble_roster,
    confirm_in,
    deal_in,
    join_operator,
    join_steward,
    join_trainer,
    join_validator,
    own_rows,
    settle_in,
)
from collegium.node._network_settings import shard_file
from collegium.node._setup import build_task, read_data

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def experiment_with_stewards(folder: Path, count: int = 2, more: str = "") -> Experiment:
    """Return the tiny experiment with stewards whose rows make two shards."""
    tiny_experiment(folder)
    text = (folder / "tiny.toml").read_text().replace('"unproved"', '"proved"')
    text += f"[stewards]\ncount = {count}\nshare = 0.2\nshard_rounds = 1\n{more}"
    (folder / "tiny.toml").write_text(text)
    return load_experiment(folder / "tiny.toml")


def ignore(_: object) -> None:
    """Nobody listens."""


LIAR = '[[attack.trainers]]\nname = "east/0"\nkind = "label_flip"\n'


@pytest.mark.slow
def test_every_steward_has_a_folder_that_its_process_can_start_from_and_liars_rows_are_spoiled(tmp_path: Path) -> None:
    experiment = experiment_with_stewards(tmp_path, more=LIAR)
    consortium = found_consortium(experiment, tmp_path / "network", ignore, NOW)
    genesis, (_, split) = consortium.genesis, read_data(experiment, ignore)
    names = [member.name for member in consortium.members if member.role == "steward"]
    assert names == ["steward 0", "steward 1"]
    rule = build_task(genesis, experiment).quality
    assert rule is not None
    found = {}
    for place, name in enumerate(names):
        (member,) = (member for member in consortium.members if member.name == name)
        settings = load_settings(consortium.config(member))
        assert isinstance(settings, StewardSettings)
        found[name] = settings
        at, steward = load_steward(settings, genesis, experiment)
        assert (at, steward.account.address) == (place, rule.stewards[place])
        assert steward.shard_rounds == 1
        assert [shard.table.cells for shard in steward.shards] == [rows.table.cells for rows in split.hidden[place::2]]
        private = [settings.account_key, settings.salts_key, *settings.shards.iterdir()]
        assert {path.stat().st_mode & 0o777 for path in private} == {0o600}

    trainers = [trainer.name for trainer in split.trainers]
    for name, kept in (("east/0", False), ("east/1", True)):
        rows = split.trainers[trainers.index(name)].rows
        file = consortium.folder / "trainers" / f"{trainers.index(name):02d}" / "rows.csv"
        labels = [int(line.rpartition(",")[2]) for line in file.read_text().splitlines()[1:]]
        assert (labels == rows.labels.tolist()) is kept

    # its neighbour's salts, a row less, or somebody else's account: the genesis binds it to none of them
    one, other = found["steward 0"], found["steward 1"]
    shutil.copy(other.salts_key, one.salts_key)
    with pytest.raises(ForeignKeyError, match="is not the rows of steward 0, or"):
        load_steward(one, genesis, experiment)
    file = shard_file(other.shards, 1)
    file.write_text("\n".join(file.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(ForeignKeyError, match="is not the rows of steward 1, or"):
        load_steward(other, genesis, experiment)
    shutil.copy(tmp_path / "network" / "trainers" / "00" / "account.key", one.account_key)
    with pytest.raises(ForeignKeyError, match="genesis lists no steward with account"):
        load_steward(one, genesis, experiment)


@pytest.mark.slow
def test_stewards_join_by_cards_that_bind_them_to_their_rows(tmp_path: Path) -> None:
    experiment, table = experiment_with_stewards(tmp_path), tmp_path / "tiny.csv"
    joins: list[JoinCard] = [
        join_validator(experiment, tmp_path / f"v{n}", ("127.0.0.1", 20_000 + n), ("127.0.0.1", 21_000 + n))
        for n in range(4)
    ]
    north = own_rows(experiment, table, "north")
    joins += [join_trainer(experiment, tmp_path / f"t{n}", f"north/{n}", north) for n in range(4)]
    joins.append(join_operator(experiment, tmp_path / "op", own_rows(experiment, table, "east")))
    stewards = [join_steward(experiment, tmp_path / f"s{n}", own_rows(experiment, table, "west")) for n in range(2)]
    assert [len(list((tmp_path / "s0" / "shards").iterdir()))] == [2]

    with pytest.raises(CardSetError, match="1 stewards' cards, the experiment asks for 2"):
        assemble_roster(experiment, [*joins, stewards[0]], tmp_path / "ca", NOW)
    short = StewardCard("steward", stewards[0].experiment, stewards[0].account, bytes(31), stewards[0].tls_key)
    signed = sign_card(short, AccountKey(load_secret(tmp_path / "s0" / "account.key", "account")))
    with pytest.raises(BadCardError, match="it is bound to its rows by 31 bytes"):
        assemble_roster(experiment, [*joins, signed, stewards[1]], tmp_path / "ca", NOW)

    roster = assemble_roster(experiment, [*joins, *stewards], tmp_path / "ca", NOW)
    homes = [tmp_path / f"v{n}" for n in range(4)]
    deals = sorted((deal_in(home, roster) for home in homes), key=lambda card: card.dealer)
    confirms = sorted((confirm_in(home, roster, deals) for home in homes), key=lambda card: card.member)
    accounts = [seat.account for seat in roster.draft.stewards]
    for card, home in zip(stewards, (tmp_path / "s0", tmp_path / "s1"), strict=True):
        genesis, (config,) = settle_in(home, roster, deals, confirms)
        settings = load_settings(config)
        assert isinstance(settings, StewardSettings)
        place, steward = load_steward(settings, genesis, experiment)
        assert (place, steward.account.address) == (accounts.index(card.account), card.account)


def test_nobody_joins_as_steward_where_the_experiment_has_none(tmp_path: Path) -> None:
    experiment = tiny_experiment(tmp_path)
    with pytest.raises(CardSetError, match="asks for no stewards"):
        join_steward(experiment, tmp_path / "s0", own_rows(experiment, tmp_path / "tiny.csv"))
    assert not (tmp_path / "s0").exists()


def test_stewards_that_open_their_rows_do_not_join_by_cards(tmp_path: Path) -> None:
    experiment = experiment_with_stewards(tmp_path)
    assert experiment.stewards is not None
    opening = replace(experiment, stewards=replace(experiment.stewards, open=True))
    with pytest.raises(OpenedRowsNetworkError, match=r"stewards\.open is true: .* set it to false"):
        join_steward(opening, tmp_path / "s0", own_rows(experiment, tmp_path / "tiny.csv"))
    assert not (tmp_path / "s0").exists()
