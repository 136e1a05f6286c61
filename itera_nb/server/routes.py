"""The REST handlers under `/itera/`: authenticated, confined to the root, never blocking the event loop."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado.iostream import StreamClosedError
from tornado.web import Application

from itera_nb.exceptions import IteraError, Refusal
from itera_nb.isolated import answered
from itera_nb.spec import hide_keys

from . import jobs
from .actions import IDS, Refused, actions
from .folders import Root
from .openapi import JOB, JOB_ANSWER, PATH, REFUSED, TEXT, answer, document, many, operation, record, ref
from .panel import Panel

T = TypeVar("T")
LOOK_SECONDS = 0.25
QUIET_SECONDS = 15.0
MAX_BODY = 64 * 1024
SEE = "see /itera/openapi.json"


class _Handler(APIHandler):  # type: ignore[misc]
    """A handler that works in threads and answers in JSON, errors and refusals too."""

    def initialize(self, panel: Panel, pool: ThreadPoolExecutor) -> None:
        self.panel, self.pool = panel, pool

    async def work(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run `function` off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, partial(function, *arguments))

    async def isolated(self, act: str, request: dict[str, Any]) -> str:
        """Act in a process of its own: reading a data file must not be able to bring the server down.

        Raises:
            Refusal, IteraError: Whatever it answered with.
        """
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "itera_nb.server", act),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=self.panel.root.folder,
        )
        answer, _ = await process.communicate(json.dumps(request).encode())
        return str(answered(answer.decode("utf-8", "replace")))

    def reply(self, value: Any, status: int = 200) -> None:
        """Answer with a JSON value."""
        self.set_status(status)
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(value))

    def body(self, *texts: str) -> dict[str, Any]:
        """The request's JSON object, with these texts in it.

        Raises:
            IteraError: If it is none, or one of them is missing or not a text.
        """
        if len(self.request.body) > MAX_BODY:
            raise IteraError("the request's body is larger than 64 KB", fix="send less")
        try:
            value = json.loads(self.request.body)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise IteraError("the request's body is not a JSON object", fix=SEE)
        for name in texts:
            if not isinstance(value.get(name), str):
                raise IteraError(f"{name} is missing or not a text", fix=SEE)
        return value

    @property
    def place(self) -> str:
        """The `path` that the request names."""
        return str(self.get_query_argument("path", strip=False))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Every error as `{"error": {what, where, fix}}`, every refusal as `{"refusal": …}`."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        self.set_header("Content-Type", "application/json")
        if isinstance(error, Refusal):
            self.set_status(409)
            self.finish(json.dumps({"refusal": asdict(Refused.of(error))}))
            return
        what, fix = self._reason, SEE
        if isinstance(error, IteraError):
            self.set_status(getattr(error, "status", 400))
            what, fix = error.what, error.fix
        elif status_code >= 500:
            fix = "this is a fault of itera-nb: please report it"
        body = {"what": hide_keys(what), "where": self.request.path, "fix": hide_keys(fix)}
        self.finish(json.dumps({"error": body}))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log faults, not what a user is told anyway."""
        if not isinstance(value, IteraError):
            super().log_exception(typ, value, tb)


class ExperimentsHandler(_Handler):
    """The list of experiments, and new ones."""

    @operation("listExperiments", {"200": answer(record({"experiments": many(ref("Summary"))}))})
    async def get(self) -> None:
        """Every experiment, newest first."""
        self.reply({"experiments": await self.work(self.panel.summaries)})

    @operation("makeExperiment", {"201": answer(ref("Made"))}, body="New")
    async def post(self) -> None:
        """A new experiment, or the demo's."""
        body = self.body("under")
        under = self.panel.root.inside(body["under"])
        request = {**body, "under": str(under), "root": str(self.panel.root.folder)}
        folder = Path(await self.isolated("create", request))
        self.panel.root.forget()
        path = self.panel.root.relative(folder)
        self.reply({"path": path, "notebook": f"{path}/notebooks/0-frame.ipynb"}, 201)


class ExperimentHandler(_Handler):
    """One experiment."""

    @operation("getExperiment", {"200": answer(ref("Detail"))}, PATH)
    async def get(self) -> None:
        """One experiment, with everything that the panel shows of it."""
        self.reply(await self.work(self.panel.detail, self.place))


class NotebookHandler(_Handler):
    """What a notebook's toolbar says."""

    @operation("getNotebook", {"200": answer(ref("Chip"))}, PATH)
    async def get(self) -> None:
        """What a notebook's toolbar says of its experiment."""
        self.reply(await self.work(self.panel.chip, self.place))


