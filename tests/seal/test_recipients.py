"""Recipients files: age and SSH public keys, each mistake with its line, never a private key echoed."""

import shutil
import subprocess

import pyrage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itera_nb.exceptions import IteraError
from itera_nb.seal.recipients import FILE, Recipient, find, parse, private_key, public_key, read
from itera_nb.seal.recipients import given as given_by


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """kind -> (public line, private text) of real keys."""
    folder = tmp_path_factory.mktemp("keys")
    identity = pyrage.x25519.Identity.generate()
    made = {"age": (f"{identity.to_public()} CI", f"# a comment\n{identity}\n")}
    if shutil.which("ssh-keygen"):
        for kind, passphrase in (("ed25519", ""), ("rsa", ""), ("ecdsa", ""), ("locked", "pw")):
            path = folder / kind
            type_ = "ed25519" if kind == "locked" else kind
            command = [
                "ssh-keygen",
                "-q",
                "-t",
                type_,
                "-N",
                passphrase,
                "-C",
                f"{kind}@laptop",
                "-f",
                str(path),
            ]
            subprocess.run(command, check=True)
            made[kind] = (path.with_suffix(".pub").read_text().strip(), path.read_text())
    return made


ssh = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs ssh-keygen")


@ssh
def test_a_teams_file(keys):
    text = f"# our team\n\n{keys['age'][0]}\n  {keys['ed25519'][0]}  \n{keys['rsa'][0]}\r\n{keys['age'][0]}\n"
    found = parse(text, "recipients")
    assert [r.who for r in found] == ["CI", "ed25519@laptop", "rsa@laptop"]
    assert parse("".join(f"{r.line}\n" for r in found), "again") == found


@ssh
@pytest.mark.parametrize("kind", ["age", "ed25519", "rsa"])
def test_what_is_encrypted_to_the_public_key_opens_with_the_private_one(keys, kind):
    public, private = keys[kind]
    (one,) = parse(public, "x")
    sealed = pyrage.encrypt(b"rows", [public_key(one.key)])
    assert pyrage.decrypt(sealed, [private_key(private)]) == b"rows"


@ssh
def test_a_fingerprint_is_the_one_that_ssh_shows(keys, tmp_path):
    (tmp_path / "k.pub").write_text(keys["ed25519"][0])
    shown = subprocess.run(
        ["ssh-keygen", "-lf", str(tmp_path / "k.pub")], capture_output=True, text=True, check=True
    )
    (one,) = parse(keys["ed25519"][0], "x")
    assert one.fingerprint in shown.stdout
    assert one.name == f"ed25519@laptop ({one.fingerprint})"


@ssh
def test_every_mistake_is_named_with_its_line(keys):
    text = f"{keys['age'][0]}\nage1wrong CI\n# fine\nssh-rsa AAAA\nssh-ed25519\n{keys['ecdsa'][0]}\nbob\n"
    with pytest.raises(IteraError) as caught:
        parse(text, "team")
    assert [line.partition(": ")[0] for line in caught.value.what.splitlines()] == [
        f"team:{n}" for n in (2, 4, 5, 6, 7)
    ]
    assert "ecdsa" in caught.value.what


@ssh
@pytest.mark.parametrize("kind", ["age", "ed25519"])
def test_a_private_key_is_refused_and_not_repeated(keys, kind):
    private = keys[kind][1]
    with pytest.raises(IteraError, match="private key") as caught:
        parse(private, "team")
    secret = [word for word in private.split() if len(word) > 30]
    assert not any(word in str(caught.value) for word in secret if word.startswith("AGE-SECRET"))


@ssh
@pytest.mark.parametrize(("kind", "said"), [("locked", "passphrase"), ("ecdsa", "no age or OpenSSH")])
def test_private_keys_that_cannot_be_used_say_why(keys, kind, said):
    with pytest.raises(ValueError, match=said) as caught:
        private_key(keys[kind][1])
    assert not any(word in str(caught.value) for word in keys[kind][1].split() if len(word) > 30)


@pytest.mark.parametrize("text", ["", "\n# nobody\n"])
def test_a_file_without_recipients_is_a_mistake(text):
    with pytest.raises(IteraError, match="names no recipient"):
        parse(text, "team")


def test_a_name_has_no_control_characters_and_an_end(keys):
    (one,) = parse(f"{keys['age'][0].split()[0]} \x1b[31mCI\u202e {'x' * 200}", "team")
    assert one.who.startswith("[31mCI ")
    assert len(one.who) == 60
    assert one.who.isprintable()


@given(st.text())
@settings(max_examples=150, deadline=None)
def test_any_text_is_read_or_refused(text):
    try:
        found = parse(text, "x")
    except IteraError:
        return
    assert all(public_key(r.key) for r in found)


def test_the_nearest_file_up_to_the_repository_counts(tmp_path, keys):
    folder = tmp_path / "repo" / "docs" / "experiments" / "fees"
    folder.mkdir(parents=True)
    outside, root, own = (base / FILE for base in (tmp_path, tmp_path / "repo", folder))
    for path in (outside, root, own):
        path.parent.mkdir()
        path.write_text(keys["age"][0])
    own.unlink()
    root.unlink()
    assert find(folder) is None, "without a repository only the folder's own counts"
    (tmp_path / "repo" / ".git").mkdir()
    assert find(folder) is None, "what lies outside the repository does not"
    root.write_text(keys["age"][0])
    assert find(folder) == root
    own.write_text(keys["age"][0])
    assert find(folder) == own


def test_given_are_keys_or_files(tmp_path, keys):
    line, path = keys["age"][0], tmp_path / "team"
    path.write_text(f"{line}\n")
    key = line.split()[0]
    assert given_by([key]) == (Recipient(key),)
    assert given_by([str(path), key]) == (Recipient(key, "CI"),)
    for wrong in (str(tmp_path), str(tmp_path / "none"), "age1nothing"):
        with pytest.raises(IteraError):
            given_by([wrong])
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(IteraError, match="as text"):
        read(tmp_path / "binary")
