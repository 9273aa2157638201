"""What people touch: the command line and the report page. Nothing imports this room."""

__all__ = ()
