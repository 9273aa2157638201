"""Puts the stage of the proofs' tests where the laws of this folder can import it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))
