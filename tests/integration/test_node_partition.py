"""A consortium whose network is cut in two: the majority goes on, halves stand still, and healed all agree.

Real processes in network namespaces. A trainer is stopped whenever cables are pulled, so that rounds do not run away
meanwhile: without its report no round can close before a deadline that is longer than the test.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import pytest
from _islands_stage import NAMESPACE, Islands, IslandsError, ip
from _network_stage import WAIT_S, LiveNetwork, consortium_of

from collegium.apps._member import LEVEL_VARIABLE
from collegium.apps._zygote import Zygote
from collegium.consensus import Block, Certified, Close, Header, decode_payload, verify_final
from collegium.node import Consortium, TrainerSettings, ValidatorSettings, load_settings
from collegium.node._client import FinalHeader, ValidatorClient
from collegium.node._desk import Readiness
from collegium.node._epochs import Epochs
from collegium.node._figures import FIGURES, read_figures
from collegium.node._final_walk import patiently
from collegium.node._journal_disk import DiskJournal
from collegium.node._network_settings import encode_settings

VALIDATORS, TRAINERS = [f"validator {index}" for index in range(4)], "trainers"
HOSTS = [*(name.replace(" ", "") for name in VALIDATORS), TRAINERS]
LAST = 5
TARGET = "_islands_stage:main"
PLAN = (("rounds = 3", f"rounds = {LAST}"), ("validators = 4", "validators = 4\ndeadline_ms = 3600000"))

pytestmark = [pytest.mark.netns, pytest.mark.slow]


@dataclass
class Cut:
    """A network of four validators, each a host of its own, and the trainers, who share one."""

    network: LiveNetwork
    islands: Islands

    def final(self, name: str) -> int:
        """Return the last round that a validator knows to be final; -1 if it knows of none."""
        return max((int(line["round"]) for line in self.network.events(name, "round_final")), default=-1)

    def finals(self, names: list[str]) -> list[int]:
        return [self.final(name) for name in names]

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something holds, while every validator lives."""

        def holds() -> bool:
            assert not self.network.ended.keys() & set(VALIDATORS), f"waiting for {what}\n{self.network.told()}"
            return condition()

        self.network.wait(holds, what)

    def wait_for(self, number: int, names: list[str]) -> None:
        """Wait until a round is final at each of some validators."""
        self.wait(lambda: min(self.finals(names)) >= number, f"round {number} at {names}")

    def hold(self, trainer: str, number: int) -> None:
        """Stop a trainer once its report of a round is out, and wait for that round; no later one ends before `let_go`.

        It may be quicker than we are, by a round.
        """
        most = VALIDATORS[:3]

        def is_out() -> bool:
            sent = (line["round"] for line in self.network.events(trainer, "upload_sent"))
            return max(sent, default=-1) >= number or min(self.finals(most)) >= number

        self.wait(is_out, f"a report of round {number}")
        self.network.signal(trainer, signal.SIGSTOP)
        self.wait_for(number, most)

    def let_go(self, trainer: str) -> None:
        self.network.signal(trainer, signal.SIGCONT)

    def ask(self, index: int) -> tuple[Readiness, FinalHeader | None]:
        """Return how a validator stands and its last final header, verified, as its gateway says on its own host."""
        settings = settings_of(self.network.consortium, VALIDATORS[index])
        assert isinstance(settings, ValidatorSettings)
        epoch_set = self.network.consortium.genesis.epoch_set

        async def asked() -> tuple[Readiness, FinalHeader | None]:
            client = ValidatorClient.over_tls(
                Epochs(epoch_set, None), {index: settings.gateway}, settings.tls.authority
            )
            try:
                async with asyncio.timeout(WAIT_S):
                    standing = await patiently(lambda: client.readiness(index))
                    return standing, await patiently(lambda: client.latest(None, 1.0))  # this one's word is enough
            finally:
                await client.close()

        return self.islands.visit(HOSTS[index], lambda: asyncio.run(asked()))

    def all_have_reported(self, number: int) -> bool:
        """Tell whether every trainer has made its report of a round."""
        trainers = [settings_of(self.network.consortium, name) for name in self.network.names("trainer")]
        return all(
            isinstance(trainer, TrainerSettings) and number in read_figures(trainer.state / FIGURES)
            for trainer in trainers
        )


