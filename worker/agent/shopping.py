"""Shopping sentences, for the offline model: what is meant, and which of the shop's tools comes next. Pure.

English and Hebrew. A sentence may take two calls (find, then add); how far it has come is read from the
conversation, and so is what "the first" means: the products that were last spoken of.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from worker.agent.conversation import ModelMessage


class ShoppingStep(msgspec.Struct, frozen=True):
    """The next call of a tool."""

    name: str
    arguments: dict[str, Any]


class ShoppingWish(msgspec.Struct, frozen=True):
    """What a sentence asks for. `place`: the first is 1, the last is -1; None: it is named by `what`."""

    verb: str
    what: str = ""
    count: int = 1
    place: int | None = None
    locale: str = "en"


class _Done(msgspec.Struct, frozen=True):
    """A call that was made for this sentence, and what the tool said."""

    name: str
    said: str


Offered = list[tuple[str, str]]
"""(product's id, name) of what was shown, in its order."""


def next_step(messages: Sequence[ModelMessage]) -> ShoppingStep | str | None:
    """What comes next for the last user message: a call, the answer, or None: it is not about shopping."""
    at = next((i for i in reversed(range(len(messages))) if messages[i]["role"] == "user"), None)
    if at is None:
        return None
    wish = read(messages[at]["content"])
    if wish is None:
        return None
    return _STEPS[wish.verb](wish, list(_done(messages[at + 1 :])), _last_shown(messages[:at]))


def _done(messages: Sequence[ModelMessage]) -> list[_Done]:
    names = {
        call["id"]: call["function"]["name"]
        for message in messages
        for call in message.get("tool_calls") or ()
    }
    return [
        _Done(names.get(message.get("tool_call_id"), ""), message["content"])
        for message in messages
        if message["role"] == "tool"
    ]


def _last_shown(messages: Sequence[ModelMessage]) -> Offered:
    for message in reversed(messages):
        if message["role"] in ("assistant", "tool") and (shown := products_in(message.get("content") or "")):
            return shown
    return []


def products_in(text: str) -> Offered:
    """The products that a tool's text lists."""
    shown: Offered = []
    name = ""
    for line in text.split("\n"):
        if line.startswith("• "):
            name = line[2:].strip()
        elif (match := _ID_LINE.fullmatch(line)) and name:
            shown.append((match[1], name))
            name = ""
    return shown


# -- steps ------------------------------------------------------------------------------------------------


def _find(wish: ShoppingWish, done: list[_Done], _shown: Offered) -> ShoppingStep | str:
    if not done:
        return _search(wish, wish.what)
    if len(done) == 1 and not products_in(done[0].said) and (other := _otherwise(wish.what)) is not None:
        return _search(wish, other)
    return done[-1].said


def _add(wish: ShoppingWish, done: list[_Done], shown: Offered) -> ShoppingStep | str:
    if done and done[-1].name == "add_to_cart":
        return done[-1].said
    if _PRODUCT_ID.fullmatch(wish.what):
        return _put(wish, wish.what)
    if wish.place is not None:
        chosen = _at(shown, wish.place)
        return _SHOWN_NOTHING[wish.locale] if chosen is None else _put(wish, chosen)
    found = _find(wish, done, shown)
    if isinstance(found, ShoppingStep):
        return found
    offered = products_in(found)
    return _put(wish, offered[0][0]) if offered else found


def _remove(wish: ShoppingWish, done: list[_Done], _shown: Offered) -> ShoppingStep | str:
    if not done:
        return ShoppingStep("view_cart", {"locale": wish.locale})
    if done[-1].name != "view_cart":
        return done[-1].said
    cart = products_in(done[-1].said)
    chosen = _at(cart, wish.place) if wish.place is not None else _named(cart, wish.what)
    if chosen is None:
        return _NOT_IN_CART[wish.locale].format(what=wish.what) if cart else done[-1].said
    return ShoppingStep("remove_from_cart", {"product_id": chosen, "locale": wish.locale})


def _once(tool: str) -> Callable[[ShoppingWish, list[_Done], Offered], ShoppingStep | str]:
    def step(wish: ShoppingWish, done: list[_Done], _shown: Offered) -> ShoppingStep | str:
        return done[-1].said if done else ShoppingStep(tool, {"locale": wish.locale})

    return step


_STEPS: Final[dict[str, Callable[[ShoppingWish, list[_Done], Offered], ShoppingStep | str]]] = {
    "find": _find,
    "add": _add,
    "remove": _remove,
    "view": _once("view_cart"),
    "clear": _once("clear_cart"),
    "stores": _once("list_stores"),
}


def _search(wish: ShoppingWish, text: str) -> ShoppingStep:
    return ShoppingStep("search_products", {"search": text[:200], "locale": wish.locale})


def _put(wish: ShoppingWish, product_id: str) -> ShoppingStep:
    return ShoppingStep(
        "add_to_cart", {"product_id": product_id, "quantity": wish.count, "locale": wish.locale}
    )


def _otherwise(what: str) -> str | None:
    """Another spelling of what was not found: without the plural's s, without the Hebrew article."""
    if what.endswith("s") and len(what) > 3:
        return what[:-1]
    if what.startswith("ה") and len(what) > 3:
        return what[1:]
    return None


def _at(products: Offered, place: int) -> str | None:
    index = place - 1 if place > 0 else len(products) + place
    return products[index][0] if 0 <= index < len(products) else None


def _named(products: Offered, what: str) -> str | None:
    """The product that is meant: by its id, or all words of its name."""
    words = [word.removeprefix("ה") if len(word) > 3 else word for word in what.casefold().split()]
    for product_id, name in products:
        if product_id == what or (words and all(_is_in(word, name.casefold()) for word in words)):
            return product_id
    return None


def _is_in(word: str, name: str) -> bool:
    return word in name or (len(word) > 3 and word.removesuffix("s") in name)


# -- reading ----------------------------------------------------------------------------------------------


def read(said: str) -> ShoppingWish | None:
    """What a sentence asks the shop for; None if it asks for something else."""
    line = " ".join(said.split())
    locale = "he" if _HEBREW.search(line) else "en"
    for pattern, verb in _VERBS[locale]:
        if match := pattern.search(line):
            about = match[1] if pattern.groups else ""
            wish = _wish(verb, about or "", locale)
            return (
                wish
                if wish.what not in ("", "me") or wish.place is not None or verb in _NEEDS_NOTHING
                else None
            )
    return None


def _wish(verb: str, about: str, locale: str) -> ShoppingWish:
    text = _TAIL.sub("", about.strip()).strip(" \t.,!?:;\"'“”")
    count, text = _counted(text)
    place = _PLACES.get(_ARTICLE.sub("", text).casefold())
    if not text and count is not None:
        place = 1
    return ShoppingWish(verb, "" if place is not None else _ARTICLE.sub("", text), count or 1, place, locale)


def _counted(text: str) -> tuple[int | None, str]:
    first, _, rest = text.partition(" ")
    number = int(first) if first.isdecimal() and len(first) < 6 else _NUMBERS.get(first.casefold())
    return (None, text) if number is None else (number, _OF.sub("", rest.strip()))


def _patterns(*rules: tuple[str, str]) -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(pattern, re.IGNORECASE), verb) for pattern, verb in rules]


