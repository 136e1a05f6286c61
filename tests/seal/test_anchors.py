"""What git remembers: rollback, restart, copy and fork are found, also where this computer knows nothing."""

import shutil
import subprocess

import pytest

from itera_nb.exceptions import IteraError, RecordError
from itera_nb.ledger import Ledger
from itera_nb.seal import anchors
from itera_nb.seal.git import unread


@pytest.fixture(autouse=True)
def nobodys_git(tmp_path_factory, monkeypatch):
    """git with no one's configuration."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "someone")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "someone@example.org")


def git(where, *arguments):
    done = subprocess.run(["git", "-C", str(where), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


class Place:
    """A repository with one experiment's ledger in `fees/`."""

    def __init__(self, root):
        self.root, self.folder = root, root / "fees"

    @property
    def ledger(self):
        return Ledger(self.folder / "ledger.jsonl")

    @property
    def records(self):
        return self.ledger.records()

    def write(self, *reasons, commit=True):
        for why in reasons:
            self.ledger.append("accepted", {"safeguard": "SG12", "why": why})
        if commit:
            self.commit()

    def commit(self, message="more"):
        git(self.root, "add", "-A")
        git(self.root, "commit", "-q", "--allow-empty", "-m", message)

    def faults(self, folder=None):
        folder = folder or self.folder
        return anchors.faults(folder, Ledger(folder / "ledger.jsonl").records(), anchors.history(folder))

    def broken(self, base="start"):
        return anchors.broken_commits(self.root, base)


def begin(folder, genesis):
    folder.mkdir(parents=True, exist_ok=True)
    Ledger(folder / "ledger.jsonl").append(
        "created", {"genesis_id": genesis, "version": "0", "custody": "file"}
    )


@pytest.fixture
def place(tmp_path):
    found = Place(tmp_path / "repo")
    found.root.mkdir()
    git(found.root, "init", "-q", "-b", "main")
    (found.root / ".gitignore").write_text("*.lock\n")
    found.commit("start")
    git(found.root, "tag", "start")
    begin(found.folder, "a" * 32)
    found.commit("begun")
    return found


def test_a_ledger_that_only_grew_has_no_faults(place):
    place.write("one", "two")
    place.write("three", commit=False)
    assert place.faults() == []
    assert place.broken() == []
    seqs = {a.seq for a in anchors.history(place.folder)}
    assert seqs == {1, 3}


def test_outside_a_repository_nothing_is_known(tmp_path):
    begin(tmp_path / "fees", "a" * 32)
    assert anchors.history(tmp_path / "fees") == ()
    assert anchors.of_folder(tmp_path / "fees") is None
    with pytest.raises(IteraError, match="in no git repository"):
        anchors.broken_commits(tmp_path, "HEAD")
    with pytest.raises(IteraError, match="in no git repository"):
        anchors.commit(tmp_path / "fees", Ledger(tmp_path / "fees" / "ledger.jsonl").records(), "m")


def test_a_repository_that_git_refuses_is_not_taken_for_none(place):
    """As in a container where another user owns the clone: what was not compared is not said to agree."""
    (place.root / ".git" / "HEAD").write_text("")
    assert anchors.history(place.folder) == ()
    assert unread(place.folder)
    assert not unread(place.root.parent)


def test_a_ledger_that_git_cannot_show_never_goes_on(place):
    """As a submodule of that name: read as empty, anything would go on from it."""
    place.write("one")
    commit = git(place.root, "rev-parse", "HEAD")
    git(place.root, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},other/ledger.jsonl")
    git(place.root, "commit", "-q", "-m", "a link")
    assert place.broken(commit) == ["other/ledger.jsonl: in the working tree the ledger of HEAD is gone"]
    place.write("two", commit=False)
    begin(place.root / "other", "b" * 32)
    assert place.broken(commit) == [
        "other/ledger.jsonl: in the working tree the ledger of HEAD does not go on where it ended"
    ]


def test_rolled_back_by_whole_records(place):
    place.write("one", "two", "three")
    path = place.ledger.path
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    (fault,) = place.faults()
    assert "knows record 4, and this ledger ends at 2" in fault
    assert place.broken()[-1].startswith(
        "fees/ledger.jsonl: in the working tree the ledger of HEAD does not go on"
    )
    place.write("another", "history", "of the same length", commit=False)
    assert "another record 4" in place.faults()[0]


def test_rolled_back_and_committed(place):
    place.write("one", "two")
    git(place.root, "checkout", "-q", "HEAD~1", "--", "fees/ledger.jsonl")
    place.commit("quietly shorter")
    place.write("a better second try", "and its end")
    assert any("another record 3" in fault for fault in place.faults())
    (wrong,) = place.broken()
    assert "does not go on where it ended" in wrong


