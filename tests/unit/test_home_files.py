"""Files in HOME, which belongs to the agent: whatever it left there, nothing outside is touched."""

from __future__ import annotations

import os
import pathlib

import pytest

from gateway.workers.home_files import write_files

FILE = ".agent/deep/config.toml"


@pytest.fixture
def home(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "victim").write_text("precious")
    return tmp_path / "home"


def intact(home: pathlib.Path) -> bool:
    outside = home.parent / "outside"
    return [path.name for path in outside.iterdir()] == ["victim"] and (
        outside / "victim"
    ).read_text() == "precious"


def test_a_file_is_written_with_its_directories_for_its_owner_alone_and_replaced(home: pathlib.Path) -> None:
    for text in ("one", "two שתיים"):
        write_files(str(home), {FILE: text, "plain": text}, uid=None)
        assert (home / FILE).read_text() == (home / "plain").read_text() == text
    assert (home / FILE).stat().st_mode & 0o777 == 0o600
    assert (home / ".agent").stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in home.iterdir()) == [".agent", "plain"], "no draft is left"


def test_no_link_is_followed(home: pathlib.Path) -> None:
    (home / ".agent").symlink_to(home.parent / "outside")
    (home / "plain").symlink_to(home.parent / "outside" / "victim")
    os.link(home.parent / "outside" / "victim", home / "hard")
    write_files(str(home), {FILE: "new", "plain": "new", "hard": "new"}, uid=None)
    assert intact(home)
    assert (home / FILE).read_text() == (home / "plain").read_text() == (home / "hard").read_text() == "new"
    assert not (home / ".agent").is_symlink()


def test_a_home_that_is_a_link_is_refused(home: pathlib.Path) -> None:
    home.rmdir()
    home.symlink_to(home.parent / "outside")
    with pytest.raises(OSError, match=r"directory|symbolic"):
        write_files(str(home), {"victim": "new"}, uid=None)
    assert intact(home)


def test_what_is_in_the_way_of_a_directory_goes_and_a_directory_in_the_way_of_a_file_is_an_error(
    home: pathlib.Path,
) -> None:
    (home / ".agent").write_text("a file")
    os.mkfifo(home / "pipe")
    write_files(str(home), {FILE: "new", "pipe": "new"}, uid=None)
    assert (home / FILE).read_text() == (home / "pipe").read_text() == "new"
    (home / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        write_files(str(home), {"taken": "new"}, uid=None)
    assert [path for path in home.iterdir() if path.name.startswith(".") and path.name != ".agent"] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_files_belong_to_the_session(home: pathlib.Path) -> None:
    write_files(str(home), {FILE: "new"}, uid=200_123)
    owners = {path.stat().st_uid for path in (home / FILE, home / ".agent", home / ".agent" / "deep")}
    assert owners == {200_123}