_HEBREW: Final = re.compile("[\u0590-\u05ff]")
_ID_LINE: Final = re.compile(r"\s+(?:Id|מזהה): (\S+)")
_PRODUCT_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}:\d{1,7}")
_NEEDS_NOTHING: Final = ("view", "clear", "stores")
_VERBS: Final = {
    "en": _patterns(
        (r"\b(?:empty|clear)\b.*\b(?:cart|basket)\b", "clear"),
        (r"\b(?:remove|delete|take out|drop)\b (.+)", "remove"),
        (r"\b(?:add|put|buy|order|i(?:'ll| will) take)\b (.+)", "add"),
        (r"\b(?:what(?:'s| is)|show|view|see|open|check)\b.*\b(?:my|the) (?:cart|basket)\b", "view"),
        (r"^(?:my )?(?:cart|basket)\W*$", "view"),
        (r"\b(?:which|what|list|show)(?: me)?(?: the)? (?:stores|shops)\b", "stores"),
        (
            r"\b(?:show|find|search|look(?:ing)?|you (?:have|sell|got))(?: (?:me|for|any|some)\b)* (.+)",
            "find",
        ),
    ),
    "he": _patterns(
        (r"(?:רוקן|רוקני|תרוקן|נקה|נקי|תנקה).*(?:עגלה|סל)", "clear"),
        (r"(?:תסיר|תסירי|הסר|הסירי|תוריד|תורידי|תמחק|תמחקי|מחק|תוציא|הוצא)(?: לי)? (.+)", "remove"),
        (r"(?:תוסיף|תוסיפי|הוסף|הוסיפי|תשים|תשימי|שים|שימי|אקח|אקנה)(?: לי)? (.+)", "add"),
        (r"(?:מה|הצג|תראה|תראי|הראה).*(?:בעגלה|העגלה|בסל|הסל|עגלה שלי)", "view"),
        (r"^(?:ה?עגלה|הסל)(?: שלי)?\W*$", "view"),
        (r"(?:אילו|איזה|אלו|רשימת|הצג) ?ה?חנויות", "stores"),
        (
            r"(?:תראה|תראי|הראה|הראי|הצג|חפש|חפשי|תחפש|תחפשי|מצא|תמצא|יש לכם|יש לך|מחפש|מחפשת)(?: לי)? (.+)",
            "find",
        ),
    ),
}
_TAIL: Final = re.compile(
    r"(?:,? please|\s*,? בבקשה)?\W*(?: (?:to|in|into|from|out of)(?: my| the)? (?:cart|basket)"
    r"| (?:לעגלה|לסל|מהעגלה|מהסל|בעגלה)(?: שלי)?)?(?:,? please|,? בבקשה)?\W*$",
    re.IGNORECASE,
)
_ARTICLE: Final = re.compile(r"^(?:(?:the|a|an|some|any|of the|of) |(?:את |של |מ(?=ה)))+", re.IGNORECASE)
_OF: Final = re.compile(r"^(?:(?:units? |packs? |pieces? )?of |x |יחידות |חבילות |של )+", re.IGNORECASE)
_ENGLISH_NUMBERS: Final = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS: Final = {word: number for number, word in enumerate(_ENGLISH_NUMBERS, 1)} | {
    **dict.fromkeys(("אחד", "אחת"), 1),
    **dict.fromkeys(("שני", "שתי", "שניים", "שתיים"), 2),
    **dict.fromkeys(("שלוש", "שלושה"), 3),
    **dict.fromkeys(("ארבע", "ארבעה"), 4),
    **dict.fromkeys(("חמש", "חמישה"), 5),
    **dict.fromkeys(("עשר", "עשרה"), 10),
}
_ENGLISH_PLACES: Final = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
_PLACES: Final = (
    {word: place for place, word in enumerate(_ENGLISH_PLACES, 1)}
    | {f"{word} one": place for place, word in enumerate(_ENGLISH_PLACES, 1)}
    | {"last": -1, "last one": -1, "it": 1, "that": 1, "this": 1, "them": 1}
    | {
        **dict.fromkeys(("הראשון", "הראשונה", "ראשון", "אותו", "אותה", "זה"), 1),
        **dict.fromkeys(("השני", "השנייה", "השניה"), 2),
        **dict.fromkeys(("השלישי", "השלישית"), 3),
        **dict.fromkeys(("הרביעי", "הרביעית"), 4),
        **dict.fromkeys(("האחרון", "האחרונה"), -1),
    }
)
_SHOWN_NOTHING: Final = {
    "en": "I have shown you no product of that place yet. Say what you are looking for: show me quinoa.",
    "he": "עוד לא הצגתי מוצר במקום הזה. אמרו מה לחפש: תראה לי קינואה.",
}
_NOT_IN_CART: Final = {
    "en": "“{what}” is not in your cart.",
    "he": "„{what}” לא נמצא בעגלה שלך.",
}
