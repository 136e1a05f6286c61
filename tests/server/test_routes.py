"""What the REST interface answers: described, authenticated, confined, and never a 500 for what it is shown."""

import hashlib
import http.client
import http.cookiejar
import json
import os
import shutil
import urllib.parse
import urllib.request

import jsonschema
import pytest

from itera_nb.ledger import GENESIS, Ledger, canonical
from itera_nb.server.openapi import SCHEMAS, document
from itera_nb.server.routes import ROUTES

from .conftest import TOKEN, validate

JOB = "20261122-084941-32ff55488dd0"
METHODS = ("get", "post", "put", "patch", "delete")


DOCUMENT = document(ROUTES)


def operations():
    for path, methods in DOCUMENT["paths"].items():
        for method in methods:
            yield method.upper(), path.replace("{id}", JOB)


def test_the_document_describes_the_handlers():
    assert {path: set(methods) for path, methods in DOCUMENT["paths"].items()} == {
        "/itera/experiments": {"get", "post"},
        "/itera/experiment": {"get"},
        "/itera/notebook": {"get"},
        "/itera/answers": {"post"},
        "/itera/jobs": {"get", "post"},
        "/itera/jobs/{id}": {"get", "delete"},
        "/itera/jobs/{id}/events": {"get"},
        "/itera/openapi.json": {"get"},
    }
    for path, handler in ROUTES.items():
        own = {name for kind in handler.__mro__[:2] for name in vars(kind)} & set(METHODS)
        assert own == set(DOCUMENT["paths"][path]), path


def test_the_document_is_well_formed():
    assert DOCUMENT["openapi"].startswith("3.1")
    for schema in SCHEMAS.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    text = json.dumps(DOCUMENT)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in SCHEMAS
    names = [op["operationId"] for methods in DOCUMENT["paths"].values() for op in methods.values()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("method", "path"), list(operations()))
def test_nothing_without_the_token(server, method, path):
    body = {} if method == "POST" else None
    status, answer = server.open(method, f"{path}?path=.", body, token=None)
    assert status == 403
    validate(answer, "Error")
    assert server.open(method, f"{path}?path=.", body, token="wrong")[0] == 403


def test_a_browsers_cookie_needs_the_xsrf_token(server):
    """Another page's request carries the login's cookie, but not the token of our page."""
    base = f"http://127.0.0.1:{server.port}"
    jar = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    browser.open(f"{base}/login?token={TOKEN}").close()
    cookies = {cookie.name: cookie.value for cookie in jar}
    sent = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
    body = {"path": "no-such", "action": "verify"}
    ours = {**sent, "Origin": base, "X-XSRFToken": cookies["_xsrf"]}
    assert (
        server.open("POST", "/itera/jobs", body, token=None, headers=ours)[0] == 404
    )  # let in: no such folder
    assert server.open("POST", "/itera/jobs", body, token=None, headers={**sent, "Origin": base})[0] == 403
    theirs = {**ours, "Origin": "http://evil.example"}
    status, answer = server.open("POST", "/itera/jobs", body, token=None, headers=theirs)
    assert (status, answer["error"]["what"]) == (404, "Not Found")


def test_the_served_document_is_the_document(server):
    assert server.get("openapi.json") == (200, json.loads(json.dumps(DOCUMENT)))


def test_a_fresh_experiment(server, placed):
    folder = placed()
    path = folder.relative_to(server.root).as_posix()
    status, listed = server.get("experiments")
    assert status == 200
    for summary in listed["experiments"]:
        validate(summary, "Summary")
    status, found = server.get("experiment", path)
    assert status == 200
    validate(found, "Detail")
    assert (found["phase"], found["broken"], found["locked"]) == ("0-frame", None, [])
    enabled = {action["id"] for action in found["actions"] if action["enabled"]}
    assert enabled == {"run:0-frame", "verify"}
    assert all(action["refusal"]["why"] for action in found["actions"] if not action["enabled"])
    assert server.get("jobs", path) == (200, {"jobs": []})


