"""A real Jupyter server on loopback, with only this extension, and requests to it."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import jsonschema
import pytest

from itera_nb.server.openapi import SCHEMAS

TOKEN = "a-token-of-this-test"
OTHERS = ("jupyterlab", "notebook", "jupyter_lsp", "jupyter_server_terminals", "notebook_shim")
AUTH = "error::jupyter_server.serverapp.JupyterServerAuthWarning"


def validate(value, schema):
    """Check a value against a schema of the served document."""
    whole = {"$ref": f"#/components/schemas/{schema}", "components": {"schemas": SCHEMAS}}
    jsonschema.Draft202012Validator(whole).validate(value)


@dataclass
class Server:
    """A server process with its own root, state and configuration."""

    base: Path
    process: subprocess.Popen = None
    port: int = 0
    environment: dict = field(default_factory=dict)

    @property
    def root(self):
        return self.base / "root"

    def start(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        for folder in ("root", "config", "data", "runtime", "state"):
            (self.base / folder).mkdir(parents=True, exist_ok=True)
        extensions = {"itera_nb.server": True, **dict.fromkeys(OTHERS, False)}
        settings = {"ServerApp": {"jpserver_extensions": extensions}}
        (self.base / "config" / "jupyter_server_config.json").write_text(json.dumps(settings))
        self.environment = {
            **os.environ,
            "JUPYTER_CONFIG_DIR": str(self.base / "config"),
            "JUPYTER_RUNTIME_DIR": str(self.base / "runtime"),
            "ITERA_STATE_DIR": str(self.base / "state"),
            "ITERA_CUSTODY": "file",
        }
        command = [
            sys.executable,
            "-W",
            AUTH,
            "-m",
            "jupyter_server",
            "--ip=127.0.0.1",
            f"--port={self.port}",
        ]
        command += ["--no-browser", "--allow-root", f"--IdentityProvider.token={TOKEN}"]
        command += [f"--ServerApp.root_dir={self.root}", "--ServerApp.allow_unauthenticated_access=False"]
        with (self.base / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, cwd=self.base, start_new_session=True
            )
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                self.open("GET", "/itera/experiments")
                return self
            time.sleep(0.1)
        raise AssertionError((self.base / "log").read_text()[-3000:])

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def open(self, method, path, body=None, *, token=TOKEN, headers=None):
        """The status and the JSON value of an answer."""
        sent = {"Content-Type": "application/json", **(headers or {})}
        if token:
            sent["Authorization"] = f"token {token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", method=method, data=data, headers=sent
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")

    def get(self, what, path=None):
        query = "" if path is None else "?" + urllib.parse.urlencode({"path": path})
        return self.open("GET", f"/itera/{what}{query}")

    def start_job(self, path, action, **more):
        return self.open("POST", "/itera/jobs", {"path": path, "action": action, **more})

    def finished(self, job, seconds=60):
        """The job once it has ended."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            status, found = self.get(f"jobs/{job['id']}", job["path"])
            assert status == 200, found
            validate(found, "Job")
            if found["state"] != "running":
                return found
            time.sleep(0.1)
        raise AssertionError(f"{job} is still running")


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("server")).start()
    yield running
    running.kill()


@pytest.fixture
def placed(server, make_experiment):
    """Write an experiment below the server's root; returns its folder there."""

    def place(name="2026-11-21-fees", under="docs", **more):
        made = make_experiment(name, **more).experiment.folder
        folder = server.root / under / f"{time.monotonic_ns()}" / name
        shutil.copytree(made, folder)
        return folder

    return place
