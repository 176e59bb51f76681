"""What visitors type, judged. Pure. Nothing here refuses a message for what it says: an apostrophe or a `<`
is no attack, and what looks like spam is only marked for the staff.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from gateway.apps.product_chat.errors import InvalidInput
from gateway.errors import InvalidField

TEXT_CHARACTERS: Final = 2_000
NAME_CHARACTERS: Final = 100
EMAIL_CHARACTERS: Final = 254
SESSION_ID_CHARACTERS: Final = 255
KIND_CHARACTERS: Final = 32
SPAM: Final = 50
"""From here on a message is marked."""
_KEPT: Final = "\n\t"
_SESSION_ID: Final = re.compile(r"[a-zA-Z0-9_-]+")
_EMAIL: Final = re.compile(r"[^@\s\x00-\x1f\x7f\"<>(),:;\\\[\]]{1,64}@[\w-]+(?:\.[\w-]+)+")
_LINK: Final = re.compile(r"https?://|www\.", re.IGNORECASE)
_RUN: Final = re.compile(r"(.)\1{9,}", re.DOTALL)
_BAIT: Final = re.compile(
    r"\b(casino|viagra|crypto giveaway|free money|click here|work from home|earn \$)\b", re.IGNORECASE
)
_COMMAND: Final = re.compile(r"/(\S+)")
_PERSON: Final = re.compile(
    r"\b(human|real person|representative|urgent|complaint|refund|manager)\b|נציג|בן אדם|דחוף|תלונה|החזר",
    re.IGNORECASE,
)


def clean(text: str) -> str:
    """The text NFKC-normalised and without control characters; otherwise as it was typed."""
    normal = unicodedata.normalize("NFKC", text.replace("\r\n", "\n"))
    return "".join(c for c in normal if c in _KEPT or unicodedata.category(c) not in ("Cc", "Cs"))


def message_text(text: str) -> str:
    """A message, clean. Raises InvalidInput."""
    if len(text) > 2 * TEXT_CHARACTERS:
        raise InvalidInput(f"Message text cannot exceed {TEXT_CHARACTERS} characters")
    text = clean(text)
    if not text.strip():
        raise InvalidInput("Message text cannot be empty")
    if len(text) > TEXT_CHARACTERS:
        raise InvalidInput(f"Message text cannot exceed {TEXT_CHARACTERS} characters")
    return text


def short(text: str | None, *, most: int = NAME_CHARACTERS) -> str | None:
    """A name or address on one line; None if nothing is left of it."""
    if text is None:
        return None
    return " ".join(clean(text[: 4 * most]).split())[:most] or None


def email(text: str | None) -> str | None:
    """An e-mail address; None if there is none. Raises InvalidField."""
    text = (text or "").strip()
    if not text:
        return None
    if len(text) > EMAIL_CHARACTERS or not _EMAIL.fullmatch(text):
        raise InvalidField("Customer email is not an e-mail address", field=("body", "customer_email"))
    return text


def session_id(text: str) -> str:
    """A session id. Raises InvalidInput."""
    if not text:
        raise InvalidInput("Session ID cannot be empty")
    if len(text) > SESSION_ID_CHARACTERS:
        raise InvalidInput("Session ID too long")
    if not _SESSION_ID.fullmatch(text):
        raise InvalidInput("Session ID contains invalid characters")
    return text


def product_id(text: str) -> int:
    """A product id. Raises InvalidInput."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise InvalidInput("Invalid product ID")
    return int(text)


def spam_score(text: str, *, repeats: int) -> int:
    """0 to 100: how much a message looks like spam; `repeats`: how often the visitor just said the same."""
    letters = [c for c in text if c.isalpha()]
    is_shouting = len(letters) > 30 and sum(c.isupper() for c in letters) > 0.8 * len(letters)
    score = 25 * max(0, len(_LINK.findall(text)) - 1) + 30 * len(_BAIT.findall(text)) + 25 * repeats
    return min(100, score + 20 * is_shouting + 25 * bool(_RUN.search(text)))


def command_of(text: str) -> str | None:
    """The name of the agent's command that a text is; None: it is none."""
    found = _COMMAND.match(text)
    return None if found is None else found[1]


def asks_for_person(text: str) -> bool:
    """Whether a visitor wants somebody, and soon."""
    return _PERSON.search(text) is not None
