"""What agreeing costs, and where the time of a round goes: the claim of `collegium bench consensus`, from a checkout.

Usage: python benchmarks/consensus.py [--quick] [--part decision|round|shards]

Prints machine, versions, load, and for each case medians and ranges, with its targets.
"""

from __future__ import annotations

import sys

from collegium.apps.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", "consensus", *sys.argv[1:]]))