class AnswersHandler(_Handler):
    """A person's answers to what safeguards ask."""

    @operation("answer", {"200": answer(ref("Recorded")), "409": REFUSED}, body="Answer")
    async def post(self) -> None:
        """A person's reason where a safeguard asks; the conclusion prints it."""
        body = self.body("path", "safeguard", "why")
        folder = await self.work(self.panel.root.experiment, body["path"])
        self.reply({"text": await self.isolated("answer", {**body, "folder": str(folder)})})


class JobsHandler(_Handler):
    """The jobs of an experiment."""

    @operation("listJobs", {"200": answer(record({"jobs": many(ref("Job"))}))}, PATH)
    async def get(self) -> None:
        """Every job, newest first."""
        self.reply({"jobs": await self.work(self.panel.every_job, self.place)})

    @operation("startJob", {"201": JOB_ANSWER, "409": REFUSED}, body="Wanted")
    async def post(self) -> None:
        """Start an action."""
        body = self.body("path", "action")
        confirmed = body.get("confirmed") is True
        self.reply(await self.work(self._start, body["path"], body["action"], confirmed), 201)

    def _start(self, path: str, action: str, confirmed: bool) -> Any:
        if action not in IDS:
            raise IteraError("there is no such action", fix=f"one of: {', '.join(IDS)}")
        experiment, state = self.panel.state(path)
        wanted = next(found for found in actions(state) if found.id == action)
        if wanted.refusal is not None:
            experiment.refuse(wanted.refusal)
        if wanted.confirm is not None and not confirmed:
            raise IteraError(f"a person answers this first: {wanted.confirm}", fix='send "confirmed": true')
        return self.panel.shown(jobs.start(experiment.folder, action), experiment.folder)


class JobHandler(_Handler):
    """One job."""

    @operation("getJob", {"200": JOB_ANSWER}, PATH, JOB)
    async def get(self, job: str) -> None:
        """One job, with what it left to look at."""
        self.reply(await self.work(self.panel.job, self.place, job))

    @operation("interruptJob", {"202": JOB_ANSWER}, PATH, JOB)
    async def delete(self, job: str) -> None:
        """Interrupt a job; what is finished is kept."""
        self.reply(await self.work(partial(self.panel.job, interrupt=True), self.place, job), 202)


EVENTS = answer(
    TEXT, "text/event-stream", 'An event "job" whose data is a Job, at every change; ends with the job.'
)


class EventsHandler(_Handler):
    """One job as server-sent events."""

    @operation("watchJob", {"200": EVENTS}, PATH, JOB)
    async def get(self, job: str) -> None:
        """Follow a job, until it has ended."""
        path, before, quiet = self.place, None, 0.0
        shown = await self.work(self.panel.job, path, job)
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Accel-Buffering", "no")
        try:
            while True:
                if shown != before or quiet >= QUIET_SECONDS:
                    quiet = 0.0
                    self.write(f"event: job\ndata: {json.dumps(shown)}\n\n" if shown != before else ": \n\n")
                    await self.flush()
                if shown["state"] != "running":
                    return
                before = shown
                await asyncio.sleep(LOOK_SECONDS)
                quiet += LOOK_SECONDS
                shown = await self.work(self.panel.job, path, job)
        except StreamClosedError:
            return


class OpenApiHandler(_Handler):
    """The description of all this."""

    @operation("describe", {"200": answer({"type": "object"})})
    async def get(self) -> None:
        """This document."""
        self.reply(document(ROUTES))


ROUTES: dict[str, type[_Handler]] = {
    "/itera/experiments": ExperimentsHandler,
    "/itera/experiment": ExperimentHandler,
    "/itera/notebook": NotebookHandler,
    "/itera/answers": AnswersHandler,
    "/itera/jobs": JobsHandler,
    "/itera/jobs/{id}": JobHandler,
    "/itera/jobs/{id}/events": EventsHandler,
    "/itera/openapi.json": OpenApiHandler,
}


def add_handlers(app: Application, root: str) -> None:
    """Put the handlers into a server's web application."""
    shared = {"panel": Panel(Root(root)), "pool": ThreadPoolExecutor(4, thread_name_prefix="itera")}
    base = app.settings["base_url"]
    rules = [
        (url_path_join(base, path.replace(".", r"\.").replace("{id}", "([^/]+)")), handler, shared)
        for path, handler in ROUTES.items()
    ]
    app.add_handlers(".*$", rules)
