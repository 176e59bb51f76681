"""The version, in one place."""

from typing import Final

VERSION: Final = "0.2.0"
