"""What runs inside a worker process: load a target, fit it, answer.

Nothing here raises for what user code does, and only JSON values leave the process. Imports stay light: a
worker is up in about 0.2 s.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.util
import inspect
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import FileFinder, SourceFileLoader
from multiprocessing.connection import Connection
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Literal, NoReturn, TypeAlias

from itera_nb._typing import JSON
from itera_nb.arms.caller import Answer, bad_report, is_amount
from itera_nb.arms.output import Output
from itera_nb.arms.track import Tracked, is_tracking, tracking

Mode: TypeAlias = Literal["rows", "async", "chunks"]
Item: TypeAlias = tuple[Any, ...]
MESSAGE_LIMIT = 2000


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker needs to load a target.

    Args:
        root: Folder that `target` is relative to.
        target: `path/file.py:Symbol`.
        path: Entries of `sys.path` after the target's own folder.
        quiet: Whether output is discarded and errors are reduced to their type: both may hold row text.
        call: Whether the target is called with whole items (a scorer) and may return null.
        params: Keyword arguments of the class, or of every call of a function.
        fit_rows: Rows for `fit`.
        seed: Seed for `fit`.
        resources: Files for `fit`.
        concurrency: Calls in flight of an async function.
        timeout_s: Seconds that one call of an async function may take.
    """

    root: Path
    target: str
    path: tuple[str, ...]
    quiet: bool = False
    call: bool = False
    params: Mapping[str, Any] = field(default_factory=dict)
    fit_rows: Sequence[Mapping[str, Any]] = ()
    seed: int = 0
    resources: Mapping[str, Path] = field(default_factory=dict)
    concurrency: int = 16
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something did not come about: an exception's type (or `Timeout`, `Crash`, ...) and its message."""

    error_type: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Loaded:
    setup: Setup
    module: ModuleType
    mode: Mode
    answer: Callable[..., Any]
    loop: asyncio.AbstractEventLoop | None


_state: dict[str, _Loaded] = {}


def serve(pipe: Connection, scratch: Path, *, quiet: bool) -> None:
    """Answer requests (a name, an argument) from the parent until it closes the pipe."""
    _detach(scratch, quiet=quiet)
    handlers: dict[str, Callable[[Any], Any]] = {"start": start, "run": run, "constant": constant, "ran": ran}
    while True:
        try:
            name, argument = pipe.recv()
            pipe.send(handlers[name](argument))
        except (EOFError, OSError):  # the parent is gone
            _leave(scratch)


def start(setup: Setup) -> Mode | Failure:
    """Load the target and fit it; how it wants its items, or why it is not ready."""
    try:
        _state["loaded"] = loaded = _load(setup)
    except BaseException as error:  # noqa: BLE001 - whatever an arm raises must not end the worker
        return _failure(error, setup)
    return loaded.mode


def run(items: Sequence[Item]) -> list[Answer] | Failure:
    """Answer items in their order, or say why a whole chunk has no answers."""
    loaded = _state["loaded"]
    if loaded.mode == "chunks":
        return _predict(loaded, items)
    if loaded.loop is not None:
        return loaded.loop.run_until_complete(_gather(loaded, items))
    return [_call(loaded, item) for item in items]


def ran(argument: tuple[Sequence[Item], Mapping[str, Sequence[int]]]) -> list[bool]:
    """For each item, whether answering it ran any of these lines (file -> line numbers)."""
    import coverage

    items, lines = argument
    wanted = {str(Path(file).resolve()): set(numbers) for file, numbers in lines.items()}
    found = []
    for item in items:
        measured = coverage.Coverage(data_file=None, config_file=False, include=list(wanted))
        with measured.collect():
            run([item])
        data = measured.get_data()
        found.append(any(numbers & set(data.lines(file) or ()) for file, numbers in wanted.items()))
    return found


def constant(name: str) -> JSON:
    """A module-level constant of the loaded target's module as a JSON value, null if there is none."""
    return to_json(getattr(_state["loaded"].module, name, None))


