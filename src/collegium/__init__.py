"""Federated learning whose rounds are agreed by a consensus made for learning.

`collegium.Federation` is a whole federation in a notebook. The rooms of this package and what each may import are drawn
in ARCHITECTURE.md. One round of the protocol, from top to bottom, is `collegium.node.play_round`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collegium.apps.federation import Federation

__version__ = "0.1.0"
__all__ = ["Federation", "__version__"]


def __getattr__(name: str) -> object:
    """Return what is loaded only when it is asked for: `import collegium` itself loads nothing."""
    if name == "Federation":
        return import_module("collegium.apps.federation").Federation
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
