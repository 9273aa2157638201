"""The peer of the aggregation benchmark sums what it is given, in four exchanges, or says why not."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.flower


def test_sum_is_the_mean_up_to_rounding() -> None:
    from collegium.apps._secagg_peer import measure_secagg, random_updates

    measure = measure_secagg(random_updates(clients=5, parameters=100, seed=1), repeats=1)
    assert (measure.clients, measure.parameters, measure.exchanges) == (5, 100, 4)
    assert 0 < measure.max_error < 16 / 2**22  # one step of the rounding: the range over 2^22


def test_upload_holds_eight_bytes_a_parameter() -> None:
    from collegium.apps._secagg_peer import measure_secagg, random_updates

    small, large = (measure_secagg(random_updates(4, size, seed=1), repeats=1) for size in (1000, 3000))
    assert large.bytes_up_per_client - small.bytes_up_per_client == pytest.approx(8 * 2000, abs=64)


def test_same_seed_gives_the_same_updates() -> None:
    from collegium.apps._secagg_peer import random_updates

    first, again, other = (np.stack(random_updates(2, 10, seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("clients", "expected"), [(3, (3, 2)), (4, (3, 2)), (16, (9, 6)), (64, (13, 9))])
def test_neighbourhood_is_logarithmic_and_odd(clients: int, expected: tuple[int, int]) -> None:
    from collegium.apps._secagg_peer import neighbourhood

    assert neighbourhood(clients) == expected


@pytest.mark.parametrize("sizes", [(10, 10), (10, 10, 11)])
def test_too_few_or_unequal_vectors_are_refused(sizes: tuple[int, ...]) -> None:
    from collegium.apps._secagg_peer import SecAggRefusedError, measure_secagg

    with pytest.raises(SecAggRefusedError):
        measure_secagg([np.zeros(size, np.float32) for size in sizes])


def test_the_process_keeps_no_flower_identity() -> None:
    from flwr.supercore.task_identity import TaskIdentity

    from collegium.apps._secagg_peer import measure_secagg, random_updates

    measure_secagg(random_updates(3, 10, seed=1), repeats=1)
    with pytest.raises(RuntimeError, match="not set"):
        _ = TaskIdentity.run_id