def to_json(value: Any) -> JSON:
    """A value as plain JSON types; half a surrogate pair, which no file can hold, becomes "?".

    Raises:
        ValueError: It holds NaN or infinity, or refers to itself.
        TypeError: It holds something that JSON has no form for.
    """
    escaped = json.dumps(value, allow_nan=False, default=_plain)
    # Read back, the two halves of a pair are one character again; what is left of one is not.
    text = json.dumps(json.loads(escaped), ensure_ascii=False)
    plain: JSON = json.loads(text.encode(errors="replace"))
    return plain


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return value.tolist()
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def _detach(scratch: Path, *, quiet: bool) -> None:
    """Own process group, own output, deaf to Ctrl-C, and no life after the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setsid"):
        os.setsid()
    output = os.devnull if quiet else scratch / "output"
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    parent = os.getppid()

    def leave_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        _leave(scratch)

    threading.Thread(target=leave_with_parent, daemon=True).start()


def _leave(scratch: Path) -> NoReturn:
    """End without a parent, which can no longer remove what this process printed."""
    import shutil

    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(1)


def _load(setup: Setup) -> _Loaded:
    file, _, symbol = setup.target.partition(":")
    path = (setup.root / file).resolve()
    sys.path[:] = [str(path.parent), *setup.path]
    _ignore_bytecode(setup.root.resolve())
    module = _import(path)
    found = getattr(module, symbol)
    if inspect.isclass(found):
        instance = found(**setup.params)
        if hasattr(instance, "fit"):
            _fit(instance.fit, setup)
        if hasattr(instance, "predict"):
            return _Loaded(setup, module, "chunks", instance.predict, None)
        found = instance
        params: Mapping[str, Any] = {}
    else:
        params = setup.params
    if not callable(found):
        raise TypeError(f"{symbol} is neither a function nor a class with predict")
    is_async = inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(
        getattr(found, "__call__", None)  # noqa: B004 - async __call__ of an instance
    )
    loop = asyncio.new_event_loop() if is_async else None
    return _Loaded(setup, module, "async" if is_async else "rows", lambda *a: found(*a, **params), loop)


class _SourceOnly(SourceFileLoader):
    """Compiles a file anew: bytecode lying beside a snapshot could have been planted there."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def _ignore_bytecode(root: Path) -> None:
    """Import everything below `root` from source; installed packages keep their bytecode."""
    source_only = FileFinder.path_hook((_SourceOnly, [".py"]))

    def below_root(entry: str) -> Any:
        if not Path(entry).resolve().is_relative_to(root):
            raise ImportError(entry)
        return source_only(entry)

    sys.path_hooks.insert(0, below_root)
    sys.path_importer_cache.clear()


def _import(path: Path) -> ModuleType:
    if path.stem in sys.stdlib_module_names:
        raise ImportError(
            f"{path.name} has the name of a standard library module; give the file another name"
        )
    loader = _SourceOnly(path.stem, str(path))
    spec = importlib.util.spec_from_file_location(path.stem, path, loader=loader)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _fit(fit: Callable[..., Any], setup: Setup) -> None:
    parameters = inspect.signature(fit).parameters
    accepts_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    offered = {"seed": setup.seed, "resources": dict(setup.resources)}
    named = {name: value for name, value in offered.items() if accepts_any or name in parameters}
    takes_rows = any(
        p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL} and name not in named
        for name, p in parameters.items()
    )
    fit(*([list(setup.fit_rows)] if takes_rows else []), **named)


def _call(loaded: _Loaded, item: Item) -> Answer:
    begun = time.perf_counter()
    with tracking() as tracked:
        try:
            value = loaded.answer(*item)
        except BaseException as error:  # noqa: BLE001 - SystemExit and the like are the arm's failure too
            return _used(_failed(_failure(error, loaded.setup), begun), tracked)
        return _used(_answer(loaded.setup, value, _since(begun)), tracked)


async def _gather(loaded: _Loaded, items: Sequence[Item]) -> list[Answer]:
    slots = asyncio.Semaphore(loaded.setup.concurrency)

    async def one(item: Item) -> Answer:
        async with slots:
            with tracking() as tracked:
                return _used(await answer(item), tracked)

    async def answer(item: Item) -> Answer:
        begun = time.perf_counter()
        limit = loaded.setup.timeout_s
        try:
            async with asyncio.timeout(limit) as deadline:
                value = await loaded.answer(*item)
        except BaseException as error:  # noqa: BLE001 - as in _call
            if isinstance(error, TimeoutError) and deadline.expired():
                return late(limit)
            return _failed(_failure(error, loaded.setup), begun)
        return _answer(loaded.setup, value, _since(begun))

    return list(await asyncio.gather(*map(one, items)))


