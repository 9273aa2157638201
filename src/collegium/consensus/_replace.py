"""`dataclasses.replace` for states of many fields, of which a step changes few: what is alike is copied at once.

The plain version calls the class for each copy, which sets field after field; a round's state has some fifty, and a
step makes several copies.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import TYPE_CHECKING, Any

__all__ = ["replace"]

if TYPE_CHECKING:  # the same function to who checks that a field exists and takes such a value
    from dataclasses import replace
else:

    def replace(instance: Any, /, **changes: Any) -> Any:
        """Return a copy of a dataclass with some fields changed; what it derived from changed ones is derived anew.

        A class that has `DERIVED`, name -> the fields that this is derived from, keeps it while those stay.

        Raises:
            TypeError: there is no such field.
        """
        names = _names(type(instance))
        if names is None:
            return dataclasses.replace(instance, **changes)
        if not changes.keys() <= names:
            unknown = sorted(changes.keys() - names)
            raise TypeError(f"{type(instance).__name__} has no field {', '.join(unknown)}")
        held, copy = vars(instance), object.__new__(type(instance))
        vars(copy).update(held)
        if len(held) > len(names):
            sources = getattr(type(instance), "DERIVED", {})
            for name in held.keys() - names:
                if name not in sources or not changes.keys().isdisjoint(sources[name]):
                    del vars(copy)[name]
        vars(copy).update(changes)
        return copy


@lru_cache(maxsize=64)
def _names(kind: type) -> frozenset[str] | None:
    """Return the fields of a class whose instances are these and nothing else, or None: then it must be called."""
    fields = dataclasses.fields(kind)
    plain = all(part.init for part in fields) and not hasattr(kind, "__post_init__") and hasattr(kind, "__dict__")
    return frozenset(part.name for part in fields) if plain and not hasattr(kind, "__slots__") else None
