"""The operator's look of the page: colours that cannot be read, files that are no logo, links to nowhere."""

from __future__ import annotations

import pathlib

import pytest

from gateway.config.colours import (
    DARK_GROUNDS,
    LIGHT_GROUNDS,
    READABLE,
    contrast,
    least_contrast,
    mixed,
    readable,
)
from gateway.config.file import ConfigError, load
from gateway.config.page import LOGO_BYTES, PageConfig
from tests.gateways import ROOT

TOKENS = (ROOT / "frontend" / "src" / "page" / "tokens.css").read_text()


def page(directory: pathlib.Path, text: str) -> PageConfig:
    file = directory / "config.toml"
    file.write_text("[page]\n" + text)
    return load(file, environ={}).page


def mistake(directory: pathlib.Path, text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        page(directory, text)
    return str(refused.value)


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert mixed("#ff0000", "#ffffff", 50) == "#ff8080"


def test_the_colours_of_the_page_itself_can_be_read() -> None:
    assert least_contrast("#0f5f56", is_dark=False) >= READABLE
    assert least_contrast("#72cdb9", is_dark=True) >= READABLE


def test_the_grounds_are_those_of_the_page() -> None:
    from_tokens = [
        line.split(":")[1].strip(" ;")
        for line in TOKENS.splitlines()
        if line.strip().startswith(("--paper:", "--panel:", "--surface:", "--sunken:"))
    ]
    assert from_tokens == [*LIGHT_GROUNDS, *DARK_GROUNDS]


@pytest.mark.parametrize("colour", ["#ffcc00", "#ff0000", "#000000", "#ffffff", "#0000ff", "#7f7f7f"])
def test_every_colour_has_a_readable_one_near_it(colour: str) -> None:
    for is_dark in (False, True):
        assert least_contrast(readable(colour, is_dark=is_dark), is_dark=is_dark) >= READABLE


def test_a_colour_that_cannot_be_read_is_refused_with_one_that_can(tmp_path: pathlib.Path) -> None:
    said = mistake(tmp_path, 'accent = "#ffcc00"')
    assert "page.accent: #ffcc00 cannot be read well on the light page" in said
    better = said.split(" : 1. ")[-1].split()[0]
    assert page(tmp_path, f'accent = "{better}"').accent == better
    assert "on the dark page" in mistake(tmp_path, 'accent = "#0f5f56"\naccent_dark = "#0f5f56"')
    assert "#rrggbb" in mistake(tmp_path, 'accent = "teal"')
    assert "accent: is missing" in mistake(tmp_path, 'accent_dark = "#72cdb9"')


def test_the_dark_accent_is_made_of_the_light_one(tmp_path: pathlib.Path) -> None:
    dark = page(tmp_path, 'accent = "#1a237e"').dark_accent
    assert dark != "#1a237e"
    assert least_contrast(dark, is_dark=True) >= READABLE


def test_a_logo_is_a_small_picture_that_is_there(tmp_path: pathlib.Path) -> None:
    assert "cannot be read" in mistake(tmp_path, f'logo_file = "{tmp_path}/none.svg"')
    (tmp_path / "a.txt").write_text("x")
    assert "is none of .jpeg, .jpg, .png, .svg, .webp" in mistake(tmp_path, f'logo_file = "{tmp_path}/a.txt"')
    (tmp_path / "a.png").write_bytes(b"x" * (LOGO_BYTES + 1))
    assert "131072 are allowed" in mistake(tmp_path, f'logo_file = "{tmp_path}/a.png"')


def test_links_lead_somewhere_and_texts_are_bounded(tmp_path: pathlib.Path) -> None:
    for url in (
        "javascript:alert(1)",
        "https://[::1",
        "//elsewhere",
        "https://",
        "mailto:",
        "data:text/html,x",
        "https://a b",
    ):
        assert "is not an address" in mistake(tmp_path, f"links = {{ Help = '{url}' }}")
    assert "name: has 61 characters; 60 are allowed" in mistake(tmp_path, f"name = '{'x' * 61}'")
    assert "suggestions: at most 6" in mistake(tmp_path, f"suggestions = {['x'] * 7}")
    assert "suggestions: one is empty" in mistake(tmp_path, "suggestions = [' ']")
    page(tmp_path, "links = { 'Our help' = 'https://help.example/a?b=c', Mail = 'mailto:a@example.org' }")
