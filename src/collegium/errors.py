"""The root of every error that hostile or broken input can raise.

Each room names its own subclasses. An error carries the offending value and the expectation in its message and, as
keyword values, in `values`, so that a test or a caller never parses prose.
"""

__all__ = ["CollegiumError"]


class CollegiumError(Exception):
    """Input from outside was refused.

    Args:
        message: what was found and what was expected, in one line.
        **values: the same as data, for callers and tests.
    """

    def __init__(self, message: str, **values: object) -> None:
        super().__init__(message)
        self.values = values
