"""An experiment's `[committee]`: how many seats, of which kind, for how long, and what no committee could do."""

from dataclasses import asdict, dataclass
from fractions import Fraction

from collegium.aggregation import COMMITTEE_DOMAIN, KEY_CODE
from collegium.consensus import CHANGE_WINDOWS, seat_quorum

from ._sections import ROUNDS_MAX, TERM_MAX, Section, as_quotient

__all__ = [
    "SEATS_MAX",
    "SEATS_MIN",
    "CommitteeSettings",
    "committee_settings",
    "committee_to_mapping",
    "seats_spoiled_max",
]

SEATS_MIN, SEATS_MAX = 16, 256
VALIDATORS_MAX = 256  # the contract's bitmap has as many bits
LINK_MS_MAX = 10_000
WATTS_MAX = 1000

COLUMNS = COMMITTEE_DOMAIN.size  # of the key codeword, shared equally among the seats
# An absent seat spoils its columns once, a lying one twice; the code bears as many as it has beyond its degree bound.
COLUMNS_SPOILED_MAX = COLUMNS - KEY_CODE.degree_bound


@dataclass(frozen=True, slots=True)
class CommitteeSettings:
    """The committee and its virtual network.

    Attributes:
        seats: a power of two.
        absent: seats that publish no sum.
        lying: seats that publish a wrong sum.
        verifiers: validators that the beacon chooses to verify each report's proof.
        link_ms: one-way delay of each message in the virtual network.
        watts: assumed power of one busy core, for the energy estimate.
        epoch_rounds: rounds of an epoch whose change succeeds at the first attempt; None: one epoch that does not end.
        window_rounds: rounds of each of the four windows of a change (docs/spec/epochs.md).
        members_min: validators without which no epoch changes; None: all but a third.
        shards: into how many parts the trainers of a round are dealt, each with a committee of `seats`.
        partition_rounds: for how many rounds trainers stay together; None where there is one shard.
    """

    seats: int
    absent: int
    lying: int
    verifiers: int
    link_ms: int
    watts: Fraction
    epoch_rounds: int | None = None
    window_rounds: int = 1
    members_min: int | None = None
    shards: int = 1
    partition_rounds: int | None = None

    @property
    def validators(self) -> int:
        """Validators of a run: one for each seat of all shards."""
        return self.shards * self.seats

    @property
    def lying_seats_max(self) -> int:
        """Seats that may lie in one round: once absent validators have dropped out, a liar may hold more than one."""
        if self.epoch_rounds is None:
            return self.lying
        each, more = divmod(self.seats, self.seats - self.absent)
        return self.lying * each + min(self.lying, more)


def seats_spoiled_max(seats: int) -> int:
    """Return how large 2 x lying + absent may be so that the sum of keys still decodes (docs/spec: sharing)."""
    return seats * COLUMNS_SPOILED_MAX // COLUMNS


def committee_to_mapping(committee: CommitteeSettings) -> dict[str, object]:
    """Return the committee as plain values; epochs and shards, younger than the format, only where there are some."""
    mapping = asdict(committee) | {"watts": as_quotient(committee.watts)}
    if committee.epoch_rounds is None:
        for key in ("epoch_rounds", "window_rounds", "members_min"):
            del mapping[key]
    if committee.shards == 1:
        del mapping["shards"], mapping["partition_rounds"]
    return mapping


