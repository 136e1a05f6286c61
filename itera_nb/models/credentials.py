"""Where keys come from: the environment, an ignored `.env`, or a profile of the vendor's SDK."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from itera_nb.exceptions import IteraError, StoppedError

if TYPE_CHECKING:
    from itera_nb.spec import ModelSpec

DOTENV = ".env"
NO_KEY = "none-needed"
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_CREDENTIALS = ("_KEY", "_TOKEN", "_SECRET")
_NAMED = re.compile("KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
_ASSIGNMENT = re.compile(
    r"""^[ \t]*(?:export[ \t]+)?([A-Za-z_]\w*)[ \t]*=[ \t]*(?:([^\s'"#]+)|("[^"\n]*"|'[^'\n]*'))""",
    re.MULTILINE,
)
_from_file: dict[str, str] = {}
_EDITED = ("*.toml", "*.md", "*.txt", "*.py", "arms/**/*", "iterations/**/*")
_WRITTEN = {"conclusion.md", "frame.md"}
_LARGE = 1_000_000


@dataclass(frozen=True, slots=True)
class Found:
    """Where a vendor's key stands."""

    variable: str
    source: str  # in words; never the key
    # The key, or `None` where the SDK finds credentials by itself; not shown by `repr`
    key: str | None = field(repr=False)


def key_variable(vendor: str, spec: ModelSpec | None) -> str:
    """The name of the variable that holds a vendor's key."""
    return (spec.api_key_env if spec else None) or f"{vendor.upper().replace('-', '_')}_API_KEY"


def find_key(vendor: str, spec: ModelSpec | None) -> Found:
    """A vendor's credentials.

    Raises:
        StoppedError: There are none.
    """
    variable = key_variable(vendor, spec)
    if key := os.environ.get(variable):
        place = DOTENV if key == _from_file.get(variable) else "environment"
        return Found(variable, f"found ({place})", key)
    if spec is not None and is_loopback(spec.base_url) and spec.api_key_env is None:
        return Found(variable, "not needed (this machine)", NO_KEY)
    named = spec is not None and spec.api_key_env is not None
    if vendor == "anthropic" and not named and _has_own_credentials(spec):
        return Found(variable, "not set; the SDK's own profile is used", None)
    raise StoppedError(
        f"no API key: {variable} is not set",
        fix=f"set {variable}, or name another variable as [models.{vendor}] api_key_env",
    )


def is_loopback(base_url: str | None) -> bool:
    """Whether an API is on this machine."""
    return base_url is not None and urlsplit(base_url).hostname in _LOOPBACK


def load_dotenv(folder: Path, variables: Iterable[str] = ()) -> None:
    """Put the credentials of a folder's `.env` into this process's environment; what is set already stays.

    Lines are `NAME=value`, with an optional `export` and quotes; `#` begins a comment. Only credentials are
    taken, since anything else would be a hidden setting of the experiment: names that end in `_KEY`, `_TOKEN`
    or `_SECRET`, and those of `variables` that sound like one, as a committed file must not set what other
    programs read (`LD_PRELOAD`). A value that came from another experiment's `.env` is replaced.
    """
    try:
        text = (folder / DOTENV).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return
    taken = {name for name in variables if _NAMED.search(name)}
    for name, bare, quoted in _ASSIGNMENT.findall(text):
        value = quoted[1:-1] or bare
        set_elsewhere = name in os.environ and os.environ[name] != _from_file.get(name)
        if value and not set_elsewhere and (name in taken or name.endswith(_CREDENTIALS)):
            os.environ[name] = _from_file[name] = value


def refuse_keys(folder: Path) -> None:
    """Refuse a folder in whose files a vendor's key stands: they are committed, sent around and quoted.

    Files are those that a person writes: `arms/answer.py:12`, `notebooks/3-run.ipynb, cell 4`. What is larger
    than 1 MB is data.

    Raises:
        IteraError: Naming the places; a value is never repeated.
    """
    from itera_nb.spec import looks_like_a_key

    if places := [place for place, line in _written_lines(folder) if looks_like_a_key(line)]:
        fix = f"withdraw it; keys stand in the environment or in {DOTENV}"
        raise IteraError(f"{'; '.join(places)}: looks like a key", fix=fix)


def _written_lines(folder: Path) -> Iterator[tuple[str, str]]:
    paths = {path for pattern in _EDITED for path in folder.glob(pattern)}
    for path in sorted(p for p in paths if p.name not in _WRITTEN and p.is_file()):
        if path.stat().st_size <= _LARGE:
            lines = path.read_text("utf-8", errors="replace").splitlines()
            where = path.relative_to(folder).as_posix()
            yield from ((f"{where}:{number}", line) for number, line in enumerate(lines, 1))
    for path in sorted(folder.glob("notebooks/*.ipynb")):
        try:
            cells = json.loads(path.read_bytes())["cells"]
            sources = ["".join(cell["source"]) for cell in cells]
        except (ValueError, KeyError, TypeError):
            continue  # not a notebook: what is wrong with it is said when it runs
        yield from ((f"notebooks/{path.name}, cell {n}", source) for n, source in enumerate(sources, 1))


def _has_own_credentials(spec: ModelSpec | None) -> bool:
    """Whether Anthropic's SDK finds a token, a profile or a workload identity by itself."""
    import anthropic

    try:
        with anthropic.Anthropic(base_url=spec.base_url if spec else None) as client:
            return client.auth_token is not None or client.credentials is not None
    except anthropic.AnthropicError as error:
        raise StoppedError(
            f"the SDK's own profile cannot be used ({type(error).__name__})",
            fix="mend the profile, or set ANTHROPIC_API_KEY",
        ) from None
