"""`python -m itera_nb.testing`: the loopback server as a process; prints its URL, ends with Ctrl-C."""

from __future__ import annotations

import argparse
import hashlib
import threading
from collections.abc import Sequence

from .messages_server import MessagesServer
from .script import Answers, Prompt, echo


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted."""
    options = _parser().parse_args(arguments)
    server = MessagesServer(
        _answers(options.answers.split(",")) if options.answers else echo,
        latency_s=options.latency,
        faults=_faults(options.fault),
        retry_after_s=_range(options.retry_after),
        batch_s=options.batch_seconds,
        keep=False,
        seed=options.seed,
        port=options.port,
    )
    with server:
        print(server.url, flush=True)  # noqa: T201 - the caller reads it
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m itera_nb.testing", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--fault", default="", help="shares of failing calls: 429=0.07,529=0.03,reset=0.01")
    parser.add_argument("--retry-after", default="0.2:1.0", help="seconds that a 429 or 529 asks to wait")
    parser.add_argument(
        "--answers", default="", help="a,b,c: one of them, by the prompt's hash; else an echo"
    )
    parser.add_argument("--batch-seconds", type=float, default=0.0, help="seconds that a batch takes")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    return parser


def _answers(labels: Sequence[str]) -> Answers:
    def answer(prompt: Prompt) -> str:
        digest = hashlib.blake2b(prompt.encode(), digest_size=8).digest()
        return labels[int.from_bytes(digest, "big") % len(labels)]

    return answer


def _faults(text: str) -> dict[str, float]:
    pairs = (part.partition("=") for part in text.split(",") if part)
    return {kind: float(share) for kind, _, share in pairs}


def _range(text: str) -> tuple[float, float]:
    low, _, high = text.partition(":")
    return float(low), float(high or low)


if __name__ == "__main__":
    main()
