"""The description of the REST interface: OpenAPI 3.1, served at `/itera/openapi.json`.

Each method of a handler says with `operation` what it takes and answers; its docstring is the summary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tornado.web import authenticated

from itera_nb import __version__
from itera_nb.protocol import PHASES

from .actions import IDS
from .jobs import ID

Method = TypeVar("Method", bound=Callable[..., Any])
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


def record(properties: dict[str, Schema]) -> Schema:
    """An object with exactly these keys, all of them there."""
    required = list(properties)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def many(items: Schema) -> Schema:
    """A list of these."""
    return {"type": "array", "items": items}


def ref(name: str) -> Schema:
    """One of `SCHEMAS` by its name."""
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
STEP = record(
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
SEAL = record(
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
    "Summary": record(SUMMARY),
    "Detail": record(
        {
            **SUMMARY,
            "text": {**TEXT, "description": "Where it stands, in one line."},
            "phases": many(STEP),
            "seal": SEAL,
            "figures": many(record({"id": TEXT, "label": TEXT, "value": TEXT, "note": TEXT})),
            "ledger": many(record({"seq": COUNT, "type": TEXT, "at": TEXT, "text": TEXT})),
            "actions": many(ref("Action")),
            "job": _or_null(ref("Job")),
        }
    ),
    "Action": record(
        {
            "id": {"enum": list(IDS)},
            "label": TEXT,
            "enabled": YES_OR_NO,
            "refusal": _or_null(ref("Refusal")),
            "confirm": {**TEXT_OR_NULL, "description": "What a person is asked before it starts."},
        }
    ),
    "Refusal": record(
        {
            "safeguard": TEXT,
            "what": TEXT,
            "why": TEXT,
            "instead": TEXT,
            "asks": {**YES_OR_NO, "description": "A recorded reason would let it pass."},
            "record": {"type": ["integer", "null"]},
        }
    ),
    "Job": record(
        {
            "id": {"type": "string", "pattern": f"^{ID.pattern}$"},
            "path": TEXT,
            "action": {"enum": list(IDS)},
            "state": {"enum": ["running", "done", "failed", "interrupted"]},
            "started": TIME,
            "ended": TIME_OR_NULL,
            "progress": _or_null(record({"label": TEXT, "done": COUNT, "total": COUNT, "text": TEXT})),
            "message": TEXT_OR_NULL,
            "refusal": _or_null(ref("Refusal")),
            "html": {
                **TEXT_OR_NULL,
                "description": "Of one ended job: what it left to look at. From a file in the experiment's "
                "folder, so it is shown sanitised or in a sandbox.",
            },
            "page": TEXT_OR_NULL,
        }
    ),
    "Chip": record({"experiment": TEXT_OR_NULL, "phase": PHASE, "locked": LOCKED, "text": TEXT}),
    "Made": record({"path": TEXT, "notebook": TEXT}),
    "New": {
        "type": "object",
        "description": "Paths are relative to the server's root. `demo` makes the example instead.",
        "properties": {
            "under": TEXT,
            "demo": YES_OR_NO,
            **dict.fromkeys(("name", "data", "expected", "baseline", "id", "cluster", "model"), TEXT),
            **dict.fromkeys(("min_effect", "question", "hypothesis", "ref"), TEXT),
            **dict.fromkeys(("arms", "slices", "inputs"), many(TEXT)),
        },
        "required": ["under"],
        "additionalProperties": False,
        "anyOf": [
            {"properties": {"demo": {"const": True}}, "required": ["demo"]},
            {"required": ["name", "data", "expected", "baseline", "arms"]},
        ],
    },
    "Wanted": record({"path": TEXT, "action": {"enum": list(IDS)}, "confirmed": YES_OR_NO})
    | {"required": ["path", "action"]},
    "Answer": record({"path": TEXT, "safeguard": TEXT, "why": TEXT}),
    "Recorded": record({"text": TEXT}),
    "Error": record({"error": record({"what": TEXT, "where": TEXT, "fix": TEXT})}),
    "Refused": record({"refusal": ref("Refusal")}),
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


def answer(schema: Schema, kind: str = "application/json", text: str = "The answer.") -> dict[str, Any]:
    """A response with this schema."""
    return {"description": text, "content": {kind: {"schema": schema}}}


JOB_ANSWER = answer(ref("Job"))
REFUSED = answer(ref("Refused"), text="The protocol does not allow this now.")
ERROR = answer(ref("Error"), text="What is wrong, where, and how to go on.")


def operation(
    name: str, answers: Mapping[str, Schema], *parameters: Schema, body: str | None = None
) -> Callable[[Method], Method]:
    """Describe a handler's method, and let in only who is logged in.

    Args:
        name: Its `operationId`.
        answers: Status -> response.
        parameters: What stands in the address.
        body: The schema of the request's body.
    """

    def described(method: Method) -> Method:
        told: dict[str, Any] = {
            "operationId": name,
            "summary": (method.__doc__ or "").partition("\n")[0].rstrip("."),
            "parameters": list(parameters),
            "responses": {**answers, "4XX": ERROR},
        }
        if body is not None:
            told["requestBody"] = {"required": True, "content": {"application/json": {"schema": ref(body)}}}
        guarded: Method = authenticated(method)
        guarded.operation = told  # type: ignore[attr-defined]
        return guarded

    return described


def document(routes: Mapping[str, type]) -> dict[str, Any]:
    """The whole description of path -> handler; every answer of the server fits it (tested)."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "itera-nb", "version": __version__},
        "security": [{"token": []}],
        "paths": {
            path: {
                name: method.operation
                for name, method in vars(handler).items()
                if hasattr(method, "operation")
            }
            for path, handler in routes.items()
        },
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "Authorization"}},
        },
    }
