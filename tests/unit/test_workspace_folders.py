"""The folders of a warm copy after a kill, and the words and names of workspaces."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import msgspec
import pytest

from gateway.config.credentials import CredentialConfig
from gateway.config.file import ConfigError, load
from gateway.config.workspaces import WorkspaceConfig, is_branch
from gateway.errors import WorkspaceFailed
from gateway.files.workspaces_disk import Folders, Tree, configuration
from gateway.files.workspaces_fetching import remote_of
from gateway.files.workspaces_out import author_of, pull_request_url
from gateway.files.workspaces_warm import COPYING, digest

REPO = "https://git.example.test/acme/app.git"


def test_what_a_killed_refresh_left_is_swept_and_the_last_tree_stays(tmp_path: pathlib.Path) -> None:
    folders = Folders(tmp_path / "app", is_root=os.geteuid() == 0)
    folders.open()
    tree = Tree(id="good", commit="1" * 40, branch="main", digest="d", made_at=1, checked_at=1)
    (folders.tree("good") / "work").mkdir(parents=True)
    folders.publish(tree)
    (folders.tree("half") / "work").mkdir(parents=True)
    (folders.tree("half") / "work" / "file").write_text("half")
    (folders.path / "tmp" / "x" / "home").mkdir(parents=True)
    (folders.objects / "pack").mkdir(parents=True)
    for name in ("objects/pack/tmp_pack_abc", "shallow.lock", "objects/pack/pack-1.pack"):
        (folders.git / name).write_text("half")
    (folders.path / "current.json.0123").write_text("{")
    again = Folders(tmp_path / "app", is_root=os.geteuid() == 0)
    again.open()
    assert again.current() == tree
    assert [path.name for path in (folders.path / "trees").iterdir()] == ["good"]
    assert list((folders.path / "tmp").iterdir()) == []
    kept = sorted(str(path.relative_to(folders.git)) for path in folders.git.rglob("*"))
    assert kept == ["objects", "objects/pack", "objects/pack/pack-1.pack"]
    assert not list(folders.path.glob("current.json.*"))


def test_a_tree_that_is_not_there_is_none(tmp_path: pathlib.Path) -> None:
    folders = Folders(tmp_path / "app", is_root=os.geteuid() == 0)
    folders.open()
    (folders.path / "current.json").write_text("{")
    assert folders.current() is None
    folders.publish(Tree(id="gone", commit="1", branch="", digest="", made_at=1, checked_at=1))
    assert folders.current() is None


@pytest.mark.parametrize(
    ("printed", "ref", "found"),
    [
        ("ref: refs/heads/main\tHEAD\n11\tHEAD\n", "", ("refs/heads/main", "11", "main")),
        ("11\tHEAD\n", "", ("HEAD", "11", "")),
        ("11\trefs/heads/x\n22\trefs/tags/x\n", "x", ("refs/heads/x", "11", "x")),
        ("22\trefs/tags/v1\n33\trefs/tags/v1^{}\n", "v1", ("refs/tags/v1", "33", "")),
    ],
)
def test_what_a_server_says_of_a_ref(printed: str, ref: str, found: tuple[str, str, str]) -> None:
    assert msgspec.structs.astuple(remote_of(printed, WorkspaceConfig(repo=REPO, ref=ref))) == found


@pytest.mark.parametrize("ref", ["", "gone"])
def test_a_ref_that_is_not_there_is_said(ref: str) -> None:
    with pytest.raises(WorkspaceFailed, match=r"gone|empty"):
        remote_of("11\trefs/heads/other\n", WorkspaceConfig(repo=REPO, ref=ref))


def test_the_author_is_the_person_and_cannot_be_markup() -> None:
    workspace = WorkspaceConfig(repo=REPO, author_email="{subject}@{tenant}.example")
    assert msgspec.structs.astuple(author_of("acme/ann", workspace)) == ("ann", "ann@acme.example")
    assert author_of("acme/ann@acme.test", workspace).email == "ann@acme.test"
    odd = author_of("acme/x <root@evil>\n", workspace)
    assert not set("<>\n") & set(odd.name + odd.email)


def test_where_a_pull_request_is_opened() -> None:
    def link(pattern: str) -> str:
        workspace = WorkspaceConfig(repo=REPO, pull_request_url=pattern)
        return pull_request_url(workspace, branch="agent/a b", base="main")

    repo = REPO.removesuffix(".git")
    assert link("github") == f"{repo}/compare/main...agent/a%20b?expand=1"
    assert link("https://x.example/new?b={branch}") == "https://x.example/new?b=agent/a%20b"
    assert link("") == ""


@pytest.mark.parametrize(
    "name", ["-x", "a..b", "a//b", "a.lock", "a/", ".a", "a b", "a~1", "a:b", "", "a@{1}"]
)
def test_a_name_that_no_branch_may_have(name: str) -> None:
    assert not is_branch(name)


def test_a_sessions_configuration_is_quoted() -> None:
    text = configuration(repo=REPO, name='a"\n[core]\nfsmonitor=x', email="a@b")
    assert '\tname = "a\\" [core] fsmonitor=x"\n' in text


def test_a_tree_is_made_anew_when_what_it_is_made_by_changes() -> None:
    workspace = WorkspaceConfig(repo=REPO)
    assert digest(workspace) == digest(msgspec.structs.replace(workspace, limits={"processes": 9}))
    assert digest(workspace) != digest(msgspec.structs.replace(workspace, setup="make"))


def test_mistakes_in_a_workspace_are_named(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        '[credentials.git]\nhosts = ["other.example"]\nper = "person"\n'
        '[workspaces.app]\nrepo = "http://git.example/app"\nref = "-x"\ncache = ["../x"]\n'
        'credential = "git"\n'
        'limits = {nothing = 1}\ntenants = ["nobody"]\nagent = "ghost"\npull_request_url = "javascript:"\n'
        '[workspaces.b]\nrepo = "https://user:word@git.example/b"\n'
    )
    with pytest.raises(ConfigError) as error:
        load(path, environ={})
    words = " ".join(error.value.mistakes)
    for part in ("app.repo", "app.ref", "app.cache", "app.credential", "app.limits.nothing", "app.tenants"):
        assert part in words
    for part in ("app.agents: there is no agent 'ghost'", "app.pull_request_url", "b.repo: has no user"):
        assert part in words
    assert CredentialConfig(hosts=("a.b",)).places == (("a.b", 443),)


def test_a_copy_that_fails_says_why_in_a_word(tmp_path: pathlib.Path) -> None:
    for name in ("from", "to"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    argv = [sys.executable, "-I", "-S", "-c", COPYING, str(tmp_path / "from"), str(tmp_path / "to")]
    done = subprocess.run([*argv, "--", "1000"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "File exists\n")
    assert (tmp_path / "to/file").read_text() == "to"