def test_a_new_experiment_is_listed_at_once_when_the_server_made_it(server, tmp_path):
    data = "row_id,text,label\n" + "".join(f"r{n},text {n},{'yes' if n % 2 else 'no'}\n" for n in range(60))
    (server.root / "rows.csv").write_text(data)
    for arm in ("today", "next"):
        (server.root / f"{arm}.py").write_text("def answer(row):\n    return 'yes'\n")
    body = {"under": "made", "name": "fees", "data": "rows.csv", "expected": "label", "id": "row_id"}
    body |= {"baseline": "today.py:answer", "arms": ["next.py:answer"]}
    status, made = server.open("POST", "/itera/experiments", body)
    assert status == 201, made
    validate(made, "Made")
    assert (server.root / made["notebook"]).is_file()
    assert made["path"] in [line["path"] for line in server.get("experiments")[1]["experiments"]]
    status, chip = server.get("notebook", made["notebook"])
    assert (status, chip["experiment"], chip["phase"]) == (200, made["path"], "0-frame")
    validate(chip, "Chip")
    status, error = server.open("POST", "/itera/experiments", body)
    assert status == 400
    assert "exists already" in error["error"]["what"]
    outside = tmp_path / "elsewhere.csv"
    outside.write_text(data)
    (server.root / "x:").mkdir()
    up = os.path.relpath(outside, server.root)
    asked = [{"data": name} for name in (str(outside), up, f"x:/../{up}", "~/x.csv", "/no/such/file.csv")]
    asked += [{"baseline": f"exec: python {word}"} for word in (f'"{outside}"', f"'{up}'", f'""{outside}')]
    asked += [{"arms": [f"exec: cat {outside}"]}, {"arms": [f"{up}:answer"]}]
    for change in asked:
        status, error = server.open("POST", "/itera/experiments", {**body, "name": "x", **change})
        assert status == 400, change
        assert error["error"]["what"].endswith("below the server's root folder"), change


def test_a_notebook_of_nobody(server):
    (server.root / "own.ipynb").write_text("{}")
    assert server.get("notebook", "own.ipynb") == (
        200,
        {"experiment": None, "phase": None, "locked": [], "text": ""},
    )
    assert server.get("notebook", "none.ipynb")[0] == 404
    assert server.get("notebook", "rows.csv")[0] == 404


ESCAPES = [
    "..",
    "../",
    "docs/../..",
    "/etc",
    "//etc",
    "~",
    ".hidden",
    "docs/.ssh",
    "a\0b",
    "a\nb",
    "..\\..",
    "%2e%2e",
    "%2e%2e%2f",
    "out",
    "out/experiment",
    "file.txt",
    "no/such",
    "x" * 5000,
    "",
]


@pytest.mark.parametrize("path", ESCAPES)
def test_what_is_not_below_the_root_is_not_there(server, tmp_path_factory, path, make_experiment):
    """One answer for all: whether something exists outside is not told."""
    if path.startswith("out") and not (server.root / "out").exists():
        outside = tmp_path_factory.mktemp("outside") / "experiment"
        shutil.copytree(make_experiment().experiment.folder, outside)
        (server.root / "out").symlink_to(outside.parent)
    known = {"what": "there is no such thing below the server's root folder", "fix": "reload the list"}
    for what in ("experiment", "jobs", f"jobs/{JOB}"):
        status, answer = server.get(what, path)
        assert status == 404, answer
        assert {key: answer["error"][key] for key in known} == known
    status, answer = server.start_job(path, "verify")
    assert (status, answer["error"]["what"]) == (404, known["what"])
    assert server.get("notebook", path)[0] == 404


@pytest.mark.parametrize(
    "encoded", ["%2e%2e%2f%2e%2e%2fetc", "..%2f..%2fetc", "%00", "a%00b", "%ff%fe", "%2Fetc"]
)
def test_encoded_paths_are_no_way_out(server, encoded):
    status, _ = server.open("GET", f"/itera/experiment?path={encoded}")
    assert status in {400, 404}


@pytest.mark.parametrize("job", ["..", "%2e%2e%2fx", "x", "20261122-084941-32ff55488dd0%00", "a" * 300])
def test_a_jobs_id_is_no_path(server, placed, job):
    path = placed().relative_to(server.root).as_posix()
    status, _ = server.open("GET", f"/itera/jobs/{job}?path={urllib.parse.quote(path)}")
    assert status == 404


@pytest.mark.parametrize("door", ["ledger.jsonl", "experiment.toml", "prices.toml", "runs", "notebooks"])
def test_a_link_out_of_the_root_hides_the_experiment(server, placed, tmp_path, door):
    folder = placed()
    outside = tmp_path / "secret"
    if door == "experiment.toml":
        shutil.copy(folder / door, outside)
        (folder / door).unlink()
    elif door in {"runs", "notebooks"}:
        outside.mkdir()
    else:
        outside.write_text("secret\n")
    (folder / door).symlink_to(outside)
    status, answer = server.get("experiment", folder.relative_to(server.root).as_posix())
    assert status == 404
    assert "secret" not in json.dumps(answer)