def committee_settings(section: Section) -> CommitteeSettings:
    settings = CommitteeSettings(
        seats=section.integer("seats", SEATS_MIN, SEATS_MAX),
        absent=section.integer("absent", 0, SEATS_MAX, default=0),
        lying=section.integer("lying", 0, SEATS_MAX, default=0),
        verifiers=section.integer("verifiers", 1, SEATS_MAX, default=4),
        link_ms=section.integer("link_ms", 0, LINK_MS_MAX, default=50),
        watts=section.fraction("watts", Fraction(1, TERM_MAX), Fraction(WATTS_MAX), TERM_MAX, default=Fraction(15)),
        epoch_rounds=section.optional_integer("epoch_rounds", 1, ROUNDS_MAX),
        window_rounds=section.integer("window_rounds", 1, ROUNDS_MAX, default=1),
        members_min=section.optional_integer("members_min", 1, SEATS_MAX),
        shards=section.integer("shards", 1, VALIDATORS_MAX // SEATS_MIN, default=1),
        partition_rounds=section.optional_integer("partition_rounds", 1, ROUNDS_MAX),
    )
    if section.ok and settings.seats & (settings.seats - 1):
        section.note("seats", "range", f"is {settings.seats}, expected a power of two: 16, 32, 64, 128 or 256")
    if section.ok:
        _check_liveness(section, settings)
    if section.ok:
        _check_epochs(section, settings)
    if section.ok:
        _check_shards(section, settings)
    section.close()
    return settings


def _check_liveness(section: Section, settings: CommitteeSettings) -> None:
    """Note a committee that could not open a sum, or not agree on one, and the arithmetic that says so."""
    seats, absent, lying = settings.seats, settings.absent, settings.lying
    spoiled, spoiled_max = 2 * lying + absent, seats_spoiled_max(seats)
    if spoiled > spoiled_max:
        section.note(
            "",
            "liveness",
            f"the sum of keys would not decode: 2 x {lying} lying + {absent} absent = {spoiled} seats, expected at "
            f"most floor({seats} x {COLUMNS_SPOILED_MAX} / {COLUMNS}) = {spoiled_max}",
        )
    working, quorum = seats - absent - lying, seat_quorum(seats)
    if working < quorum:
        section.note(
            "",
            "liveness",
            f"no round would become final: {seats} seats - {absent} absent - {lying} lying = {working} working, "
            f"expected at least {seats} - floor({seats - 1} / 3) = {quorum}",
        )


def _check_epochs(section: Section, settings: CommitteeSettings) -> None:
    """Note epochs that could not end, or a committee that could not open a sum once the absent have dropped out."""
    seats, present, length = settings.seats, settings.seats - settings.absent, settings.epoch_rounds
    if length is None:
        for key in ("window_rounds", "members_min"):
            if section.has(key):
                section.note(key, "conflict", "is given, but epoch_rounds is not: there is one epoch; leave it out")
        return
    attempt = CHANGE_WINDOWS * settings.window_rounds + 1
    if length < attempt:
        text = (
            f"is {length}, expected at least {CHANGE_WINDOWS} x window_rounds + 1 = {attempt}: a change takes as long"
        )
        section.note("epoch_rounds", "range", text)
    if settings.members_min is not None and settings.members_min > present:
        text = f"is {settings.members_min}, expected at most {present}: {seats} seats - {settings.absent} absent"
        section.note("members_min", "liveness", text)
    lying, spoiled_max = settings.lying_seats_max, seats_spoiled_max(seats)
    if 2 * lying > spoiled_max or seats - lying < seat_quorum(seats):
        section.note(
            "",
            "liveness",
            f"once the absent have dropped out, {present} validators share {seats} seats and the {settings.lying} that "
            f"lie hold up to {lying}: expected at most {min(spoiled_max // 2, seats - seat_quorum(seats))}",
        )


def _check_shards(section: Section, settings: CommitteeSettings) -> None:
    """Note shards of which nobody has said how long they stay, that are too many, or that nobody has argued."""
    shards, seats = settings.shards, settings.seats
    if shards == 1:
        if settings.partition_rounds is not None:
            section.note("partition_rounds", "conflict", "is given, but there is one shard; leave it out")
        return
    if settings.partition_rounds is None:
        text = "is missing: every shard's sum is public, and this says for how many rounds trainers stay together"
        section.note("partition_rounds", "missing", text)
    if settings.validators > VALIDATORS_MAX:
        text = f"is {shards}: {shards} x {seats} validators, expected at most {VALIDATORS_MAX}, as the contract counts"
        section.note("shards", "range", text)
    if settings.epoch_rounds is not None:
        section.note("shards", "conflict", f"is {shards}, but epoch_rounds is given: epochs of shards do not end yet")
