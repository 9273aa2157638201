"""What people touch: the command line, the report page, `collegium.Federation`. No other room imports this one."""

__all__ = ()
