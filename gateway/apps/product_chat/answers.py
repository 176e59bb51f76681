"""What product chat asks and answers over REST, for visitors and the staff."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from gateway.apps.product_chat import words
from gateway.apps.product_chat.catalogue import ChatProduct
from gateway.apps.product_chat.drafts import PostedMessage
from gateway.apps.product_chat.store import ProductMessage, ProductSession
from gateway.events.facts import iso

CHAT_ID_SCHEMA: dict[str, Any] = {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,255}$"}
ChatId = Annotated[str, Meta(extra_json_schema=CHAT_ID_SCHEMA)]

LAST_CHARACTERS: Final = 160
TextLine = Annotated[
    str, Meta(extra_json_schema={"minLength": 1, "maxLength": words.TEXT_CHARACTERS, "pattern": r"\S"})
]


class OpenRequest(Struct):
    """`POST /api/products/{pid}/chat/sessions`."""

    session_id: ChatId
    product_id: int | None = None
    customer_email: str | None = None
    customer_name: str | None = None
    initial_message: str | None = None


class Opened(Struct, frozen=True, omit_defaults=True):
    """A chat that is open: a new one, or the one that was."""

    message: str
    session_id: str
    existing: bool
    product_name: str | None = None


class MessageRequest(Struct):
    """`POST …/messages`. `client_id` is what the client calls the message: it is kept once, however often it
    is sent.
    """

    message_text: TextLine
    session_id: str | None = None
    sender_type: Literal["customer", "admin", "system"] = "customer"
    sender_name: str | None = None
    customer_email: str | None = None
    message_type: str = "text"
    client_id: str | None = None


class Sent(Struct, frozen=True):
    """A message that stands; `sanitized`: control characters were dropped, or forms normalised."""

    message: str
    message_id: int
    session_id: str
    sanitized: bool


class SentToSockets(Sent, frozen=True):
    """The same, for clients that ask whether sockets were told; they always are."""

    broadcasted: bool


class MessageRow(Struct, frozen=True):
    """A message as clients list it; `session_id` is the row of the chat."""

    id: int
    session_id: int
    sender_type: str
    sender_id: str | None
    sender_name: str
    message_text: str
    message_type: str
    is_read: bool
    created_at: str
    updated_at: str


class ChatInfo(Struct, frozen=True):
    """The chat that messages belong to."""

    session_id: str
    customer_name: str | None
    customer_email: str | None
    status: str
    created_at: str
    last_message_at: str | None


class Pagination(Struct, frozen=True):
    """Where a page stands."""

    total_count: int
    limit: int
    offset: int
    has_more: bool
    has_previous: bool
    current_page: int
    total_pages: int


class MessagePage(Struct, frozen=True):
    """A page of messages."""

    messages: list[MessageRow]
    session_info: ChatInfo
    pagination: Pagination
    unread_count: int


MessageId = Annotated[int, Meta(ge=1)]


class ReadRequest(Struct):
    """`PUT …/messages/read`: some messages, or all; one of the two is said."""

    message_ids: list[MessageId] | None = None
    mark_all: bool = False


class Marked(Struct, frozen=True):
    """How many messages were marked as read."""

    message: str
    affected_rows: int
    session_id: str


class LoginRequest(Struct):
    """`POST /api/login`."""

    username: str
    password: str


class LoggedIn(Struct, frozen=True):
    """A token for a member of the staff: send it as Bearer."""

    access_token: str
    token_type: str
    user_id: int
    username: str
    is_admin: bool


class AdminChat(Struct, frozen=True, kw_only=True):
    """A chat as the staff lists it."""

    id: int
    session_id: str
    product_id: int
    product_name: str
    customer_name: str | None
    customer_email: str | None
    status: str
    priority: str
    assigned_to: str | None
    is_spam: bool
    message_count: int
    unread_count: int
    created_at: str
    last_message_at: str | None
    last_message: str | None = None
    """Its first words."""
    last_sender: str | None = None
    waiting_since: str | None = None
    """When the visitor wrote what nobody has answered yet."""


class AdminChats(Struct, frozen=True):
    """The tenant's chats, urgent ones first."""

    sessions: list[AdminChat]
    limit: int
    offset: int


class RespondRequest(Struct):
    """`POST /api/admin/chat/sessions/{sid}/respond`."""

    message_text: TextLine
    sender_name: str | None = None
    admin_name: str | None = None
    message_type: str = "text"
    client_id: str | None = None


class StatusChanged(Struct, frozen=True, omit_defaults=True):
    """Where a chat stands now."""

    message: str
    session_id: str
    status: str
    assigned_to: str | None
    inquiry_id: int | None = None
    """The number of the chat that was closed."""


class CatalogueProduct(Struct, frozen=True):
    """A product that can be chatted about."""

    id: int
    name: str
    price: str
    description: str


class WidgetSettings(Struct, frozen=True):
    """What the widget shows before anything was said. Empty: it has words of its own."""

    product: CatalogueProduct
    greeting: str
    suggestions: tuple[str, ...]
    is_open: bool
    """Whether people of the shop are there now."""
    away: str
    """What to say while they are not."""


class PersonWanted(Struct, frozen=True):
    """The shop's people were told."""

    message: str
    session_id: str
    is_open: bool
    away: str


class CartItem(Struct, frozen=True):
    """A line of a visitor's cart; prices are texts as they are shown."""

    name: str
    quantity: int
    total: str


class ChatAside(Struct, frozen=True):
    """What the staff sees beside a chat."""

    chat: AdminChat
    product: CatalogueProduct | None
    """null: it is not sold any more."""
    cart: tuple[CartItem, ...]
    cart_total: str


class CannedAnswer(Struct, frozen=True):
    """An answer that the staff often gives."""

    name: str
    text: str


class CannedAnswers(Struct, frozen=True):
    """Those of the configuration, in its order."""

    answers: list[CannedAnswer]


def product_of(product: ChatProduct) -> CatalogueProduct:
    """A product as clients see it."""
    return CatalogueProduct(product.id, product.name, product.price, product.description)


def row_of(row: ProductMessage) -> MessageRow:
    """A message as clients list it."""
    return MessageRow(
        row.id, row.session_id, row.sender_type, row.sender_id, row.sender_name, row.message_text,
        row.message_type, row.is_read, iso(row.created_at), iso(row.updated_at),
    )  # fmt: skip


def admin_chat_of(chat: ProductSession) -> AdminChat:
    """A chat as the staff lists it."""
    return AdminChat(
        id=chat.id, session_id=chat.session_id, product_id=chat.product_id, product_name=chat.product_name,
        customer_name=chat.customer_name, customer_email=chat.customer_email, status=chat.status,
        priority=chat.priority, assigned_to=chat.assigned_to, is_spam=chat.spam_score >= words.SPAM,
        message_count=chat.message_count, unread_count=chat.unread_count, created_at=iso(chat.created_at),
        last_message_at=iso(chat.last_message_at) if chat.last_message_at is not None else None,
        last_message=chat.last_text[:LAST_CHARACTERS] if chat.last_text is not None else None,
        last_sender=chat.last_sender,
        waiting_since=iso(chat.waiting_since) if chat.waiting_since is not None else None,
    )  # fmt: skip


def sent(said: PostedMessage, session_id: str, words_: str = "Message sent successfully") -> Sent:
    """The answer to a message."""
    return Sent(words_, said.message_id, session_id, said.was_changed)
