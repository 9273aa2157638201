"""What a process says to its caller when it ends, and how it says what went wrong."""

from typing import Final

from collegium.errors import CollegiumError

__all__ = ["ExitCode", "error_lines"]


class ExitCode:
    """What the process says to its caller."""

    GOOD: Final = 0
    FAILED: Final = 1
    USER: Final = 2
    WORLD: Final = 3
    BUG: Final = 70
    INTERRUPTED: Final = 130


def error_lines(error: CollegiumError) -> list[str]:
    """Return an error's lines: one for each of its problems, where it lists some."""
    problems = error.values.get("problems")
    return [str(problem) for problem in problems] if isinstance(problems, tuple) else [str(error)]
