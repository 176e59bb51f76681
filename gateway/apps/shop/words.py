"""What the shop says, in Hebrew and in English; the Hebrew is what clients have always been told."""

from __future__ import annotations

from typing import Final

from msgspec import Struct


class Words(Struct, frozen=True, kw_only=True):
    """One language. Every text is a template of `str.format`."""

    stores: str
    store: str
    found: str
    found_one: str
    nothing_found: str
    added: str
    count_and_total: str
    count_left_and_total: str
    cart_is_empty: str
    cart: str
    cart_line: str
    cart_total: str
    removed: str
    now_empty: str
    cleared: str
    no_such_product: str
    not_in_cart: str
    not_for_sale: str
    bad_quantity: str
    too_much: str
    too_many_lines: str
    bad_argument: str
    bad_id: str
    full: str
    failed: str
    fresh: str


HEBREW: Final = Words(
    stores="🏪 **חנויות זמינות:**\n",
    store="• **{name}**\n  מוצרים: {count}\n",
    found="נמצאו {count} מוצרים:",
    found_one="\n\n• {name}\n  מחיר: {price} ₪\n  קטגוריה: {category}\n  מזהה: {id}",
    nothing_found="לא נמצאו מוצרים התואמים לחיפוש",
    added="✓ המוצר נוסף לעגלה!\n\n{name}\nכמות: {quantity}\n\n",
    count_and_total='סה"כ פריטים בעגלה: {count}\nסכום כולל: {total} ₪',
    count_left_and_total='סה"כ פריטים: {count}\nסכום כולל: {total} ₪',
    cart_is_empty="העגלה ריקה 🛒",
    cart="🛒 **העגלה שלך:**\n",
    cart_line="\n• {name}\n  כמות: {quantity} × {price} ₪ = {total} ₪\n  מזהה: {id}\n",
    cart_total='\n**סה"כ לתשלום: {total} ₪**',
    removed="✓ {name} הוסר מהעגלה!\n\n",
    now_empty="העגלה ריקה כעת.",
    cleared="✓ העגלה נוקתה",
    no_such_product="❌ המוצר לא נמצא. מזהה מוצר נראה כך: nitzat-haduvdevan:0",
    not_in_cart="❌ המוצר לא נמצא בעגלה",
    not_for_sale="❌ המוצר אינו זמין לרכישה כרגע",
    bad_quantity="❌ כמות היא מספר שלם בין 1 ל-{most}",
    too_much="❌ אפשר להחזיק בעגלה עד {most} יחידות ממוצר אחד",
    too_many_lines="❌ אפשר להחזיק בעגלה עד {most} מוצרים שונים",
    bad_argument="❌ ארגומנט שגוי: {detail}",
    bad_id="❌ מזהה השיחה ב-{source} אינו תקין: טקסט בן 1 עד {most} תווים נראים",
    full="❌ אין מקום לעגלות נוספות כרגע, נסו שוב מאוחר יותר",
    failed="❌ הפעולה לא הושלמה ולא נשמר דבר: {detail}",
    fresh="\n\n⚠️ לא התקבל מזהה שיחה, ולכן נפתחה עגלה חדשה. כדי להמשיך איתה שלחו בכל קריאה _sessionId: {id}",
)

ENGLISH: Final = Words(
    stores="🏪 **Available stores:**\n",
    store="• **{name}**\n  Products: {count}\n",
    found="Found {count} products:",
    found_one="\n\n• {name}\n  Price: {price} ₪\n  Category: {category}\n  Id: {id}",
    nothing_found="No products match the search",
    added="✓ Added to the cart!\n\n{name}\nQuantity: {quantity}\n\n",
    count_and_total="Items in the cart: {count}\nTotal: {total} ₪",
    count_left_and_total="Items in the cart: {count}\nTotal: {total} ₪",
    cart_is_empty="The cart is empty 🛒",
    cart="🛒 **Your cart:**\n",
    cart_line="\n• {name}\n  Quantity: {quantity} × {price} ₪ = {total} ₪\n  Id: {id}\n",
    cart_total="\n**Total to pay: {total} ₪**",
    removed="✓ {name} was removed from the cart!\n\n",
    now_empty="The cart is empty now.",
    cleared="✓ The cart was cleared",
    no_such_product="❌ There is no such product. A product's id looks like this: nitzat-haduvdevan:0",
    not_in_cart="❌ This product is not in the cart",
    not_for_sale="❌ This product cannot be bought at the moment",
    bad_quantity="❌ A quantity is a whole number from 1 to {most}",
    too_much="❌ A cart holds at most {most} of one product",
    too_many_lines="❌ A cart holds at most {most} different products",
    bad_argument="❌ Wrong argument: {detail}",
    bad_id="❌ The conversation's id in {source} is not one: text of 1 to {most} visible characters",
    full="❌ There is no room for more carts now; try again later",
    failed="❌ This was not done, and nothing was stored: {detail}",
    fresh="\n\n⚠️ No conversation id came along, so this cart is a new one. To go on with it, send"
    " _sessionId: {id} with every call",
)


def words_for(locale: object) -> Words:
    """English for an English locale (`en`, `en-US`), else Hebrew."""
    return ENGLISH if isinstance(locale, str) and locale.strip().lower()[:2] == "en" else HEBREW