def test_reset_and_forced_is_known_from_any_other_branch_or_tag(place):
    place.write("opened")
    git(place.root, "branch", "reviewers-copy")
    git(place.root, "reset", "-q", "--hard", "HEAD~1")
    place.write("opened again")
    (fault,) = place.faults()
    assert "another record 2" in fault


def test_deleted_and_started_anew(place):
    place.write("one")
    place.ledger.path.unlink()
    before = anchors.of_folder(place.folder)
    assert before.seq == 2
    begin(place.folder, "b" * 32)
    assert all("deleted and started anew" in fault for fault in place.faults())
    assert place.faults()
    place.commit("new")
    (wrong,) = place.broken()
    assert "does not go on" in wrong


def test_deleted_in_one_commit_and_anew_in_the_next(place):
    place.ledger.path.unlink()
    place.commit("gone")
    begin(place.folder, "b" * 32)
    place.commit("anew")
    (wrong,) = place.broken()
    assert "is gone" in wrong


def test_a_copied_folder_that_goes_on_is_a_second_history(place):
    place.write("one")
    other = Place(place.root)
    other.folder = place.root / "copy"
    shutil.copytree(place.folder, other.folder)
    other.write("the copy's own")
    place.write("the original's own", commit=False)
    assert any("another record 3" in fault for fault in place.faults())
    place.commit()
    assert any("another record 3" in fault for fault in other.faults())


def test_a_moved_folder_is_the_same_history(place):
    place.write("one")
    git(place.root, "mv", "fees", "moved")
    place.commit("moved")
    place.folder = place.root / "moved"
    place.write("two")
    assert place.broken() == []
    assert place.faults() == []


def test_two_forks_and_their_merge(place):
    git(place.root, "checkout", "-q", "-b", "left")
    place.write("left")
    git(place.root, "checkout", "-q", "main")
    git(place.root, "checkout", "-q", "-b", "right")
    place.write("right")
    assert any("another record 2" in fault for fault in place.faults())
    assert place.broken() == [], "each branch for itself only grew"
    git(place.root, "merge", "-q", "-s", "ours", "left", "-m", "dropped the other history")
    (wrong,) = place.broken()
    assert "does not go on" in wrong


def test_a_merge_of_a_branch_that_went_on_is_fine(place):
    git(place.root, "checkout", "-q", "-b", "work")
    place.write("one", "two")
    git(place.root, "checkout", "-q", "main")
    (place.root / "readme").write_text("x")
    begin(place.root / "other", "c" * 32)
    place.commit("meanwhile, another experiment")
    git(place.root, "merge", "-q", "work", "-m", "merged")
    assert place.broken() == []
    assert place.faults() == []


def test_a_trailer_is_enough(place):
    """The ledger itself need not be committed."""
    (place.root / ".gitignore").write_text("*.lock\nledger.jsonl\n")
    git(place.root, "rm", "-q", "--cached", "fees/ledger.jsonl")
    place.commit()
    place.write("one", "two", commit=False)
    (place.folder / "frame.md").write_text("frame")
    made = anchors.commit(place.folder, place.records, "locked")
    assert git(place.root, "log", "-1", "--format=%(trailers:key=Itera-Ledger-Head,valueonly)") == (
        f"3:{place.records[-1].hash} {'a' * 32}"
    )
    path = place.ledger.path
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:1]))
    assert f"commit {made[:10]} (trailer) knows record 3" in place.faults()[0]


def test_anchoring_takes_this_folder_alone_and_is_repeatable(place):
    place.write("one", commit=False)
    (place.root / "unrelated").write_text("staged by the user")
    git(place.root, "add", "unrelated")
    made = anchors.commit(place.folder, place.records, "locked")
    assert git(place.root, "show", "--name-only", "--format=", made).split() == ["fees/ledger.jsonl"]
    assert git(place.root, "diff", "--cached", "--name-only") == "unrelated"
    assert anchors.commit(place.folder, place.records, "locked") == made


@pytest.mark.parametrize(
    "value", ["", "nonsense", "0:abc " + "a" * 32, "x:y z", "999999999999999999999:h " + "a" * 32]
)
def test_odd_trailers_are_survived(place, value):
    git(place.root, "commit", "-q", "--allow-empty", "-m", f"odd\n\n{anchors.TRAILER}: {value}")
    faults = place.faults()
    assert all("knows record 9999" in fault for fault in faults)


def test_a_file_of_that_name_that_is_no_ledger_is_not_one(place):
    (place.root / "other").mkdir()
    (place.root / "other" / "ledger.jsonl").write_bytes(b"\xff not json\n")
    place.commit()
    assert place.faults() == []


