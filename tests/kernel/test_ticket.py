"""Who may ask for the one opening: real `itera` kernels, with what JupyterLab's server tells them."""

import asyncio
import json
import os
import shutil

import pytest
from jupyter_client.manager import KernelManager
from kernels import Kernel

from itera_nb.exceptions import Refusal
from itera_nb.kernel import ticket
from itera_nb.kernel.provisioner import Run, read_run, ticket_for
from itera_nb.scoring.package import cells_hash, verdict_cells, verdict_template
from itera_nb.verdict import tickets

VERDICT = "import itera_nb\nexp = itera_nb.open('.')\nexp.verdict()"
HELD = "from itera_nb.kernel import ticket\nprint('HELD', sorted(ticket._received), ticket._received.get('reason'))"


def put_template(world):
    """The verdict notebook as the package brings it; its path."""
    path = world.folder / "notebooks" / "5-verdict.ipynb"
    shutil.copyfile(verdict_template(), path)
    return path


def test_the_verdict_notebooks_kernel_opens_the_test_once(ready):
    path = put_template(ready)
    with ready.entered(), Kernel(ready, name="itera", JPY_SESSION_NAME=str(path)) as kernel:
        pipe = kernel.run(
            "import os; print([n for n in os.environ if 'TICKET' in n], sorted(os.listdir('/proc/self/fd')))"
        )
        assert "[] [" in pipe.text, "the pipe's descriptor is not left in the environment"
        ran = kernel.run(VERDICT)
        assert ran.error == "", ran.text
        assert "a gain is shown" in ran.text.lower()
        assert kernel.run(VERDICT).error == "", "a finished verdict is shown again"
    (opened,) = ready.records("test_opened")
    assert len(opened["body"]["ticket"]) == 64
    assert not list((ready.root / "state" / "tickets").glob("*.json")), "it is used up"
    assert not ready.records("attempt_refused")


def test_a_restart_brings_a_new_ticket(ready):
    path = put_template(ready)
    manager = KernelManager(kernel_name="itera")
    with ready.entered():
        manager.start_kernel(env=ready.environment(JPY_SESSION_NAME=str(path)))
        try:
            manager.restart_kernel(now=True)
        finally:
            manager.shutdown_kernel(now=True)
    minted = [json.loads(p.read_text()) for p in (ready.root / "state" / "tickets").glob("*.json")]
    assert len(minted) == 2
    assert {m["cells"] for m in minted} == {verdict_cells()}
    assert "nonce" not in minted[0]


@pytest.mark.parametrize("name", ["python3", "itera"])
def test_a_kernel_without_a_ticket_is_refused_in_one_sentence(ready, name):
    with Kernel(ready, name=name) as kernel:
        kernel.run("%load_ext itera_nb")
        kernel.run(f"import os; os.environ['JPY_SESSION_NAME'] = {str(put_template(ready))!r}")
        ran = kernel.run(VERDICT)
    assert ran.error == "Refusal"
    assert "refused SG01: this kernel has no ticket for the sealed test set" in ran.text
    assert "run in a terminal, then run this cell again" in ran.text
    assert "itera verdict" in ran.text
    assert "Traceback" not in ran.text
    (attempt,) = ready.records("attempt_refused")
    assert attempt["body"]["safeguard"] == "SG01"
    assert not ready.records("test_opened")


def test_the_content_decides_and_not_the_name(ready):
    path = put_template(ready)
    shutil.copyfile(ready.folder / "notebooks" / "3-run.ipynb", path)
    with Kernel(ready, name="itera", JPY_SESSION_NAME=str(path)) as kernel:
        kernel.run("%load_ext itera_nb")
        ran = kernel.run(VERDICT)
    assert ran.error == "Refusal"
    assert "the cells of 5-verdict.ipynb are not those of the package's verdict notebook" in ran.text
    assert not ready.records("test_opened")


def test_a_variable_of_whoever_starts_the_kernel_says_nothing(ready, monkeypatch):
    """Under plain papermill the whole environment is the user's: only a server sets it for one kernel."""
    monkeypatch.setenv("JPY_SESSION_NAME", str(put_template(ready)))
    with Kernel(ready, name="itera", JPY_SESSION_NAME=os.environ["JPY_SESSION_NAME"]) as kernel:
        assert "who started it did not say which notebook it is for" in kernel.run(HELD).text


