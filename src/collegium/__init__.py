"""Federated learning whose rounds are agreed by a consensus made for learning.

The rooms of this package and what each may import are drawn in ARCHITECTURE.md. One round of the protocol, from
top to bottom, is `collegium.node.play_round`.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