def settings_of(consortium: Consortium, name: str) -> object:
    (member,) = (member for member in consortium.members if member.name == name)
    return load_settings(consortium.config(member))


def settle(consortium: Consortium, islands: Islands) -> None:
    """Move every process into its namespace, and every address with it."""
    place = {index: islands.address(host) for index, host in enumerate(HOSTS[:-1])}
    for member in consortium.members:
        config = consortium.config(member)
        settings, host = load_settings(config), TRAINERS
        if isinstance(settings, ValidatorSettings):
            host, own = HOSTS[settings.index], place[settings.index]
            peers = {index: (place[index], port) for index, (_, port) in settings.peers.items()}
            moved = replace(settings, listen=(own, settings.listen[1]), gateway=(own, settings.gateway[1]), peers=peers)
            config.write_bytes(encode_settings(moved, config.parent))
        else:
            gateways = {index: (place[index], port) for index, (_, port) in settings.validators.items()}
            config.write_bytes(encode_settings(replace(settings, validators=gateways), config.parent))
        (config.parent / NAMESPACE).write_text(islands.namespace(host))


def test_cut_in_two_only_a_quorum_goes_on_and_healed_all_agree(tmp_path: Path) -> None:
    consortium, _ = consortium_of(tmp_path, *PLAN)
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    with Islands(HOSTS) as islands, Zygote(TARGET, {"PYTHONPATH": paths, LEVEL_VARIABLE: "unproved"}) as zygote:
        settle(consortium, islands)
        cut = Cut(LiveNetwork(consortium, zygote), islands)
        network, trainers = cut.network, cut.network.names("trainer")
        network.start(*VALIDATORS, *trainers)
        three_go_on_without_the_fourth(cut, trainers[0])
        halves_stand_still(cut, trainers[0])
        # healed, everybody finishes what is left
        cut.wait_for(LAST, VALIDATORS)
        cut.wait(lambda: not set(trainers) & set(network.running), "the trainers to finish")
        for name in VALIDATORS:
            network.signal(name, signal.SIGTERM)
        network.wait(lambda: not network.running, "the validators to stop")
        assert network.ended == {name: [0] for name in (*VALIDATORS, *trainers)}
        assert not any(network.events(name, "evidence") for name in VALIDATORS)
        everybody_holds_one_chain(cut)


def three_go_on_without_the_fourth(cut: Cut, trainer: str) -> None:
    """Cut validator 3 off after round 0, see two further rounds become final without it, and heal."""
    lost = VALIDATORS[3]
    cut.hold(trainer, 0)
    cut.wait_for(0, VALIDATORS)
    cut.islands.cut(HOSTS[3])
    before = max(cut.finals(VALIDATORS))
    cut.let_go(trainer)
    cut.hold(trainer, before + 2)
    # what was on its way may have ended one round more, but nobody can have told it of what came after that
    assert cut.final(lost) <= before + 1
    standing, header = cut.ask(3)
    assert header is None or header.certified.header.round <= before + 1
    assert cut.ask(0)[0].connected >= standing.quorum
    cut.islands.heal()
    cut.wait_for(before + 2, [lost])


def halves_stand_still(cut: Cut, trainer: str) -> None:
    """Cut two validators off from the others and all trainers, until each half knows, and heal."""
    cut.islands.cut(*HOSTS[2:4])
    before = max(cut.finals(VALIDATORS))
    assert before + 2 <= LAST, f"round {before} is final: nothing is left to stand still"
    cut.let_go(trainer)
    # the half with the trainers has all that a round needs but a quorum, and everybody knows that the others are gone
    cut.wait(lambda: cut.all_have_reported(before + 1), f"reports of round {before + 1}")
    seen: dict[int, Readiness] = {}

    def halves_know() -> bool:
        seen.update((index, cut.ask(index)[0]) for index in range(4))
        return all(standing.connected == 2 for standing in seen.values())

    cut.wait(halves_know, "each half to miss the other")
    assert not any(standing.ready for standing in seen.values())
    stands = cut.finals(VALIDATORS)
    assert max(stands) <= before + 1
    headers = [cut.ask(index)[1] for index in range(4)]
    assert [-1 if header is None else header.certified.header.round for header in headers] == stands
    cut.islands.heal()


