"""Who acts by a shared link: somebody who signed in, by their name, or a guest, by one that they typed.

Guarantees: a guest's name is one line of letters, digits and few signs, of one script, and not a word that
the page or the gateway uses for somebody; it is not the name of anyone else who is known in the session.
What a guest is called never decides what they may do: that is the link.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from gateway.errors import InvalidField
from gateway.events.facts import Contributor
from gateway.events.fold import Participant
from gateway.principal import Principal
from gateway.stores.credentials import Share

NAME_CHARACTERS: Final = 40
PERSON_CHARACTERS: Final = 80
"""Of a signed-in person's name that is shown."""
_SIGNS: Final = frozenset(" -'’._")
_MARKS_IN_A_ROW: Final = 2
_GUEST: Final = re.compile(r"[A-Za-z0-9_-]{16,64}")
_ID_LETTERS: Final = 16
_LINK_LETTERS: Final = 8

RESERVED: Final = frozenset(
    {
        *("owner", "theowner", "you", "me", "agent", "theagent", "assistant", "ai", "bot", "system", "user"),
        *("admin", "administrator", "operator", "gateway", "agentgateway", "guest", "anonymous", "nobody"),
        *("tool", "developer", "model", "support", "staff", "everybody", "somebody", "unknown", "server"),
        *("בעלים", "הבעלים", "בעלהשיחה", "אתה", "את", "אני", "סוכן", "הסוכן", "מערכת", "המערכת", "מנהל"),
        *("אורח", "אורחת", "משתמש", "משתמשת", "עוזר", "תמיכה", "בעלת", "בעל"),
    }
)
"""As `skeleton` spells them."""
_LOOKS_LIKE: Final = str.maketrans("0135", "oies") | {ord("l"): "i", ord("|"): "i", ord("ı"): "i"}


def skeleton(name: str) -> str:
    """What is left of a name for the eye: two names with the same are taken for each other."""
    folded = unicodedata.normalize("NFKD", name).casefold()
    letters = "".join(one for one in folded if unicodedata.category(one)[0] in "LN")
    return letters.translate(_LOOKS_LIKE)


_RESERVED: Final = frozenset(map(skeleton, RESERVED))


def checked_name(given: str, *, others: Iterable[str]) -> str:
    """A guest's name as it is shown. Raises InvalidField, which says what to do."""
    name = " ".join(unicodedata.normalize("NFKC", given).split())
    if not 0 < len(name) <= NAME_CHARACTERS:
        raise _refused(f"A name is 1 to {NAME_CHARACTERS} characters long.")
    if not all(unicodedata.category(one)[0] in "LMN" or one in _SIGNS for one in name):
        raise _refused("A name has letters, digits, spaces and - ' . _ only.")
    if any("SMALL CAPITAL" in unicodedata.name(one, "") for one in name):
        raise _refused("A name has ordinary letters.")
    if not any(unicodedata.category(one)[0] == "L" for one in name) or _has_piled_marks(name):
        raise _refused("A name has letters that can be read.")
    if len(_scripts(name)) > 1:
        raise _refused("A name is written in one script.")
    bare = skeleton(name)
    if bare in _RESERVED:
        raise _refused("This name means somebody else here. Choose another one.")
    if any(bare == skeleton(other) for other in others):
        raise _refused("Somebody here is called so already. Choose another name.")
    return name


def author_of(
    share: Share, *, principal: Principal | None, guest: str, name: str, others: Iterable[tuple[str, str]]
) -> Contributor:
    """Who acts by this link; `others` are the ids and names of those who are known in the session.

    Raises InvalidField for a guest's name that is missing or cannot be taken.
    """
    if principal is not None:
        shown = "".join(one for one in principal.subject if one.isprintable())[:PERSON_CHARACTERS]
        own_id, bare = person_id(share, f"person\0{principal.owner}"), skeleton(shown)
        mine = own_id.partition("-")[2]
        strangers = (other for other_id, other in others if other_id.partition("-")[2] != mine)
        if bare in _RESERVED or any(bare == skeleton(other) for other in strangers):
            shown = f"{shown} ({principal.tenant})"  # others could take it for somebody else's
        return Contributor(own_id, shown, "person")
    author_id = guest_id(share, guest, name)
    mine = author_id.partition("-")[2]
    strangers = (other for other_id, other in others if other_id.partition("-")[2] != mine)
    return Contributor(author_id, checked_name(name, others=strangers), "guest")


def guest_id(share: Share, guest: str, name: str) -> str:
    """The id of somebody who did not sign in: by what their browser keeps, else by their name. Raises
    InvalidField.
    """
    if guest and not _GUEST.fullmatch(guest):
        raise InvalidField("guest is 16 to 64 of A-Z a-z 0-9 _ -.", field=("query", "guest"))
    return person_id(share, f"guest\0{guest}" if guest else f"named\0{share.id}\0{skeleton(name)}")


def person_id(share: Share, who: str) -> str:
    """An id that is the same for one person and one link; it does not tell what it was made of. Its second
    part is the same for one person in one session.
    """
    letters = hashlib.sha256(f"{share.session_key}\0{who}".encode()).hexdigest()[:_ID_LETTERS]
    return f"{link_mark(share.id)}-{letters}"


def link_mark(share_id: str) -> str:
    """How the ids of all who come by one link begin."""
    return hashlib.sha256(share_id.encode()).hexdigest()[:_LINK_LETTERS]


def came_by(author: Contributor, share_id: str) -> bool:
    """Whether somebody came by this link."""
    return author.author_id.startswith(f"{link_mark(share_id)}-")


def participant(author: Contributor, share: Share) -> Participant:
    """Somebody as those who follow the session see them."""
    return Participant(author.author_id, author.name, author.kind, share.kind)


def _refused(words: str) -> InvalidField:
    return InvalidField(words, field=("query", "name"))


def _has_piled_marks(name: str) -> bool:
    in_a_row = 0
    for one in name:
        in_a_row = in_a_row + 1 if unicodedata.category(one)[0] == "M" else 0
        if in_a_row > _MARKS_IN_A_ROW:
            return True
    return False


_TOGETHER: Final = frozenset({"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "KATAKANA-HIRAGANA"})


def _scripts(name: str) -> set[str]:
    """The scripts of its letters; those that Japanese and Korean mix count as one."""
    letters = (one for one in name if unicodedata.category(one)[0] == "L")
    found = {unicodedata.name(one, "?").partition(" ")[0] for one in letters}
    return {"CJK" if one in _TOGETHER else one for one in found} - {"MODIFIER"}
