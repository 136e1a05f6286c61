"""`itera judge-check`: is this judge to be trusted on these outputs, without an experiment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from itera_nb.exceptions import IteraError

_FILE = click.Path(path_type=Path)


@click.command(name="judge-check")
@click.argument("file", type=_FILE)
@click.option("--rubric", required=True, type=_FILE, help="What is good, in words: rubric.md.")
@click.option("--model", required=True, metavar="VENDOR/MODEL", help="The judge.")
@click.option(
    "--second", default="none", show_default=True, metavar="VENDOR/MODEL|human|none",
    help="A model of another family, or a worksheet for a person.",
)  # fmt: skip
@click.option("--id", "id_", required=True, metavar="COLUMN", help="Names a line.")
@click.option("--output", required=True, metavar="COLUMN", help="What is judged.")
@click.option("--against", metavar="COLUMN", help="Other outputs: the judge then compares the two.")
@click.option("--inputs", default="", metavar="COLUMNS", help="Shown with an output: subject,body.")
@click.option("--expected", metavar="COLUMN", help="A reference answer, shown to the judge.")
@click.option("--human", metavar="COLUMN", help="Human labels; empty cells are not labelled.")
@click.option("--rows", type=click.IntRange(min=2), help="Judge only so many lines, drawn at random.")
@click.option("--second-rows", default=30, show_default=True, type=click.IntRange(min=5))
@click.option(
    "--planted", default=10, show_default=True, type=click.IntRange(min=0), help="Hidden instructions."
)
@click.option(
    "--scale", default=10, show_default=True, type=click.IntRange(1, 100), help="The highest score."
)
@click.option(
    "--good-from", default=0.5, show_default=True, type=click.FloatRange(0, 1), help="Share of the scale."
)
@click.option(
    "--budget", "budget_usd", type=click.FloatRange(min=0), metavar="USD", help="For all calls of this audit."
)
@click.option(
    "--base-url", "urls", multiple=True, metavar="VENDOR=URL", help="An OpenAI-compatible endpoint."
)
@click.option("--api-key-env", "keys", multiple=True, metavar="VENDOR=NAME", help="Where the key stands.")
@click.option("--sheet", type=_FILE, help="The worksheet of --second human [FILE-ratings.csv].")
@click.option(
    "--state", type=_FILE, default=Path(".itera/judge-check"), show_default=True, help="The log's folder."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def judge_check(
    file: Path,
    id_: str,
    inputs: str,
    urls: tuple[str, ...],
    keys: tuple[str, ...],
    sheet: Path | None,
    *,
    as_json: bool,
    **options: Any,
) -> int:
    """Audit an LLM judge on outputs that exist already: FILE is CSV, Parquet or JSON lines.

    The judge rates every line; a second opinion rates a sample blind, in random order. Run it again to go on
    where it stopped: no finished call is repeated.

    Exit code: 0 trustworthy, 20 not trustworthy, 30 unclear (or nobody else looked).
    """
    from itera_nb.retrospective.judge_audit import Question, audit_judge

    question = Question(
        file=file,
        id=id_,
        inputs=tuple(dict.fromkeys(c.strip() for c in inputs.split(",") if c.strip())),
        models=_models(urls, keys),
        sheet=sheet or Path(f"{file.stem}-ratings.csv"),
        **options,
    )
    report = audit_judge(question)
    click.echo(json.dumps(report.to_json(), indent=2, allow_nan=False) if as_json else report.view.text)
    return report.exit_code


def _models(urls: tuple[str, ...], keys: tuple[str, ...]) -> dict[str, Any]:
    from pydantic import ValidationError

    from itera_nb.spec import ModelSpec

    given: dict[str, dict[str, str]] = {}
    for field, option, pairs in (("base_url", "--base-url", urls), ("api_key_env", "--api-key-env", keys)):
        for pair in pairs:
            vendor, separator, value = pair.partition("=")
            if not separator or not vendor or not value:
                raise IteraError(f"{option} {pair} names no vendor", fix=f"{option} VENDOR=VALUE")
            given.setdefault(vendor, {})[field] = value
    try:
        return {vendor: ModelSpec(**fields) for vendor, fields in given.items()}  # type: ignore[arg-type]
    except ValidationError:
        raise IteraError(
            "an address begins with http:// or https://, and a key is named by its environment variable",
            fix="--base-url local=http://127.0.0.1:8000/v1 --api-key-env local=LOCAL_KEY",
        ) from None