@pytest.mark.parametrize("name", ["ledger.jsonl", "prices.toml"])
def test_a_pipe_is_not_waited_for(server, placed, name):
    folder = placed()
    os.mkfifo(folder / name)
    assert server.get("experiment", folder.relative_to(server.root).as_posix())[0] == 404


@pytest.mark.parametrize(
    "text",
    [
        "not toml [",
        "\xff",
        "[frame]\nquestion = 3\n",
        'key = "sk-abcdefghijklmnop1234"\n',
        "",
        pytest.param("a = " + "[" * 20_000, id="deep"),
    ],
)
def test_an_unreadable_toml_is_broken_not_a_fault(server, placed, text):
    folder = placed()
    (folder / "experiment.toml").write_bytes(text.encode("latin-1"))
    path = folder.relative_to(server.root).as_posix()
    status, found = server.get("experiment", path)
    assert status == 200
    validate(found, "Detail")
    assert found["broken"]
    assert "sk-abc" not in json.dumps(found)
    assert path in [
        line["path"]
        for line in server.get("experiments")[1]["experiments"]
        if line["broken"] or line["reading"]
    ]


def chained(*bodies):
    prev, lines = GENESIS, []
    for seq, (kind, body) in enumerate(bodies, start=1):
        line = canonical(
            {"seq": seq, "prev": prev, "type": kind, "ts": "2026-11-21T10:00:00.000+00:00", "body": body}
        )
        prev = hashlib.sha256(line).hexdigest()
        lines.append(line + b"\n")
    return b"".join(lines)


LEDGERS = {
    "edited": b'{"seq":1}\n',
    "binary": bytes(range(256)) + b"\n",
    "a chain of anything": chained(("created", {}), ("sealed", {"counts": 3}), ("verdict", {"outcome": 7})),
    "no genesis": chained(("frame_locked", {"changes": None})),
    "strange genesis": chained(("created", {"genesis_id": "../../x", "custody": "file"})),
}


@pytest.mark.parametrize("name", LEDGERS)
def test_a_broken_ledger_is_said_to_be_broken(server, placed, name):
    folder = placed()
    (folder / "ledger.jsonl").write_bytes(LEDGERS[name])
    path = folder.relative_to(server.root).as_posix()
    status, found = server.get("experiment", path)
    assert status == 200
    validate(found, "Detail")
    if name != "no genesis":
        assert found["broken"], found
        assert [action["id"] for action in found["actions"]] == ["verify"]
    for action in ("verdict", "run:0-frame"):
        status, answer = server.start_job(path, action, confirmed=True)
        assert 400 <= status < 500, answer


def test_hostile_names_are_only_text(server, placed):
    name = "<img src=x onerror=alert(1)> \"' \u202e ünï ☃ %2e"
    folder = placed(name)
    path = folder.relative_to(server.root).as_posix()
    status, found = server.get("experiment", path)
    assert (status, found["name"]) == (200, name)
    validate(found, "Detail")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"null", b'{"path": 3}', b'{"path": "x"}', b"[" * 10_000, b"x" * 100_000]
)
def test_a_body_that_is_none(server, body):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", "/itera/jobs", body, {"Authorization": "token a-token-of-this-test"})
    answer = connection.getresponse()
    value = json.loads(answer.read())
    connection.close()
    assert answer.status == 400
    validate(value, "Error")


def test_a_refusal_is_the_protocols_and_recorded(server, placed):
    folder = placed()
    path = folder.relative_to(server.root).as_posix()
    status, answer = server.start_job(path, "verdict", confirmed=True)
    assert status == 409
    validate(answer, "Refused")
    assert answer["refusal"]["safeguard"] == "SG01"
    record = Ledger(folder / "ledger.jsonl").records()[answer["refusal"]["record"] - 1]
    assert record.type == "attempt_refused"
    assert server.start_job(path, "no-such-action")[0] == 400
    status, answer = server.open(
        "POST", "/itera/answers", {"path": path, "safeguard": "SG02", "why": "because"}
    )
    assert status == 409
    status, answer = server.open(
        "POST", "/itera/answers", {"path": path, "safeguard": "SG12", "why": "caps are policy"}
    )
    assert status == 200
    validate(answer, "Recorded")
    assert server.get("experiment", path)[1]["ledger"][0]["text"] == "SG12 accepted: caps are policy"
