"""The card of attacks: the documents quote one card, and a run that prints another one says so."""

from __future__ import annotations

import pathlib

import pytest

from tests.hostile import card

ROWS: card.Rows = {"probes, strict as root": (3, 3), "probes, basic as root": (3, 2)}


@pytest.fixture
def documents(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Documents that quote the card of ROWS, after a run that printed it."""
    monkeypatch.setattr(card, "CARD", dict(ROWS))
    monkeypatch.setattr(card, "DOCUMENT", tmp_path / "isolation.md")
    monkeypatch.setattr(card, "README", tmp_path / "README.md")
    monkeypatch.delenv("HOSTILE_CARD", raising=False)
    card.DOCUMENT.write_text("```\nother\n```\n\n```\n" + "\n".join(card.lines()) + "\n```\n\nText.\n")
    card.README.write_text(
        "- Of 6 attacks from behind the walls, 5 were blocked; the other 1 are documented\n"
    )
    return tmp_path


def test_the_readme_and_the_page_about_isolation_quote_one_card() -> None:
    rows = card.quoted()
    tried, held = rows.pop(card.TOGETHER)
    assert card.total(rows) == (tried, held)
    assert card.in_readme() == (tried, held, tried - held)


def test_a_run_that_prints_what_is_quoted_has_no_objection(documents: pathlib.Path) -> None:
    assert card.objection(is_whole=True) is None


def test_a_probe_more_is_said_and_written_when_asked_for(
    documents: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card.note("probes, strict as root", tried=1, held=1)
    card.note("doors, strict as root", tried=5, held=4)
    words = card.objection(is_whole=True)
    assert words is not None
    assert "HOSTILE_CARD=write" in words
    monkeypatch.setenv("HOSTILE_CARD", "write")
    assert card.objection(is_whole=True) is None
    assert card.quoted() == card.CARD | {card.TOGETHER: (12, 10)}
    assert card.in_readme() == (12, 10, 2)
    text = card.DOCUMENT.read_text()
    assert (text.startswith("```\nother\n```\n"), text.endswith("```\n\nText.\n")) == (True, True)


def test_a_part_of_the_tests_or_a_machine_without_some_walls_says_nothing(documents: pathlib.Path) -> None:
    card.note("probes, strict as root", tried=1, held=1)
    assert card.objection(is_whole=False) is None
    del card.CARD["probes, basic as root"]
    assert card.objection(is_whole=True) is None
    card.CARD.clear()
    assert card.objection(is_whole=True) is None


def test_what_other_processes_of_a_run_noted_is_added(documents: pathlib.Path) -> None:
    card.add({"probes, strict as root": (2, 1), "doors": (1, 1)})
    assert card.CARD["probes, strict as root"] == (5, 4)
    assert card.total(card.CARD) == (9, 7)
