"""The description of the REST interface: OpenAPI 3.1, served at `/itera/openapi.json`."""

from __future__ import annotations

from typing import Any

from itera_nb import __version__
from itera_nb.protocol import PHASES

from .actions import IDS
from .jobs import ID

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
NUMBER_OR_NULL: Schema = {"type": ["number", "null"]}
TIME: Schema = {"type": "string", "format": "date-time"}
TIME_OR_NULL: Schema = {"type": ["string", "null"], "format": "date-time"}
COUNT: Schema = {"type": "integer", "minimum": 0}
YES_OR_NO: Schema = {"type": "boolean"}
PHASE: Schema = {"enum": [*PHASES, None]}
LOCKED: Schema = {"type": "array", "items": {"enum": ["frame", "metric", "arms"]}}
ACTOR: Schema = {"enum": ["you", "itera", "custodian"]}


def _record(properties: dict[str, Schema], **more: Any) -> Schema:
    """An object with exactly these keys, all of them there."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        **more,
    }


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


SUMMARY: dict[str, Schema] = {
    "path": TEXT,
    "name": TEXT,
    "question": TEXT,
    "phase": PHASE,
    "outcome": {"enum": ["ship", "scope", "kill", "inconclusive", "retrospective", None]},
    "locked": LOCKED,
    "updated": TIME,
    "broken": {**TEXT_OR_NULL, "description": "Why it cannot be read, in a sentence."},
    "reading": {**YES_OR_NO, "description": "Its ledger is being read: ask again in a second."},
}
STEP = _record(
    {
        "id": {"enum": list(PHASES)},
        "title": TEXT,
        "state": {"enum": ["done", "current", "waiting"]},
        "at": TIME_OR_NULL,
        "took_s": {**NUMBER_OR_NULL, "description": "Seconds from the phase's first record to its last."},
        "actor": ACTOR,
        "why": TEXT_OR_NULL,
        "notebook": TEXT,
    }
)
SEAL = _record(
    {
        "state": {"enum": ["none", "sealed", "opened", "decided"]},
        "at": TIME_OR_NULL,
        "rows": {"type": ["integer", "null"]},
        "custody": TEXT,
        "touches": COUNT,
        "sha256": TEXT_OR_NULL,
    }
)
SCHEMAS: dict[str, Schema] = {
    "Summary": _record(SUMMARY),
    "Detail": _record(
        {
            **SUMMARY,
            "text": {**TEXT, "description": "Where it stands, in one line."},
            "phases": _list(STEP),
            "seal": SEAL,
            "figures": _list(_record({"id": TEXT, "label": TEXT, "value": TEXT, "note": TEXT})),
            "ledger": _list(_record({"seq": COUNT, "type": TEXT, "at": TEXT, "text": TEXT})),
            "actions": _list(_ref("Action")),
            "job": _or_null(_ref("Job")),
        }
    ),
    "Action": _record(
        {
            "id": {"enum": list(IDS)},
            "label": TEXT,
            "enabled": YES_OR_NO,
            "refusal": _or_null(_ref("Refusal")),
            "confirm": {**TEXT_OR_NULL, "description": "What a person is asked before it starts."},
        }
    ),
    "Refusal": _record(
        {
            "safeguard": TEXT,
            "what": TEXT,
            "why": TEXT,
            "instead": TEXT,
            "asks": {**YES_OR_NO, "description": "A recorded reason would let it pass."},
            "record": {"type": ["integer", "null"]},
        }
    ),
    "Job": _record(
        {
            "id": {"type": "string", "pattern": f"^{ID.pattern}$"},
            "path": TEXT,
            "action": {"enum": list(IDS)},
            "state": {"enum": ["running", "done", "failed", "interrupted"]},
            "started": TIME,
            "ended": TIME_OR_NULL,
            "progress": _or_null(_record({"label": TEXT, "done": COUNT, "total": COUNT, "text": TEXT})),
            "message": TEXT_OR_NULL,
            "refusal": _or_null(_ref("Refusal")),
            "html": {
                **TEXT_OR_NULL,
                "description": "Of one ended job: what it left to look at. From a file in the experiment's "
                "folder, so it is shown sanitised or in a sandbox.",
            },
            "page": TEXT_OR_NULL,
        }
    ),
    "Chip": _record({"experiment": TEXT_OR_NULL, "phase": PHASE, "locked": LOCKED, "text": TEXT}),
    "Made": _record({"path": TEXT, "notebook": TEXT}),
    "New": {
        "type": "object",
        "description": "Paths are relative to the server's root. `demo` makes the example instead.",
        "properties": {
            "under": TEXT,
            "demo": YES_OR_NO,
            **dict.fromkeys(("name", "data", "expected", "baseline", "id", "cluster", "model"), TEXT),
            **dict.fromkeys(("min_effect", "question", "hypothesis", "ref"), TEXT),
            **dict.fromkeys(("arms", "slices", "inputs"), _list(TEXT)),
        },
        "required": ["under"],
        "additionalProperties": False,
        "anyOf": [
            {"properties": {"demo": {"const": True}}, "required": ["demo"]},
            {"required": ["name", "data", "expected", "baseline", "arms"]},
        ],
    },
    "Wanted": _record({"path": TEXT, "action": {"enum": list(IDS)}, "confirmed": YES_OR_NO})
    | {"required": ["path", "action"]},
    "Answer": _record({"path": TEXT, "safeguard": TEXT, "why": TEXT}),
    "Recorded": _record({"text": TEXT}),
    "Error": _record({"error": _record({"what": TEXT, "where": TEXT, "fix": TEXT})}),
    "Refused": _record({"refusal": _ref("Refusal")}),
}
PATH = {
    "name": "path",
    "in": "query",
    "required": True,
    "description": 'Posix, relative to the server\'s root; "." is the root.',
    "schema": TEXT,
}
JOB_ID: Schema = {"type": "string", "pattern": f"^{ID.pattern}$"}
JOB = {"name": "id", "in": "path", "required": True, "schema": JOB_ID}


def _answer(schema: Schema, kind: str = "application/json", text: str = "The answer.") -> dict[str, Any]:
    return {"description": text, "content": {kind: {"schema": schema}}}


def _operation(
    name: str,
    summary: str,
    answers: dict[str, Any],
    *,
    parameters: tuple[Any, ...] = (),
    body: str | None = None,
) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": name, "summary": summary, "parameters": list(parameters)}
    if body is not None:
        content = {"application/json": {"schema": _ref(body)}}
        described["requestBody"] = {"required": True, "content": content}
    error = _answer(_ref("Error"), text="What is wrong, where, and how to go on.")
    return {**described, "responses": {**answers, "4XX": error}}


def document() -> dict[str, Any]:
    """The whole description; every answer of the server fits it (tested)."""
    jobs = _record({"jobs": _list(_ref("Job"))})
    experiments = _record({"experiments": _list(_ref("Summary"))})
    refused = _answer(_ref("Refused"), text="The protocol does not allow this now.")
    job = _answer(_ref("Job"))
    events = _answer(
        TEXT, "text/event-stream", 'An event "job" whose data is a Job, at every change; ends with the job.'
    )
    paths = {
        "/itera/experiments": {
            "get": _operation(
                "listExperiments", "Every experiment, newest first", {"200": _answer(experiments)}
            ),
            "post": _operation(
                "makeExperiment", "A new experiment", {"201": _answer(_ref("Made"))}, body="New"
            ),
        },
        "/itera/experiment": {
            "get": _operation(
                "getExperiment", "One experiment", {"200": _answer(_ref("Detail"))}, parameters=(PATH,)
            )
        },
        "/itera/notebook": {
            "get": _operation(
                "getNotebook", "What a toolbar says", {"200": _answer(_ref("Chip"))}, parameters=(PATH,)
            )
        },
        "/itera/answers": {
            "post": _operation(
                "answer",
                "A person's reason where a safeguard asks",
                {"200": _answer(_ref("Recorded")), "409": refused},
                body="Answer",
            )
        },
        "/itera/jobs": {
            "get": _operation(
                "listJobs", "Every job, newest first", {"200": _answer(jobs)}, parameters=(PATH,)
            ),
            "post": _operation("startJob", "Start an action", {"201": job, "409": refused}, body="Wanted"),
        },
        "/itera/jobs/{id}": {
            "get": _operation("getJob", "One job", {"200": job}, parameters=(PATH, JOB)),
            "delete": _operation("interruptJob", "Interrupt a job", {"202": job}, parameters=(PATH, JOB)),
        },
        "/itera/jobs/{id}/events": {
            "get": _operation("watchJob", "Follow a job", {"200": events}, parameters=(PATH, JOB))
        },
        "/itera/openapi.json": {
            "get": _operation("describe", "This document", {"200": _answer({"type": "object"})})
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "itera-nb", "version": __version__},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "Authorization"}},
        },
    }
