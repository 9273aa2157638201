"""What one masked sum costs beside Flower's SecAgg+: the claim of `collegium bench aggregation`, from a checkout.

Usage: python benchmarks/aggregation.py [--quick]

Prints machine, versions, load, and for each case medians and ranges. Needs the extra `flower` for the peer's column. On
one core, the same for both sides: `taskset -c 0 python ...`.
"""

from __future__ import annotations

import sys

from collegium.apps.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", "aggregation", *sys.argv[1:]]))
