"""What product chat refuses, in the words that its clients know."""

from __future__ import annotations

from gateway.errors import GatewayError


class InvalidInput(GatewayError):
    """The request cannot be served as it is."""

    code = "invalid_input"
    status = 400


class UnknownProduct(GatewayError):
    """Product not found."""

    code = "unknown_product"
    status = 404


class ChatNotFound(GatewayError):
    """Chat session not found."""

    code = "chat_session_not_found"
    status = 404


class ChatClosed(GatewayError):
    """Cannot send message to closed chat session."""

    code = "chat_session_closed"
    status = 400


class ChatIdTaken(GatewayError):
    """Session ID is in use; make a new one."""

    code = "session_id_taken"
    status = 409


class AdminNeeded(GatewayError):
    """Admin credentials are required."""

    code = "admin_needed"
    status = 403


class WrongPassword(GatewayError):
    """Invalid username or password."""

    code = "wrong_password"
    status = 401


ERRORS = (
    InvalidInput,
    UnknownProduct,
    ChatNotFound,
    ChatClosed,
    ChatIdTaken,
    AdminNeeded,
    WrongPassword,
)
