"""The security estimates that docs/spec/aggregation.md quotes, recomputed.  Usage: python benchmarks/security.py

Primal uSVP in the core-SVP model (Alkim, Ducas, Poeppelmann, Schwabe 2016; 0.292 b classical, 0.265 b quantum) against
the masking's ring-LWE with uniform secret; the hint that an opened key sum gives about the noises (the sum of N noises
is learned with the sum of updates) as in Hint-LWE: the variance of one noise given the sum of N drops to (1 - 1/N) of
it, to half of it for N = 2. And the counting bounds of the self-check and the audit.
"""

from __future__ import annotations

import math

from collegium.aggregation import (
    AUDIT_COLUMNS,
    AUDIT_DOMAIN,
    COMMITTEE_DOMAIN,
    KEY_CODE,
    RING_DIMENSION,
    Budget,
)

FIELD_BITS = 64
NOISE_VARIANCE = 254 / 4


def root_hermite_factor(block: int) -> float:
    """Return delta(b), the asymptotic formula valid for b >= 50."""
    return ((math.pi * block) ** (1 / block) * block / (2 * math.pi * math.e)) ** (1 / (2 * (block - 1)))


def primal_block(dimension: int, deviation: float, samples_max: int) -> int:
    """Return the smallest BKZ block for which the embedded short vector shows, over the best number of samples."""
    for block in range(50, 4000, 2):
        log_delta = math.log2(root_hermite_factor(block))
        short = math.log2(deviation) + 0.5 * math.log2(block)
        for samples in range(dimension + 1, samples_max, 32):
            lattice = samples + 1
            if block > lattice:
                continue
            room = (2 * block - lattice - 1) * log_delta + FIELD_BITS * (samples - dimension) / lattice
            if short <= room:
                return block
    raise ValueError("no block below 4000")


def main() -> None:
    """Print every figure with its formula."""
    for name, variance in (("fresh", NOISE_VARIANCE), ("after the hint of a sum of 2", NOISE_VARIANCE / 2)):
        deviation = math.sqrt(variance)
        block = primal_block(RING_DIMENSION, deviation, 6 * RING_DIMENSION)
        print(
            f"ring-LWE, n = {RING_DIMENSION}, q = 2^64, sigma = {deviation:.2f} ({name}): block {block}, "
            f"classical {0.292 * block:.0f} bits, quantum {0.265 * block:.0f} bits"
        )
    for trainers in (2, 16, 64):
        budget = Budget(entry_bound=2**15 - 1, trainers_max=trainers, lanes=2)
        # 2^64 keys a coefficient against two check coefficients that must both fall into 2^nu of 2^64 values
        exponent = FIELD_BITS - 2 * (FIELD_BITS - budget.noise_bits)
        print(f"self-check, {trainers} trainers, nu = {budget.noise_bits}: 2^({exponent} x {RING_DIMENSION})")
    rate = KEY_CODE.degree_bound / AUDIT_DOMAIN.size
    print(f"audit: {AUDIT_COLUMNS} columns at rate {rate:.3f}: {-AUDIT_COLUMNS * math.log2((1 + rate) / 2):.1f} bits")
    spare = COMMITTEE_DOMAIN.size - KEY_CODE.degree_bound
    print(f"decoding: 2 x wrong + missing <= {spare} of {COMMITTEE_DOMAIN.size} columns")


if __name__ == "__main__":
    main()
