"""For tests of experiments: a model's API on loopback, and a model's client without a socket."""

from .fake_client import FakeClient
from .messages_server import MessagesServer
from .script import Prompt, Scripted

__all__ = ["FakeClient", "MessagesServer", "Prompt", "Scripted"]
