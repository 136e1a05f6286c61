"""The loopback server as a process; prints its URL, ends with Ctrl-C."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from contextlib import suppress

import click

from .messages_server import MessagesServer
from .script import Answers, Prompt, echo


@click.command(help=__doc__)
@click.option("--port", default=0, help="0: a free one")
@click.option("--latency", default=0.0, help="seconds before each answer")
@click.option("--fault", default="", help="shares of failing calls: 429=0.07,529=0.03,reset=0.01")
@click.option("--retry-after", default="0.2:1.0", help="seconds that a 429 or 529 asks to wait")
@click.option("--answers", default="", help="a,b,c: one of them, by the prompt's hash; else an echo")
@click.option("--batch-seconds", default=0.0, help="seconds that a batch takes")
@click.option("--seed", default=0, help="of the faults")
def main(
    port: int, latency: float, fault: str, retry_after: str, answers: str, batch_seconds: float, seed: int
) -> None:
    """Serve until interrupted."""
    shares = (part.partition("=") for part in fault.split(",") if part)
    least, _, most = retry_after.partition(":")
    server = MessagesServer(
        _one_of(answers.split(",")) if answers else echo,
        latency_s=latency,
        faults={kind: float(share) for kind, _, share in shares},
        retry_after_s=(float(least), float(most or least)),
        batch_s=batch_seconds,
        keep=False,
        seed=seed,
        port=port,
    )
    with server, suppress(KeyboardInterrupt):
        click.echo(server.url)
        threading.Event().wait()


def _one_of(labels: Sequence[str]) -> Answers:
    def answer(prompt: Prompt) -> str:
        digest = hashlib.blake2b(prompt.encode(), digest_size=8).digest()
        return labels[int.from_bytes(digest, "big") % len(labels)]

    return answer


if __name__ == "__main__":
    main()