def _predict(loaded: _Loaded, items: Sequence[Item]) -> list[Answer] | Failure:
    begun = time.perf_counter()
    try:
        with tracking() as tracked:
            outputs = loaded.answer([row for (row,) in items])
            if isinstance(outputs, str | bytes | Mapping):
                return Failure(
                    "WrongLength", f"predict returned a {type(outputs).__name__}, not a list of outputs"
                )
            outputs = list(outputs)
    except BaseException as error:  # noqa: BLE001 - as in _call
        return _failure(error, loaded.setup)
    if len(outputs) != len(items):
        return Failure("WrongLength", f"predict returned {len(outputs)} outputs for {len(items)} rows")
    share, amortised = _since(begun) / len(items), len(items) > 1
    found = [dataclasses.replace(_answer(loaded.setup, o, share), amortised=amortised) for o in outputs]
    return [_used(one, part) for one, part in zip(found, tracked.shares(len(found)), strict=True)]


def _used(answer: Answer, tracked: Tracked) -> Answer:
    """The answer with what tracked clients used for it, unless the arm says itself what it cost."""
    if answer.usage or answer.cost_usd is not None or not is_tracking():
        return answer
    if not tracked.calls:
        return dataclasses.replace(answer, cost_usd=0.0)
    usage = [dict(call) for call in tracked.calls]
    first = tracked.first_token_ms if answer.first_token_ms is None else answer.first_token_ms
    return dataclasses.replace(answer, usage=usage, first_token_ms=first)


def late(limit_s: float) -> Answer:
    """The answer that did not come within `limit_s` seconds."""
    return Answer(
        "timeout", error_type="Timeout", error=f"no answer within {limit_s:g} s", latency_ms=1000 * limit_s
    )


def _answer(setup: Setup, value: Any, latency_ms: float) -> Answer:
    wrapped = value if isinstance(value, Output) else Output(value)
    try:
        usage = to_json([dict(u) for u in wrapped.usage])
        trace, output = to_json(wrapped.trace), to_json(wrapped.value)
        cost, first = to_json(wrapped.cost_usd), to_json(wrapped.first_token_ms)
    except Exception as error:  # noqa: BLE001 - a user's object may raise anything when looked at
        kind = "NaN" if isinstance(error, ValueError) and "Out of range" in str(error) else "NotJSON"
        return Answer("invalid", error_type=kind, error=_message(error, setup), latency_ms=latency_ms)
    if not (is_amount(cost) and is_amount(first)):
        said = "cost_usd or first_token_ms is no amount"
        return bad_report(said, usage, cost, latency_ms)
    facts: dict[str, Any] = {
        "usage": usage,
        "trace": trace,
        "cost_usd": cost,
        "first_token_ms": first,
        "latency_ms": latency_ms,
    }
    if wrapped.error is not None:
        message = "" if setup.quiet else str(wrapped.error)[:MESSAGE_LIMIT]
        return Answer("error", error_type="Reported", error=message, **facts)
    if output is None and not setup.call:
        return Answer("invalid", error_type="None", error="the output is None", **facts)
    return Answer("ok", output, **facts)


def _failed(failure: Failure, begun: float) -> Answer:
    return Answer("error", error_type=failure.error_type, error=failure.error, latency_ms=_since(begun))


def _failure(error: BaseException, setup: Setup) -> Failure:
    return Failure(type(error).__name__, _message(error, setup))


def _message(error: BaseException, setup: Setup) -> str:
    if setup.quiet:
        return ""
    own = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if f.filename.startswith(str(setup.root.resolve()))
    ]
    where = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
    try:
        return f"{str(error)[:MESSAGE_LIMIT]}{where}"
    except Exception:  # noqa: BLE001 - a user's exception may fail to print
        return where.strip()


def _since(begun: float) -> float:
    return 1000 * (time.perf_counter() - begun)
