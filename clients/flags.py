"""Flags of a command on the robot's side: they read as the server's do."""

from service.flags import parse_flags

__all__ = ["parse_flags"]
