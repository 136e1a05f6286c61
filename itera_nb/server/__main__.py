"""Processes of the server: `job FOLDER ACTION ID` runs an action, `create` and `answer` take a request."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Do what the server asked for."""
    if arguments[:1] == ["job"]:
        from .work import work

        folder, action, id_ = arguments[1:]
        work(Path(folder), action, id_)
        return 0
    from itera_nb.isolated import answer_as_json

    from .make import answer, make

    act = {"create": make, "answer": answer}[arguments[0]]
    return answer_as_json(lambda: act(json.load(sys.stdin)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
