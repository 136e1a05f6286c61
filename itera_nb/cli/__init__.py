"""The command line: `itera`. One module a command group, imported only when its command runs."""

from __future__ import annotations

import os
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from itera_nb.exceptions import IteraError, out_of_space

COMMANDS = {  # name -> its module and what it is for
    "compare": ("compare", "Results that exist already: ten seconds, no folder, never ship."),
    "new": ("new", "Make an experiment folder from a data file and two arms."),
    "plan": ("run", "Odds of each outcome before a cent is spent."),
    "seal": ("seal", "Phases 0 and 1: lock the frame, sample, split, seal; --recipient for escrow."),
    "screen": ("run", "Any number of arms on train only, to choose three."),
    "run": ("run", "Phases 0-4 headless: lock, sample, seal, score, diagnose."),
    "verdict": ("run", "Open the sealed test set, once, and conclude."),
    "extend": ("run", "One registered top-up of the test set, after an inconclusive verdict."),
    "amend": ("run", "Record a change of something locked, for good."),
    "scan": ("seal", "Look for sealed rows in the project's files and git history."),
    "reseal": ("seal", "Move leaked rows from test to dev, and seal fresh ones."),
    "evict": ("seal", "Seal or remove the raw source, so that nobody can subtract."),
    "rate": ("rate", "Rate dev outputs blind, where a person checks the judge."),
    "labels": ("rate", "Audit the labels of rows that every arm fails."),
    "judge-check": (
        "judge_check",
        "Audit an LLM judge: no folder, a second opinion, a verdict on the judge.",
    ),
    "status": ("show", "Where this experiment stands, and the next command."),
    "show": ("show", "The recorded conclusion."),
    "verify": ("show", "Recompute everything and compare it with the record."),
    "anchor": ("seal", "Commit this folder with its record's head as a trailer."),
    "keys": ("keys", "Who can open what; new FILE makes a custodian's key."),
    "charts": ("show", "Draw the three charts of any data.json."),
    "demo": ("new", "A whole experiment on real data, without a key."),
    "doctor": ("doctor", "Keys, models, prices and this machine, checked without paying."),
}
FOLDER = click.argument("folder", default=".", type=click.Path(path_type=Path))
OUTCOME_CODES = {"ship": 0, "scope": 10, "kill": 20, "inconclusive": 30, "retrospective": 40}


class _Lazy(click.Group):
    """A group that knows its commands' summaries without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"itera_nb.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.command(
    cls=_Lazy, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="itera-nb", prog_name="itera")
@click.pass_context
def itera(ctx: click.Context) -> None:
    """Should we ship this prompt, model or retriever, and can we defend it?

    Exit codes: 0 ship, 10 scope, 20 kill, 30 inconclusive, 40 retrospective, 2 bad input, 3 refused,
    4 record broken.
    """
    if ctx.invoked_subcommand is None:
        command = _Lazy.get_command(itera, ctx, "status")
        assert command is not None
        ctx.invoke(command)


def main() -> None:
    """Run the command line; every error says what, where and how to go on."""
    try:
        code: Any = itera.main(standalone_mode=False)
    except IteraError as error:
        _say(str(error))
        if error.exit_code == 3:
            _say(f"{'':68}exit 3")
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted: what was finished is kept; run the same command again")
        sys.exit(130)
    except Exception as error:  # noqa: BLE001
        if os.environ.get("ITERA_DEBUG"):
            traceback.print_exc()
        if known := out_of_space(error):
            _say(str(known))
            sys.exit(known.exit_code)
        _say(f"unexpected {type(error).__name__}: {error}")
        _say(
            "fix      this is a fault of itera-nb: set ITERA_DEBUG=1, run it again, and report what it prints"
        )
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _say(text: str) -> None:
    click.echo(text, err=True)
