"""The bytes of an SQLite file that hold nothing, set to zero (https://sqlite.org/fileformat2.html, "B-tree Pages")."""

from typing import Final

LIBRARY_VERSION: Final = slice(96, 100)
"""Where SQLite notes the version of the library that wrote a file."""
FILE_HEADER_BYTES: Final = 100
_HEADER_BYTES: Final = {2: 12, 5: 12, 10: 8, 13: 8}  # by type of B-tree page: inner nodes name a rightmost child


def blanked(data: bytes, page_bytes: int) -> bytes:
    """Return a compacted database without what depends on the library that wrote it.

    That is the library's version, and in each B-tree page the gap between its cells and the pointers to them, in which
    some versions leave bytes behind. What readers see is the same.
    """
    file = bytearray(data)
    file[LIBRARY_VERSION] = bytes(LIBRARY_VERSION.stop - LIBRARY_VERSION.start)
    for page in range(0, len(file), page_bytes):
        head = page or FILE_HEADER_BYTES  # the first page begins with the file's own header
        if file[head] in _HEADER_BYTES:
            cells, content = (int.from_bytes(file[head + at : head + at + 2], "big") for at in (3, 5))
            start = head + _HEADER_BYTES[file[head]] + 2 * cells
            file[start : page + content] = bytes(max(0, page + content - start))
    return bytes(file)
