"""A member whose import starts a thread: it must not be forked."""

from _fake_member import main, threaded

__all__ = ["main", "preload"]

preload = threaded
