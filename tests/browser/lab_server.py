"""A JupyterLab server on loopback and a browser's pages in it, for tests and benchmarks (fixtures: conftest.py)."""

import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import nbformat

WORKSPACES = count()
READY_S, PAGE_MS = 90, 60_000
# What Notebook 7.6 itself says on any page, and JupyterLab 4.6 after a kernel's restart.
UPSTREAM = (
    "Cannot read properties of undefined (reading 'schema')",
    "Command 'filebrowser:open-path' not registered.",
    "Could not restore the debugger state",
)
NEWS = "@jupyterlab/apputils-extension:notification"
WIDGET_STATE = "@jupyter-widgets/jupyterlab-manager:plugin"
CALM = "@jupyterlab/docmanager-extension:plugin"


@dataclass
class Lab:
    """A running server: `root` is what it shows, `state` what its kernels take for ITERA_STATE_DIR."""

    url: str
    token: str
    root: Path
    state: Path
    log: Path
    process: subprocess.Popen

    def notebook(self, path, cells, kernel="python3"):
        """Write a notebook of code cells below the root; returns its file."""
        node = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
        node.metadata["kernelspec"] = {"name": kernel, "display_name": kernel, "language": "python"}
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(node, file)
        return file

    def address(self, path, app="lab"):
        """The URL of a notebook: "lab" with a fresh workspace, or "notebooks" for Notebook 7."""
        where = f"lab/workspaces/t{next(WORKSPACES)}" if app == "lab" else app
        inside = f"/tree/{path}" if app == "lab" and path else f"/{path}" if path else ""
        return f"{self.url}/{where}{inside}?token={self.token}"


@dataclass
class LabPage:
    """A browser page with one notebook in front; whatever is not here is playwright's page."""

    page: object
    app: str
    problems: list = field(default_factory=list)

    def __getattr__(self, name):
        return getattr(self.page, name)

    def note(self, problem):
        """Keep a problem, unless it is one that the application has by itself."""
        if not problem.startswith(UPSTREAM):
            self.problems.append(problem)

    @property
    def notebook(self):
        """The notebook in front."""
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")

    def command(self, name, arguments=None):
        """Execute a command of the application."""
        return self.page.evaluate(
            "([n, a]) => window.jupyterapp.commands.execute(n, a).then(() => null)", [name, arguments or {}]
        )

    def run_all(self, *, seconds=120):
        """Run every cell and wait until none is queued or running."""
        self.command("notebook:run-all-cells")
        self.settle(seconds=seconds)

    def settle(self, *, seconds=120):
        """Wait until no cell of the notebook is queued or running."""
        self.page.wait_for_function(
            "() => ![...document.querySelectorAll('.jp-NotebookPanel:not(.lm-mod-hidden) .jp-InputPrompt')]"
            ".some(p => p.textContent.includes('*'))",
            timeout=1000 * seconds,
        )

    def save(self):
        """Save the notebook and wait for it."""
        self.command("docmanager:save")


@contextmanager
def running_lab(home, *, python=sys.executable, before=None, path=None):
    """JupyterLab with its own settings, token, root and state, all below `home`.

    `python`: of another environment. `before`: the `Lab` that ran here, to start again at its address. `path`: the
    server's PATH.
    """
    folders = {
        name: home / name for name in ("root", "state", "config", "data", "runtime", "ipython", "settings")
    }
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    _quiet_settings(folders["settings"])
    port, token = (
        (int(before.url.rpartition(":")[2]), before.token)
        if before
        else (_free_port(), secrets.token_hex(16))
    )
    log = home / "server.log"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "ITERA"))} | {
        "HOME": str(home),
        "ITERA_STATE_DIR": str(folders["state"]),
        "ITERA_CUSTODY": "file",
        "JUPYTER_CONFIG_DIR": str(folders["config"]),
        "JUPYTER_DATA_DIR": str(folders["data"]),
        "JUPYTER_RUNTIME_DIR": str(folders["runtime"]),
        "JUPYTERLAB_SETTINGS_DIR": str(folders["settings"]),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(folders["ipython"]),
        "PATH": path or f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = [
        str(python), "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folders['root']}",
        "--LabApp.news_url=None", "--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True",
        "--ServerApp.terminals_enabled=False",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    with log.open("ab") as out, subprocess.Popen(command, env=environment, stdout=out, stderr=out) as server:
        found = Lab(f"http://127.0.0.1:{port}", token, folders["root"], folders["state"], log, server)
        try:
            _wait(found)
            yield found
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


def open_page(lab, browser, path="", *, app="lab", width=1280, height=860, **options):
    """The application in a fresh browser context, the launcher in front if no file is named; close its `context`."""
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    context.set_default_timeout(30_000)
    page = LabPage(context.new_page(), app)
    page.on("console", lambda m: page.note(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: page.note(str(e)))
    page.goto(lab.address(path, app))
    page.wait_for_function("window.jupyterapp", timeout=PAGE_MS)
    page.evaluate("() => window.jupyterapp.restored.then(() => null)")
    return page


def open_notebook(lab, browser, path, **options):
    """A notebook in a fresh browser context, its kernel ready; close its `context` afterwards."""
    page = open_page(lab, browser, path, **options)
    page.notebook.locator(".jp-Cell").first.wait_for(timeout=PAGE_MS)
    # A kernel that is still starting would run nothing.
    page.wait_for_function(KERNEL_READY, timeout=PAGE_MS)
    return page


KERNEL_READY = """() => {
  const panel = window.jupyterapp.shell.currentWidget;
  const kernel = panel?.sessionContext?.session?.kernel;
  return kernel?.connectionStatus === "connected" && kernel.status === "idle";
}"""


def _quiet_settings(folder):
    """No news, no update check, the file left alone until it is saved, and widget state saved with it."""
    for plugin, values in {
        NEWS: '{"fetchNews": "false", "checkForUpdates": false}',
        WIDGET_STATE: '{"saveState": true}',
        CALM: '{"autosave": false}',
    }.items():
        package, _, name = plugin.partition(":")
        file = folder / package / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(values, "utf-8")


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait(found):
    end = time.monotonic() + READY_S
    while True:
        try:
            with urllib.request.urlopen(f"{found.url}/api?token={found.token}", timeout=5):
                return
        except OSError:
            if found.process.poll() is not None or time.monotonic() > end:
                said = found.log.read_text("utf-8", "replace")[-3000:]
                raise RuntimeError(f"JupyterLab did not start:\n{said}") from None
            time.sleep(0.2)