def test_a_shallow_clone_is_refused(place, tmp_path):
    place.write("one")
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{place.root}", "shallow")
    with pytest.raises(IteraError, match="shallow"):
        anchors.broken_commits(tmp_path / "shallow", "HEAD")
    with pytest.raises(IteraError, match="names no commit"):
        place.broken("nowhere")


@pytest.fixture
def remote(place, tmp_path):
    git(tmp_path, "clone", "-q", "--bare", str(place.root), "origin.git")
    git(place.root, "remote", "add", "origin", str(tmp_path / "origin.git"))
    return tmp_path / "origin.git"


def opened(place):
    place.ledger.append("test_opened", {"batch": 1})
    return place.records


def test_an_opening_is_claimed_once_and_again_by_its_own_history(place, remote):
    tag = anchors.claim(place.folder, opened(place), "origin")
    assert tag == f"itera/{'a' * 32}/opening-1"
    assert (
        git(remote, "rev-parse", "main")
        == git(remote, "rev-parse", tag)
        == git(place.root, "rev-parse", "HEAD")
    )
    place.write("the pass goes on")
    assert anchors.claim(place.folder, place.records, "origin") == tag


def test_nothing_to_claim_before_the_opening(place, remote):
    with pytest.raises(IteraError, match="nothing to claim"):
        anchors.claim(place.folder, place.records, "origin")


def test_of_two_clones_one_claims(place, remote, tmp_path):
    for name in ("one", "two"):
        git(tmp_path, "clone", "-q", str(remote), name)
    first, second = Place(tmp_path / "one"), Place(tmp_path / "two")
    anchors.claim(first.folder, opened(first), "origin")
    with pytest.raises(RecordError, match="not in this history"):
        anchors.claim(second.folder, opened(second), "origin")


def test_a_branch_forced_back_is_not_opened_again(place, remote):
    """D02 under escrow: everything of the verdict is gone but the tag."""
    before = git(place.root, "rev-parse", "HEAD")
    anchors.claim(place.folder, opened(place), "origin")
    git(place.root, "reset", "-q", "--hard", before)
    git(place.root, "push", "-q", "--force", "origin", "main")
    with pytest.raises(RecordError, match="not in this history"):
        anchors.claim(place.folder, opened(place), "origin")


def test_a_tag_made_beforehand_claims_nothing(place, remote):
    """On a commit without the opening it would fit every history that goes on from there."""
    git(place.root, "push", "-q", "origin", f"HEAD:refs/tags/itera/{'a' * 32}/opening-1")
    with pytest.raises(RecordError, match="it was made before"):
        anchors.claim(place.folder, opened(place), "origin")


def test_a_verdict_is_known_by_its_own_tag(place, remote):
    """A branch forced back to its claim would resume, and roll again, until the answer pleases."""
    anchors.claim(place.folder, opened(place), "origin")
    claimed = git(place.root, "rev-parse", "HEAD")
    place.ledger.append("verdict", {"outcome": "kill"})
    assert anchors.claim(place.folder, place.records, "origin").endswith("/verdict-1")
    git(place.root, "reset", "-q", "--hard", claimed)
    git(place.root, "push", "-q", "--force", "origin", "main")
    with pytest.raises(RecordError, match="knows the verdict on this opening"):
        anchors.claim(place.folder, place.records, "origin")
    assert any("knows record" in fault for fault in place.faults())


def test_a_remote_that_cannot_be_reached_claims_nothing(place, remote):
    shutil.rmtree(remote)
    with pytest.raises(IteraError, match="git fetch did not work"):
        anchors.claim(place.folder, opened(place), "origin")


def test_a_copy_beside_a_folder_whose_path_has_odd_characters_is_found(place):
    """Deep in the tree, and with what git's patterns would read as such."""
    deep = place.root / "docs [x]" / "what*ever" / "2026-fees"
    deep.parent.mkdir(parents=True)
    git(place.root, "mv", "fees", str(deep))
    place.folder = deep
    place.write("one")
    other = Place(place.root)
    other.folder = deep.with_name("copy")
    shutil.copytree(deep, other.folder)
    other.write("the copy's own")
    place.write("the original's own", commit=False)
    assert any("another record 3" in fault for fault in place.faults())
    assert anchors.of_folder(deep).seq == 2


def test_a_ledger_behind_a_symbolic_link_is_none(place):
    """The link's own text never changes, whatever becomes of the file that it points at."""
    real = place.root / "real.txt"
    place.write("one", "two")
    (place.folder / "ledger.jsonl").rename(real)
    (place.folder / "ledger.jsonl").symlink_to("../real.txt")
    place.commit()
    whole = real.read_bytes()
    git(place.root, "branch", "-f", "start")
    real.write_bytes(whole.splitlines(keepends=True)[0])
    place.commit()
    assert any("does not go on" in fault for fault in place.broken())