# ------------------------------------------------------------------------------------------------ what is left behind


@dataclass(frozen=True)
class Kept:
    """What one validator's journal holds in the end."""

    blocks: list[Block]
    headers: list[Header]
    model: bytes


def kept_by(cut: Cut, name: str) -> Kept:
    """Read a validator's journal, with every proof of finality in it verified."""
    settings = settings_of(cut.network.consortium, name)
    assert isinstance(settings, ValidatorSettings)
    epoch_set = cut.network.consortium.genesis.epoch_set
    journal = DiskJournal(settings.state / "epochs" / "00000" / "journal.db")
    try:
        blocks, headers = list(journal.archive.blocks), journal.headers()
        for block in blocks:
            verify_final(epoch_set, epoch_set.genesis, block.digest, journal.archive.proofs[block.digest])
        return Kept(blocks, headers, journal.get(headers[-1].model) or b"")
    finally:
        journal.close()


def everybody_holds_one_chain(cut: Cut) -> None:
    """Compare journals: one chain, in it every round once with everybody's report, and one last model."""
    kept = [kept_by(cut, name) for name in VALIDATORS]
    shortest = min(len(each.blocks) for each in kept)
    assert len({tuple(block.digest for block in each.blocks[:shortest]) for each in kept}) == 1
    payloads = [decode_payload(block.payload) for block in kept[0].blocks[:shortest] if block.payload]
    closes = [payload for payload in payloads if isinstance(payload, Close)]
    headers = [payload.header for payload in payloads if isinstance(payload, Certified)]
    assert [(close.round, len(close.reports)) for close in closes] == [(number, 4) for number in range(LAST + 1)]
    assert [(header.round, header.outcome) for header in headers] == [(number, "opened") for number in range(LAST + 1)]
    for each in kept:
        assert each.headers == headers
        assert sha256(each.model).digest() == headers[-1].model
    for name in VALIDATORS:  # nor did anybody ever say otherwise on the way
        said = {line["round"]: line["header"] for line in cut.network.events(name, "round_final")}
        assert all(headers[number].digest.hex().startswith(header) for number, header in said.items())


# ------------------------------------------------------------------------------------------------ the stage itself


def test_hosts_reach_those_of_their_own_island_and_nobody_else() -> None:
    def connects(islands: Islands, one: str, other: str) -> bool:
        def listening() -> socket.socket:
            return socket.create_server((islands.address(other), 0))

        with islands.visit(other, listening) as server:

            def reached() -> bool:
                try:
                    socket.create_connection(server.getsockname(), timeout=1).close()
                except OSError:
                    return False
                return True

            return islands.visit(one, reached)

    with Islands(("a", "b", "c")) as islands:
        assert connects(islands, "a", "b")
        islands.cut("b", "c")
        assert not connects(islands, "a", "b")
        assert connects(islands, "c", "b")
        islands.heal()
        assert connects(islands, "a", "b")
        ip("netns", "exec", islands.namespace("a"), "true")
    for host in ("a", "b", "c", "hub"):
        with pytest.raises(IslandsError, match=f"{host}"):
            ip("netns", "exec", islands.namespace(host), "true")


def test_what_was_made_is_removed_when_the_rest_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    islands, add = Islands(("a", "b")), Islands._add

    def fails_at_b(self: Islands, namespace: str) -> None:
        add(self, "no/name" if namespace.endswith("-b") else namespace)

    monkeypatch.setattr(Islands, "_add", fails_at_b)
    with pytest.raises(IslandsError, match="ip netns add no/name"), islands:
        pass
    with pytest.raises(IslandsError):
        ip("netns", "exec", islands.namespace("a"), "true")
