"""A trainer that masks with another key than it committed to, and the seats that sign what fits the other one.

Both keys' codewords are the same at most seats' columns, so all that these seats see is in order.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from collegium import algebra
from collegium.aggregation import COMMITTEE_DOMAIN, KEY_CODE, RING_DIMENSION, RoundTerms, public_matrix
from collegium.codes import recover

ACCOMPLICES = (11, 12, 13)  # of sixteen seats: 1536 columns, where 1362 wrong ones are corrected
NAMED = (10, 14, 15)  # honest seats whose columns are elsewhere: some of the first's, all of the others'


def mask_with_it(terms: RoundTerms, ciphertext: np.ndarray) -> np.ndarray:
    """Return c as it is if its trainer masks with the other key."""
    difference = KEY_CODE.messages(_difference()).reshape(1, RING_DIMENSION)
    matrix = algebra.negacyclic_intt(public_matrix(terms.matrix_seed, terms.layout.blocks))
    return algebra.add(ciphertext, algebra.negacyclic_mul(matrix, difference))


def move_rows(terms: RoundTerms, seat: int, rows: np.ndarray, weight: int) -> np.ndarray:
    """Return a seat's sum as it is if the trainer, of this weight, had committed to the other key."""
    columns = terms.seat_columns(seat)
    word = KEY_CODE.encode(_difference(), COMMITTEE_DOMAIN)[:, columns.start : columns.stop]
    return algebra.add(rows, algebra.scale(np.ascontiguousarray(word.T), weight))


@cache
def _difference() -> np.ndarray:
    """Return the coefficients of the codeword that is zero at as many columns, from the first on, as one can be."""
    word = np.zeros((4, COMMITTEE_DOMAIN.size), np.uint64)
    word[:, KEY_CODE.degree_bound - 1] = range(1, 5)
    erased = np.arange(COMMITTEE_DOMAIN.size) >= KEY_CODE.degree_bound
    return recover(KEY_CODE.degree_bound, COMMITTEE_DOMAIN, word, erased)
