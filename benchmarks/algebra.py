"""How long field, transforms and codes take at the sizes of the protocol.

Usage: python benchmarks/algebra.py [REPEATS]

Prints the machine, then for each line the median, the fastest and the slowest of REPEATS runs (default 15) after one
that is not counted, and nanoseconds an element where that means something. Peers beside them: Python integers for
products and `numpy.fft` (complex doubles, not exact) for transforms of the same size.
On one core: `taskset -c 0 python ...`.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from collegium import algebra
from collegium.algebra import P
from collegium.codes import Code, Domain, locate_errors, recover

COMMITTEE, AUDIT = Domain(7, 8192), Domain(49, 16384)
CODE = Code(1024, 4444)
SEATS = 64


def processor() -> str:
    """The processor's name, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def report(name: str, work: Callable[[], object], repeats: int, elements: int = 0) -> None:
    """Runs once unmeasured, then `repeats` times, and prints one line."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    median = statistics.median(times)
    each = f"{median / elements * 1e9:8.1f} ns each" if elements else ""
    print(f"{name:<58}{median * 1e3:10.3f} ms  ({min(times) * 1e3:.3f} to {max(times) * 1e3:.3f}){each}")


def bench_algebra(generator: np.random.Generator, repeats: int) -> None:
    """Elements and transforms."""
    a, b = generator.integers(0, P, (2, 1 << 18), dtype=np.uint64)
    ring = generator.integers(0, P, (250, 4096), dtype=np.uint64)
    one = ring[:1]
    integers = list(zip(a[:4096].tolist(), b[:4096].tolist(), strict=True))
    point = [(3 + i, 5 + i) for i in range(18)]
    report("product, 2^18", lambda: algebra.mul(a, b), repeats, a.size)
    report("product, 2^12, Python integers", lambda: [x * y % P for x, y in integers], repeats, 4096)
    report("batch inverse, 2^18", lambda: algebra.inverse(a), repeats, a.size)
    report("multilinear at a point of K, 2^18", lambda: algebra.multilinear(a, point), repeats, a.size)
    report("fold 250 rows of 4096 by K", lambda: algebra.fold(ring, a[:500].reshape(2, 250)), repeats, ring.size)
    report("negacyclic transform, 1 x 4096", lambda: algebra.negacyclic_ntt(one), repeats, one.size)
    report("negacyclic transform, 250 x 4096", lambda: algebra.negacyclic_ntt(ring), repeats, ring.size)
    report("numpy.fft, complex doubles, 250 x 4096", lambda: np.fft.fft(ring), repeats, ring.size)
    report("negacyclic product, 250 rows by one", lambda: algebra.negacyclic_mul(ring, one), repeats, ring.size)


def bench_codes(generator: np.random.Generator, repeats: int) -> None:
    """The key's code: k = 1024, t = 4444, 8192 committee and 16384 audit points."""
    messages = generator.integers(0, P, (6, 1024), dtype=np.uint64)
    polynomials = CODE.coefficients(messages, generator.integers(0, P, (6, 4444), dtype=np.uint64))
    both = [(COMMITTEE, 6 * COMMITTEE.size), (AUDIT, 6 * AUDIT.size)]
    words = CODE.encode(polynomials, COMMITTEE)
    seats = np.repeat(generator.permutation(SEATS) < SEATS // 3, COMMITTEE.size // SEATS)
    scattered = generator.permutation(COMMITTEE.size) < COMMITTEE.size - CODE.degree_bound
    none = np.zeros(COMMITTEE.size, np.bool_)
    wrong = words[:2].copy()
    wrong[:, generator.permutation(COMMITTEE.size)[:1362]] ^= np.uint64(1)

    def encode() -> None:
        for domain, _ in both:
            CODE.encode(polynomials, domain)

    def erasures(erased: np.ndarray) -> np.ndarray:
        return recover(CODE.degree_bound, COMMITTEE, words, erased)

    report("encode 6 rows on both domains", encode, repeats, sum(elements for _, elements in both))
    report("recover 6 rows, 21 of 64 seats absent", lambda: erasures(seats), repeats)
    report("recover 6 rows, 2724 scattered columns absent", lambda: erasures(scattered), repeats)
    report("locate 1362 errors, a word over F", lambda: locate_errors(5468, COMMITTEE, wrong[0], none), repeats)
    report("locate 1362 errors, a word over K", lambda: locate_errors(5468, COMMITTEE, wrong, none), repeats)


def main() -> None:
    """Prints the table."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{processor()}, {cores} cores used at most, Python {platform.python_version()}, {repeats} repeats")
    generator = np.random.default_rng(0)
    bench_algebra(generator, repeats)
    bench_codes(generator, repeats)


if __name__ == "__main__":
    main()
