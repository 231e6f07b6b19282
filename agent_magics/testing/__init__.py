"""What those need who test a server or a client of this protocol."""

from . import conformance

__all__ = ["conformance"]
