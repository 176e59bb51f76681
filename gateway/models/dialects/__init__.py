"""How providers are spoken to: one file a dialect, over `contract.py`. Pure: no I/O, no clock.

`BY_FAMILY` says which dialects answer below `/llm/FAMILY`.
"""

from __future__ import annotations

from typing import Final

from gateway.models.dialects.chat import CHAT
from gateway.models.dialects.contract import Tongue
from gateway.models.dialects.gemini import GEMINI
from gateway.models.dialects.messages import MESSAGES
from gateway.models.dialects.responses import RESPONSES
from gateway.models.meter import Dialect

BY_FAMILY: Final[dict[str, tuple[Tongue, ...]]] = {
    "openai": (CHAT, RESPONSES),
    "anthropic": (MESSAGES,),
    "gemini": (GEMINI,),
}
TONGUES: Final[dict[Dialect, Tongue]] = {tongue.name: tongue for row in BY_FAMILY.values() for tongue in row}
