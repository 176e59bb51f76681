"""Colours as people read them: `#rrggbb`, and how well a text of one is read on another (WCAG 2). Pure."""

from __future__ import annotations

import re
from typing import Final

READABLE: Final = 4.5
"""What WCAG 2 (level AA) asks of text."""
LIGHT_GROUNDS: Final = ("#fbfaf8", "#f3f1ed", "#ffffff", "#f5f3ef")
DARK_GROUNDS: Final = ("#151819", "#101314", "#1d2122", "#191d1e")
"""What the page draws its accent on: tokens.css."""
ON_DARK_ACCENT: Final = "#09211d"
"""The text on a button that has the accent of the dark page."""
SOFT_PERCENT: Final = 12
"""So much of the accent is in its soft ground, on which it is a text, too (brand.css)."""
_STEPS: Final = 20
_HEX: Final = re.compile(r"#[0-9a-fA-F]{6}")

_Rgb = tuple[int, int, int]


def is_colour(text: str) -> bool:
    """Whether it is written `#rrggbb`."""
    return _HEX.fullmatch(text) is not None


def contrast(one: str, other: str) -> float:
    """From 1 (the same) to 21 (black on white)."""
    low, high = sorted((_luminance(_rgb(one)), _luminance(_rgb(other))))
    return (high + 0.05) / (low + 0.05)


def least_contrast(accent: str, *, is_dark: bool) -> float:
    """Of what the page draws with an accent, what is read worst."""
    grounds = (*DARK_GROUNDS, ON_DARK_ACCENT) if is_dark else LIGHT_GROUNDS
    soft = mixed(accent, DARK_GROUNDS[0] if is_dark else "#ffffff", SOFT_PERCENT)
    return min(contrast(accent, ground) for ground in (*grounds, soft))


def readable(accent: str, *, is_dark: bool) -> str:
    """The nearest one that can be read: with as much white in it as that needs, on the light page black."""
    other = "#ffffff" if is_dark else "#000000"
    tries = (mixed(accent, other, 100 - 100 * step // _STEPS) for step in range(_STEPS + 1))
    return next(one for one in tries if least_contrast(one, is_dark=is_dark) >= READABLE)


def mixed(one: str, other: str, percent: int) -> str:
    """So much of one, the rest of another."""
    parts = zip(_rgb(one), _rgb(other), strict=True)
    return "#" + "".join(f"{round((a * percent + b * (100 - percent)) / 100):02x}" for a, b in parts)


def _rgb(colour: str) -> _Rgb:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _luminance(rgb: _Rgb) -> float:
    red, green, blue = (_linear(part / 255) for part in rgb)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else float(((part + 0.055) / 1.055) ** 2.4)
