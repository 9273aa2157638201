"""The fixed parameters of masking and sharing, and the bit budget that a task must fit.

Every relation between constants is checked here, where they are defined. Formulas and bits: docs/spec/aggregation.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2

from collegium.codes import Code, Domain
from collegium.errors import CollegiumError

__all__ = [
    "AUDIT_COLUMNS",
    "AUDIT_DOMAIN",
    "BLOCKS_MAX",
    "CHECK_BLOCKS",
    "COMMITTEE_DOMAIN",
    "KEY_CODE",
    "KEY_ROWS",
    "MATRIX_ROWS",
    "NOISE_BOUND",
    "RING_DIMENSION",
    "SEATS_MAX",
    "SEATS_MIN",
    "Budget",
    "BudgetError",
    "Layout",
    "seat_width",
]

RING_DIMENSION = 4096
CHECK_BLOCKS = 2  # the opened sum proves itself: docs/spec/aggregation.md, section 4
NOISE_BITS_MAX = 22  # keeps 64 - 2 (64 - nu) <= -20: the two check blocks leave no room for another key sum
BLOCKS_MAX = 1 << 10  # ring-LWE samples that one key may mask at the estimated security
NOISE_BOUND = 127  # centred binomial of 254 coins: variance 63.5, never more than 127
FIELD_BITS = 63  # a centred representative of F holds a sign and 62 bits, with room: 2^62 < p / 2

KEY_ROWS = 4  # the key's 4096 coefficients, 1024 a row
MASK_ROWS = 2  # one row over the quadratic extension masks the published combination
MATRIX_ROWS = KEY_ROWS + MASK_ROWS

SEATS_MIN, SEATS_MAX = 16, 256
COMMITTEE_DOMAIN = Domain(shift=7, size=8192)
AUDIT_DOMAIN = Domain(shift=49, size=16384)  # 7 generates F*, so 7 <w> and 49 <w'> never meet, nor meets either H
AUDIT_COLUMNS = 172
OUT_OF_DOMAIN_SYMBOLS = 2  # a proof tells each row's value at one point of K: two elements of F
KEY_CODE = Code(message_len=RING_DIMENSION // KEY_ROWS, randomness_len=4444)

# Half of the seats' columns, and twice what is public of a row: an opened sum lets two honest trainers' audits combine.
if COMMITTEE_DOMAIN.size // 2 + 2 * (AUDIT_COLUMNS + OUT_OF_DOMAIN_SYMBOLS) > KEY_CODE.randomness_len:
    raise ImportError("the encoding's randomness must cover half of the seats, two audits and two points of K")
# Unique decoding: a word that is not close to the code agrees with a codeword on at most (1 + rate) / 2 of the columns.
AUDIT_BITS = -AUDIT_COLUMNS * log2((1 + KEY_CODE.degree_bound / AUDIT_DOMAIN.size) / 2)
if AUDIT_BITS < 100:
    raise ImportError(f"the audit reaches {AUDIT_BITS:.1f} bits, 100 are promised")


class BudgetError(CollegiumError):
    """The task's numbers do not fit the masking ring, or are out of their ranges."""


def seat_width(seats: int) -> int:
    """Return how many committee columns each of `seats` seats owns.

    Raises:
        BudgetError: unless `seats` is a power of two from 16 to 256.
    """
    if not SEATS_MIN <= seats <= SEATS_MAX or seats & (seats - 1):
        raise BudgetError(f"seats must be a power of two from {SEATS_MIN} to {SEATS_MAX}, got {seats}", seats=seats)
    return COMMITTEE_DOMAIN.size // seats


@dataclass(frozen=True, slots=True)
class Budget:
    """The bounds of one masked sum.

    Attributes:
        entry_bound: the largest absolute value of one trainer's entry.
        trainers_max: how many trainers one sum may add.
        weight_max: the largest public weight (1 when unweighted).
        lanes: entries packed into one field element: 2 for quantised updates, 1 for unrounded ones.
    """

    entry_bound: int
    trainers_max: int
    weight_max: int = 1
    lanes: int = 1

    def __post_init__(self) -> None:
        if self.lanes not in (1, 2):
            raise BudgetError(f"lanes must be 1 or 2, got {self.lanes}", lanes=self.lanes)
        for name in ("entry_bound", "trainers_max", "weight_max"):
            if getattr(self, name) < 1:
                raise BudgetError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.noise_bits > NOISE_BITS_MAX:
            raise BudgetError(
                f"weights up to {self.weight_max} over {self.trainers_max} trainers need {self.noise_bits} noise bits, "
                f"the self-check allows {NOISE_BITS_MAX}",
                noise_bits=self.noise_bits,
            )
        if self.bits > FIELD_BITS:
            raise BudgetError(
                f"{self.noise_bits} noise bits + {self.lanes} x {self.lane_bits} lane bits = {self.bits}, "
                f"the field holds {FIELD_BITS}: lower the entry bound {self.entry_bound}, the weights "
                f"(up to {self.weight_max}) or the trainers of one sum ({self.trainers_max})",
                bits=self.bits,
            )

    @property
    def total_weight_max(self) -> int:
        """The largest sum of weights."""
        return self.weight_max * self.trainers_max

    @property
    def noise_bits(self) -> int:
        """nu: the summed noise is below 2^(nu - 1) in absolute value, so the message above it rounds exactly."""
        return (NOISE_BOUND * self.total_weight_max).bit_length() + 1

    @property
    def lane_bits(self) -> int:
        """Bits of one lane's total with its sign."""
        return (self.entry_bound * self.total_weight_max).bit_length() + 1

    @property
    def bits(self) -> int:
        """Bits of a whole unmasked total with its sign."""
        return self.noise_bits + self.lanes * self.lane_bits


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the entries of an update stand among the coefficients of the masked blocks."""

    entries: int
    budget: Budget

    def __post_init__(self) -> None:
        if self.entries < 1:
            raise BudgetError(f"an update has at least 1 entry, got {self.entries}", entries=self.entries)
        if self.blocks > BLOCKS_MAX:
            raise BudgetError(
                f"{self.entries} entries take {self.blocks} blocks, one key masks at most {BLOCKS_MAX}",
                entries=self.entries,
            )

    @property
    def slots(self) -> int:
        """Coefficients that carry entries: entry i of lane j is entry j x slots + i of the update."""
        return ceil(self.entries / self.budget.lanes)

    @property
    def blocks(self) -> int:
        """Ring elements of c, the two check blocks included."""
        return CHECK_BLOCKS + ceil(self.slots / RING_DIMENSION)
