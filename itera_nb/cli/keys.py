"""`itera keys`: who can open what on this computer; `itera keys new`: a custodian's key."""

from __future__ import annotations

import json
from pathlib import Path

import click

from itera_nb.exceptions import IteraError

HERE = click.Path(path_type=Path)


@click.group(invoke_without_command=True)
@click.pass_context
def keys(ctx: click.Context) -> None:
    """Custody of the experiment here and of this computer: names, places and public keys only."""
    if ctx.invoked_subcommand is None:
        _experiment(Path())
        _computer()


@keys.command()
@click.argument("file", type=HERE)
@click.option("--name", default="", help="Whose key it is; it stands behind the public key.")
def new(file: Path, name: str) -> None:
    """Make a custodian's private key in FILE (mode 0600, outside any repository); prints the public one."""
    import pyrage

    from itera_nb.seal.custody import write_private
    from itera_nb.seal.git import root_of
    from itera_nb.seal.recipients import FILE, Recipient

    folder = file.resolve().parent
    if not folder.is_dir():
        raise IteraError(f"there is no folder {folder}", fix="make it, or give another place")
    if root := root_of(folder):
        raise IteraError(
            f"{file} would stand in the repository {root}: a private key there is a commit from being public",
            fix="give a place outside it, for example: itera keys new ~/itera-custodian.key",
        )
    identity = pyrage.x25519.Identity.generate()
    try:
        write_private(file.resolve(), f"{identity}\n".encode(), exclusive=True)
    except FileExistsError:
        raise IteraError(
            f"{file} exists already", fix="choose another name; a lost key is not made again"
        ) from None
    line = Recipient(str(identity.to_public()), name).line
    click.echo(f"private key in {file} (mode 0600): keep it where the experimenter cannot read it")
    click.echo(f"public key, for {FILE} of the repository or itera seal --recipient:\n{line}")


def _experiment(folder: Path) -> None:
    from itera_nb.experiment import Experiment
    from itera_nb.seal import custody
    from itera_nb.seal.recipients import find, read

    path = find(folder.resolve())
    named = read(path) if path else ()
    if not (folder / "experiment.toml").is_file():
        click.echo("experiment   none in this folder")
    else:
        experiment = Experiment(folder)
        state = experiment.state
        if state.has("sealed"):
            held = experiment.custody
            click.echo(f"experiment   {experiment.name}: {held.words}")
            if not held.escrow:
                in_file = held.local == "file"
                where = custody.named("keys", experiment.genesis) if in_file else "system keyring"
                click.echo(f"             key in {where}")
        else:
            kept = f"escrow ({', '.join(r.name for r in named)})" if named else f"local ({custody.place()})"
            click.echo(f"experiment   {experiment.name}: not sealed yet; it will be: {kept}")
    for number, one in enumerate(named):
        click.echo(f"{'recipients' if not number else '':12} {one.line}")
    if path:
        click.echo(f"{'':12} in {path}")


def _computer() -> None:
    """The secrets and heads in the state directory; keys in the system keyring are not listed by it."""
    from itera_nb.seal import custody

    state = custody.state_dir()
    click.echo(f"computer     {state}   new keys go to: {custody.place()}")
    held = {path.stem for path in (state / "keys").glob("*.json")}
    for path in sorted((state / "heads").glob("*.json")):
        head = json.loads(path.read_bytes())
        where = (head.get("folders") or ["unknown folder"])[-1]
        key = "key file" if path.stem in held else "no key file"
        click.echo(f"{'':12} {path.stem[:12]}  record {head['seq']:<4} {key:12} {where}")
    if custody.has_identity():
        click.echo(f"{'':12} {custody.IDENTITY} or {custody.IDENTITY_FILE} is set: a recipient's private key")