def test_white_space_outputs_and_markdown_do_not_count(tmp_path):
    notebook = json.loads(verdict_template().read_text("utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    code[0]["source"] = [*"".join(code[0]["source"]), "\n\n"]
    code[1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x"}]
    notebook["cells"] += [
        dict(code[0], source=[]),
        {"cell_type": "markdown", "metadata": {}, "source": "mine"},
    ]
    assert cells_hash(notebook) == verdict_cells()
    notebook["cells"].append(dict(code[0], source="1"))
    assert cells_hash(notebook) != verdict_cells()


def test_a_ticket_claims_once_and_resumes_its_own_pass_only(make_experiment):
    exp = make_experiment()
    experiment = exp.experiment
    genesis = experiment.genesis
    mint = lambda: tickets.mint(genesis, notebook=verdict_template(), cells=verdict_cells(), kernel="k")  # noqa: E731
    with pytest.raises(Refusal, match="not valid"):
        tickets.use(experiment, mint().nonce)  # nothing is locked
    # A record that stands for the lock: what a ticket is bound to is the template's hash in it.
    experiment.ledger.append("locked", {"templates": {"5-verdict": verdict_cells()}})
    one = mint()
    assert one.nonce not in repr(one)
    assert tickets.use(experiment, one.nonce) == one.digest
    for nonce in (one.nonce, "0" * 32, ""):
        with pytest.raises(Refusal, match="not valid"):
            tickets.use(experiment, nonce)
    other = tickets.mint(genesis, notebook=verdict_template(), cells="0" * 64, kernel="k")
    with pytest.raises(Refusal, match="not valid"):
        tickets.require_valid(experiment, other.nonce)


def test_an_old_ticket_is_void_and_cleaned_up(make_experiment, monkeypatch, state):
    experiment = make_experiment().experiment
    monkeypatch.setattr(tickets, "VALID_S", -1.0)
    old = tickets.mint(experiment.genesis, notebook=verdict_template(), cells=verdict_cells(), kernel="k")
    experiment.ledger.append("locked", {"templates": {"5-verdict": verdict_cells()}})
    with pytest.raises(Refusal, match="older than a day"):
        tickets.use(experiment, old.nonce)
    tickets.mint(experiment.genesis, notebook=verdict_template(), cells=verdict_cells(), kernel="k")
    assert [p.stem for p in (state / "tickets").glob("*.json")] != [old.digest]


def test_another_experiments_ticket(make_experiment):
    one, other = make_experiment("one").experiment, make_experiment("two").experiment
    ticket.hold(tickets.mint(one.genesis, notebook=verdict_template(), cells=verdict_cells(), kernel="k"))
    assert ticket.require_nonce(one)
    with pytest.raises(Refusal, match="another experiment's"):
        ticket.require_nonce(other)
    ticket._received.clear()


def test_no_ticket_before_there_is_a_ledger(make_experiment):
    folder = make_experiment().experiment.folder
    with pytest.raises(Exception, match="no ledger yet"):
        ticket_for(Run(folder, verdict_template(), verdict_cells()), kernel="k")
    with pytest.raises(Exception, match="in no experiment's folder"):
        read_run(verdict_template())


def test_the_process_itself_wants_a_ticket(ready):
    with ready.entered() as exp:
        for nonce in ("", "0" * 32):
            with pytest.raises(Refusal, match="not valid"):
                exp.experiment.isolated("itera_nb.verdict", handed=nonce)
    assert not ready.records("test_opened")


def test_jupyters_server_tells_the_notebook_by_the_session(ready, monkeypatch):
    """JupyterLab first names the session by a random path and the notebook only by its name."""
    from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
    from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
    from jupyter_server.services.sessions.sessionmanager import SessionManager

    put_template(ready)
    for name, value in ready.variables.items():
        monkeypatch.setenv(name, value)

    async def session():
        kernels = AsyncMappingKernelManager(root_dir=str(ready.project))
        contents = AsyncLargeFileManager(root_dir=str(ready.project))
        sessions = SessionManager(kernel_manager=kernels, contents_manager=contents)
        folder = ready.folder.relative_to(ready.project)
        path = f"{folder}/notebooks/0f7c1c52-1111-4c7e-9b0b-5b7a7d0a7c11"
        made = await sessions.create_session(
            path=path, name="5-verdict.ipynb", type="notebook", kernel_name="itera"
        )
        await kernels.shutdown_kernel(made["kernel"]["id"], now=True)
        sessions.close()
        return made["kernel"]["id"]

    kernel = asyncio.run(session())
    (minted,) = (ready.root / "state" / "tickets").glob("*.json")
    told = json.loads(minted.read_text("utf-8"))
    assert told["kernel"] == kernel
    assert told["notebook"].endswith("/notebooks/5-verdict.ipynb")
