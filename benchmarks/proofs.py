"""What a proof of learning costs beside the step it proves: the claim of `collegium bench proofs`, from a checkout.

Usage: python benchmarks/proofs.py [--quick] [--size NAME]

Prints machine, versions, load, and for each case medians and ranges, with its targets. Needs `torch` for the step's
column, and `ezkl` with `onnx` for EZKL's rows.
"""

from __future__ import annotations

import sys

from collegium.apps.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", "proofs", *sys.argv[1:]]))
