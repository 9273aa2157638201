"""Puts the stages of this folder and of the unit tests where the laws of this folder can import them."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "unit")]
