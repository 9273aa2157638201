"""What a round's close admits: which reports, on whose receipts, when a validator proposes one, and when it votes.

Nobody may choose whom a trainer hides among. What a close must satisfy whatever a validator knows is `check_close`;
what depends on what it knows, and when, is `leaves_out`. Each raises, or says, what does not hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from collegium import aggregation
from collegium.aggregation import Report, RoundTerms
from collegium.crypto import Digest
from collegium.errors import CollegiumError

from ._proving import is_proved, new_registrations
from ._quality import RoundEntry
from ._records import Close, Outcome, Registered, list_receipts
from ._round_rules import check_record, entry_of, verify_announcement, verify_receipt
from ._round_types import Agreed, RoundContext, RoundState, Work

__all__ = [
    "SKIPPED_AFTER_DEADLINES",
    "CloseRefusedError",
    "awaited_among",
    "awaited_trainers",
    "carrying",
    "check_close",
    "check_final",
    "check_held",
    "check_keys",
    "close_for",
    "enough_since",
    "has_enough",
    "is_complete",
    "is_overdue",
    "is_unanimous",
    "least_admitted",
    "leaves_out",
    "may_be_fewer",
    "quorum",
    "registers",
    "report_weights",
]

SKIPPED_AFTER_DEADLINES: Final = 2  # after so many times the deadline every validator votes for skipping the round


class CloseRefusedError(CollegiumError):
    """A proposed close breaks a rule of the round."""


# ------------------------------------------------------------------------------------------------ propose


def close_for(context: RoundContext, state: RoundState, now: int) -> Close | None:
    """Return the close that this validator would propose now, or None while it is worth waiting.

    At once (after the grace) when every awaited trainer's report has receipts from enough seats; when a quorum of
    trainers have reported and stragglers have had their time, or at the deadline, with what there is: as many reports
    as possible such that the seats of Q hold a receipt for every one of them. At the deadline none if that is not more
    than half, where the round may be skipped. Enough means that the sum decodes although `lying_max` seats of Q lie.
    From twice the deadline on nobody where that may be: for that everybody votes, whatever it knows of.
    """
    if is_overdue(context, state, now) and context.agreed.may_skip(state.terms.round):
        choice: tuple[list[Digest], frozenset[int]] | None = ([], frozenset())
    else:
        choice = _choice(context, state, now)
    return None if choice is None else _close_of(context, state, *choice)


def is_overdue(context: RoundContext, state: RoundState, now: int) -> bool:
    """Tell whether a round has taken twice its time: everybody votes for skipping it then, if it may be skipped."""
    return now >= state.began_ms + SKIPPED_AFTER_DEADLINES * context.timing.deadline_ms


def _choice(context: RoundContext, state: RoundState, now: int) -> tuple[list[Digest], frozenset[int]] | None:
    """Return which reports a close should admit now with which seats, or None while it is worth waiting."""
    late = now >= state.began_ms + context.timing.deadline_ms
    waited = now >= state.changed_ms + context.timing.grace_ms
    complete = (waited or is_unanimous(state)) and is_complete(context, state)
    if not late and not complete and not has_enough(context, state, now):
        return None
    admitted, seats = _best(context, state)
    few = carrying(context, state, admitted) < least_admitted(context, state)
    counted = len(awaited_among(context, state, admitted))
    if not late and (few or not seats or not (complete or counted >= quorum(context, state))):
        return None
    if few:
        if not context.agreed.may_skip(state.terms.round):
            return None
        admitted, seats = [], frozenset()
    return admitted, seats


def _close_of(context: RoundContext, state: RoundState, admitted: Sequence[Digest], seats: frozenset[int]) -> Close:
    order, held = tuple(sorted(seats)), state.held()
    entry, reports = entry_of(context, state), [held[report].report for report in admitted]
    listed, receipts = list_receipts([state.receipts[seat] for seat in order])
    return Close(
        task=state.terms.task,
        round=state.terms.round,
        terms=state.terms.digest,
        seats=order,
        reports=tuple(admitted),
        weights=report_weights(state.terms, entry, reports),
        listed=listed,
        receipts=receipts,
        registered=registers(context.agreed, state, admitted),
        announcements=state.known_keys(),
    )


def awaited_trainers(context: RoundContext, state: RoundState) -> frozenset[bytes]:
    """Return the trainers that a round waits for: whose reports may come and count, and who has sent no wrong proof."""
    entry = entry_of(context, state)
    expected = context.cohort if entry is None else context.cohort & entry.awaited
    return expected - state.failing()


def awaited_among(context: RoundContext, state: RoundState, reports: Iterable[Digest]) -> frozenset[bytes]:
    """Return which of the awaited trainers these reports, all of them here, are of."""
    held = state.held()
    return awaited_trainers(context, state).intersection(held[report].report.trainer for report in reports)


def report_weights(terms: RoundTerms, entry: RoundEntry | None, reports: Iterable[Report]) -> tuple[int, ...]:
    """Return what reports weigh: by trainer, where the round has such weights, else by staleness."""
    if entry is None:
        return tuple(terms.weight(report.staleness) for report in reports)
    return tuple(entry.weights.get(report.trainer, 0) for report in reports)


def carrying(context: RoundContext, state: RoundState, reports: Collection[Digest]) -> int:
    """Return how many of these reports, all of them here, carry weight: only those hide each other in a sum."""
    entry = entry_of(context, state)
    if entry is None:
        return len(reports)
    held = state.held()
    return sum(entry.weights.get(held[report].report.trainer, 0) > 0 for report in reports)


def _measure(context: RoundContext, state: RoundState, reports: Collection[Digest]) -> tuple[int, int, int]:
    """Return by what a choice of reports is compared with another: those that carry weight, the awaited ones, all."""
    return carrying(context, state, reports), len(awaited_among(context, state, reports)), len(reports)


def quorum(context: RoundContext, state: RoundState) -> int:
    """Return of how many awaited trainers the reports suffice to close a round before its deadline: at most of all."""
    everybody = len(awaited_trainers(context, state))
    return everybody if context.quorum is None else min(context.quorum, everybody)


def may_be_fewer(context: RoundContext, state: RoundState) -> bool:
    """Tell whether the round may close before its deadline without some of those that it waits for."""
    return context.quorum is not None and context.quorum < len(awaited_trainers(context, state))


def enough_since(context: RoundContext, state: RoundState) -> int | None:
    """Return when the reports of a quorum of awaited trainers had arrived here, leaving out those whose proofs fail."""
    needed = quorum(context, state)
    if len(state.arrived) < needed or not needed:
        return None
    first, expected = dict[bytes, int](), awaited_trainers(context, state)
    for report, held in state.admissible().items():
        if report in state.arrived and held.report.trainer in expected:
            came = state.arrived[report]
            first[held.report.trainer] = min(came, first.get(held.report.trainer, came))
    times = sorted(first.values())
    return times[needed - 1] if len(times) >= needed else None


def has_enough(context: RoundContext, state: RoundState, now: int) -> bool:
    """Tell whether a quorum of trainers have reported, fewer than all, and stragglers have had their time since."""
    since = enough_since(context, state) if may_be_fewer(context, state) else None
    return since is not None and now >= since + context.timing.straggler_ms


def _best(context: RoundContext, state: RoundState, until_ms: int | None = None) -> tuple[list[Digest], frozenset[int]]:
    """Return the best choice among the proved reports, or among those of them that had arrived here by some time."""
    proved = {report for report, held in state.admissible().items() if is_proved(context, state, held.report)}
    if until_ms is not None:
        proved = {report for report in proved if state.arrived.get(report, until_ms) <= until_ms}
    needed = aggregation.seats_needed(context.seats, context.lying_max)
    whole = frozenset(seat for seat, receipt in state.receipts.items() if receipt.names >= proved)
    if proved and len(whole) >= needed:
        return sorted(proved), whole
    holders = {report: _seats_with(state, report) for report in proved}
    return max(_choices(holders, needed), key=lambda choice: (*_measure(context, state, choice[0]), len(choice[1])))


def _seats_with(state: RoundState, report: Digest) -> frozenset[int]:
    return frozenset(seat for seat, receipt in state.receipts.items() if report in receipt.names)


def _choices(holders: Mapping[Digest, frozenset[int]], needed: int) -> Iterator[tuple[list[Digest], frozenset[int]]]:
    """Yield sets of reports with the seats that hold a receipt for each of them, `needed` seats or more; at first none.

    By reports: leave out those with the fewest receipts until the others share enough seats. By seats: take those that
    hold the most receipts, and the reports that all of them hold.
    """
    yield [], frozenset()
    admitted = sorted(report for report, seats in holders.items() if len(seats) >= needed)
    while admitted and len(_common(holders, admitted)) < needed:
        admitted.remove(min(admitted, key=lambda report: (len(holders[report]), report)))
    if admitted:
        yield admitted, _common(holders, admitted)
    counts = Counter(seat for seats in holders.values() for seat in seats)
    ranked = sorted(counts, key=lambda seat: (-counts[seat], seat))
    for size in range(needed, len(ranked) + 1):
        chosen = frozenset(ranked[:size])
        complete = sorted(report for report, seats in holders.items() if seats >= chosen)
        if complete:
            yield complete, _common(holders, complete)


def least_admitted(context: RoundContext, state: RoundState) -> int:
    """Return how few reports a close may admit, unless it admits none: one more than half of those that are here.

    Half is rounded up: whoever has fewer than half of the trainers then has two others beside its own in every sum,
    however receipts are withheld. Reports that one trainer signed count once: else it could have the round skipped.
    Only those that carry weight count, here and in the close: the others are in no sum.
    """
    entry = entry_of(context, state)
    signers = {held.report.trainer for held in state.admissible().values()}
    trainers = signers if entry is None else {trainer for trainer in signers if entry.weights.get(trainer, 0)}
    return max(context.cohort_min, min(-(-len(trainers) // 2) + 1, len(trainers)))


def is_complete(context: RoundContext, state: RoundState) -> bool:
    """Tell whether every awaited trainer's report is proved, and has receipts enough to bear `lying_max` liars.

    A trainer whose proof does not verify is not waited for, nor one whose report would weigh nothing whatever it says.
    """
    enough, expected = aggregation.seats_needed(context.seats, context.lying_max), awaited_trainers(context, state)
    if not expected or len(state.receipts) < enough or len(state.held()) < len(expected):
        return False
    admissible = {report: held for report, held in state.admissible().items() if held.report.trainer in expected}
    if len({held.report.trainer for held in admissible.values()}) != len(expected):
        return False
    reports = frozenset(admissible)
    whole = sum(receipt.names >= reports for receipt in state.receipts.values())
    if whole < enough and min((len(_seats_with(state, report)) for report in admissible), default=0) < enough:
        return False
    if not context.agreed.proof_bytes_max(state.terms.round):
        return True
    return all(is_proved(context, state, held.report) for held in admissible.values())


def is_unanimous(state: RoundState) -> bool:
    """Tell whether every seat that can open columns has signed for every admissible report: nobody else will."""
    able = [i for i, seat in enumerate(state.terms.seats) if seat.seal_key is not None]
    if not state.receipts.keys() >= set(able):
        return False
    admissible = frozenset(state.admissible())
    return all(state.receipts[i].names >= admissible for i in able)


def _common(holders: Mapping[Digest, frozenset[int]], admitted: list[Digest]) -> frozenset[int]:
    return frozenset.intersection(*(holders[report] for report in admitted)) if admitted else frozenset()


# ------------------------------------------------------------------------------------------------ check


def check_close(
    work: Work,
    terms: RoundTerms,
    close: Close,
    reports: Mapping[Digest, Report],
    cohort_min: int,
    lying_max: int,
    may_skip: bool = True,
    entry: RoundEntry | None = None,
) -> None:
    """Check a close against its rules and every receipt in it; `reports` are the known ones of the round, by id.

    `entry`: who may report and what that weighs, as `Quality.entry` says; None: all, by staleness. Whether a close
    leaves out what should be in it is `leaves_out`: that depends on what a validator knows and when.

    Raises:
        CloseRefusedError: naming the broken rule.
        ReceiptRejectedError: a receipt is not its seat's.
    """
    if (close.task, close.round, close.terms) != (terms.task, terms.round, terms.digest):
        raise CloseRefusedError(f"close is for round {close.round}, this is {terms.round}")
    if not close.reports:
        _check_skip(close, may_skip)
        return
    if len(close.reports) < cohort_min:
        raise CloseRefusedError(f"{len(close.reports)} reports, at least {cohort_min} hide each other")
    if list(close.reports) != sorted(set(close.reports)) or list(close.seats) != sorted(set(close.seats)):
        raise CloseRefusedError("reports and seats must be strictly increasing")
    needed = aggregation.seats_needed(len(terms.seats), lying_max)
    if len(close.seats) < needed or close.seats[-1] >= len(terms.seats):
        raise CloseRefusedError(f"seats {close.seats}, at least {needed} of {len(terms.seats)} needed")
    _check_receipts(work, terms, close)
    trainers = set()
    for report_id in close.reports:
        report = reports.get(report_id)
        if report is None:
            raise CloseRefusedError(f"report {report_id.hex()} is not known here")
        trainers.add(report.trainer)
    if len(trainers) != len(close.reports):
        raise CloseRefusedError("two reports of one trainer in one close")
    _check_weights(terms, close, [reports[report] for report in close.reports], cohort_min, entry)


def check_held(context: RoundContext, state: RoundState, close: Close) -> None:
    """Check a close of the present round, as `check_close` does, with the reports and the model that are here."""
    reports = {report: held.report for report, held in state.held().items()}
    may_skip, entry = context.agreed.may_skip(close.round), entry_of(context, state)
    check_close(context.work, state.terms, close, reports, context.cohort_min, context.lying_max, may_skip, entry)


def check_keys(context: RoundContext, state: RoundState, close: Close, now: int) -> None:
    """Check the sealing keys that a close fixes for the round after it: a quorum, and as many as it must know of.

    That is as many as have been here for `keys_ms`. A number and no set: somebody that announced its key to a few only
    must not make everybody refuse everybody. From twice the deadline on a quorum will do, lest those who know of
    different numbers wait for each other for ever.

    Raises:
        CloseRefusedError, CollegiumError: naming what does not hold.
    """
    old = sum(at_ms + context.timing.keys_ms <= now for at_ms in state.announced_ms)
    due = 0 if is_overdue(context, state, now) else old
    least = max(context.epoch_set.quorum, due)
    _check_announcements(context, close, least)


def check_final(context: RoundContext, state: RoundState, close: Close, outcome: Outcome) -> None:
    """Check what is final in the round, but for what depends on time: who signs a header stands by all of it.

    Whoever voted for the blocks has checked it. Who was away has not, and a quorum that lies can order anything.

    Raises:
        CollegiumError: as `check_close`, `check_keys` and `Quality.check_record`, of the first that does not hold.
    """

    def stands() -> bool:
        check_held(context, state, close)
        _check_announcements(context, close, context.epoch_set.quorum)
        return True

    context.work.once(("stands", state.terms.digest, close.digest), stands)
    if outcome in ("opened", "invalid"):  # in the others no record counts
        for place, record in enumerate(state.records):
            check_record(context, state, state.records[:place], record)


def _check_announcements(context: RoundContext, close: Close, least: int) -> None:
    validators = [announcement.validator for announcement in close.announcements]
    if validators != sorted(set(validators)) or len(validators) < least:
        raise CloseRefusedError(
            f"sealing keys of validators {validators}: expected {least} or more, increasing", field="announcements"
        )
    for announcement in close.announcements:
        if announcement.round != close.round + 1:
            raise CloseRefusedError(f"sealing key for round {announcement.round}, expected {close.round + 1}")
        verify_announcement(context.work, close.task, context.epoch_set, announcement)


def registers(agreed: Agreed, state: RoundState, admitted: Sequence[Digest]) -> tuple[Registered, ...]:
    """Return what a close that admits these reports, all of them here, is the first to register."""
    held = state.held()
    entries = ((held[report].report, held[report].registration) for report in admitted)
    return new_registrations(agreed, state.registered, entries)


def _check_weights(
    terms: RoundTerms, close: Close, reports: Sequence[Report], cohort_min: int, entry: RoundEntry | None
) -> None:
    """Check that all may report, that every report weighs what it must, and that enough do to hide each other."""
    for report in reports:
        if entry is not None and report.staleness:
            raise CloseRefusedError(f"report {report.id.hex()} is stale, in a round of weights by quality")
        if entry is not None and report.trainer not in entry.weights:
            raise CloseRefusedError(f"trainer {report.trainer.hex()} is not drawn for round {close.round}")
    expected = report_weights(terms, entry, reports)
    if close.weights != expected:
        raise CloseRefusedError(f"weights {close.weights}, expected {expected}")
    weighty = sum(weight > 0 for weight in expected)
    if weighty < cohort_min:
        raise CloseRefusedError(f"{weighty} reports carry weight, at least {cohort_min} hide each other")


def _check_receipts(work: Work, terms: RoundTerms, close: Close) -> None:
    """Check that every seat's receipt is its own, names all that is admitted, and no more than a sum can add."""
    most = terms.layout.budget.trainers_max
    if len(close.listed) > most * len(close.seats):
        raise CloseRefusedError(f"{len(close.listed)} reports listed, {len(close.seats)} seats can hold {most} each")
    admitted = frozenset(close.reports)
    for receipt in close.signed:
        if len(receipt.reports) > most:
            raise CloseRefusedError(f"seat {receipt.seat} signs for {len(receipt.reports)} reports, at most {most} sum")
        if not receipt.names >= admitted:
            left_out = min(admitted - receipt.names)
            raise CloseRefusedError(f"seat {receipt.seat} has no receipt for report {left_out.hex()}")
        verify_receipt(work, terms, receipt)


