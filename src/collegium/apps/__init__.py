"""What people touch: the command line, the report page, `collegium.Federation`. Nothing imports this room."""

__all__ = ()
