"""Proofs of learning: relations, prover, verifier, hardware quotes: to come."""

__all__ = ()
