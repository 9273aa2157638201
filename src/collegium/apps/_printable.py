"""What a terminal may be shown: the command line and the live table escape everything else."""

__all__ = ["printable"]


def printable(text: str) -> str:
    """Return `text` on one line with every control character escaped.

    What is shown may come from a hostile run folder; a terminal must not obey it.
    """
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