def _check_skip(close: Close, may_skip: bool) -> None:
    if close.seats or close.receipts or close.listed or close.weights:
        raise CloseRefusedError("a skipped round names no seats")
    if not may_skip:
        raise CloseRefusedError(f"round {close.round} may not be skipped: nothing could follow it")


def leaves_out(context: RoundContext, state: RoundState, close: Close, now: int) -> str | None:
    """Return why a valid close must not be voted for now, or None: nobody may choose whom a trainer hides among.

    Before this validator's own deadline only all that are awaited will do, but those whose proofs do not verify, or,
    when stragglers have had their time, a quorum; and then of all that came in the first half of that time (the second
    half is for validators that began to count a little earlier). After the deadline, as many reports as it would admit,
    and of more than half of the trainers known here, or none at all. A round that has taken twice its time may be
    skipped whatever is here: validators that know of different reports must not wait for each other for ever, and a
    skipped round tells nothing of anybody.
    """
    expected, there = awaited_trainers(context, state), awaited_among(context, state, close.reports)
    if close.reports and there == expected:
        return None
    if now < state.began_ms + context.timing.deadline_ms:
        since = enough_since(context, state)
        if since is None or not has_enough(context, state, now) or len(there) < quorum(context, state):
            return f"{len(there)} of {len(expected)} awaited trainers before the deadline"
        timely = _best(context, state, since + context.timing.straggler_ms // 2)[0]
        few = carrying(context, state, close.reports) < least_admitted(context, state)
        few = few or _measure(context, state, close.reports) < _measure(context, state, timely)
        return f"{len(close.reports)} reports, {len(timely)} were here in good time" if few else None
    if not close.reports and is_overdue(context, state, now):
        return None
    least, weighty = least_admitted(context, state), carrying(context, state, close.reports)
    if close.reports and weighty < least:
        return f"{weighty} reports, {least} or none expected of {len(state.admissible())} that are here"
    choice = _choice(context, state, now)
    own = [] if choice is None else choice[0]
    few = _measure(context, state, close.reports) < _measure(context, state, own)
    return f"{len(close.reports)} reports, {len(own)} are admissible here" if few else None
