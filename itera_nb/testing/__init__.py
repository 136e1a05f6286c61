"""For tests of experiments: a model's API on loopback."""

from .messages_server import MessagesServer, Scripted

__all__ = ["MessagesServer", "Scripted"]
