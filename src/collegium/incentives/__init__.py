"""Scores, reputation, rewards and faults, as exact integers: to come."""

__all__ = ()
