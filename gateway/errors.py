"""Everything that can go wrong and that a caller is told about: one root, flat leaves.

A leaf's docstring is its message; `code` is a stable slug for programs. The HTTP status of
every leaf stands in one table in `app.py`.
"""

from __future__ import annotations

from typing import ClassVar


class GatewayError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "error"

    def __init__(
        self,
        message: str = "",
        *,
        session_id: str | None = None,
        retry_after_seconds: float | None = None,
        field: tuple[str, ...] = (),
    ) -> None:
        self.message = message or " ".join((type(self).__doc__ or "").split())
        self.session_id = session_id
        self.field = field
        """The part of the request that is wrong: `("body", "q")`; empty: no single one."""
        self.retry_after_seconds = retry_after_seconds
        super().__init__(self.message)


class BadRequest(GatewayError):
    """The request is not what this route takes."""

    code = "bad_request"


class InvalidField(GatewayError):
    """A field of the request has the wrong type, is missing or is empty."""

    code = "invalid_field"


class MalformedSessionId(GatewayError):
    """A session id is 1 to 128 of A-Z a-z 0-9 _ : . - and does not begin with a dot."""

    code = "malformed_session_id"


class WrongMediaType(GatewayError):
    """Send JSON: Content-Type: application/json."""

    code = "wrong_media_type"


class BodyTooLarge(GatewayError):
    """The request body is larger than this gateway takes."""

    code = "body_too_large"


class RequestTimeout(GatewayError):
    """The request did not arrive in time."""

    code = "request_timeout"


class MessageTooLong(GatewayError):
    """The message is longer than this gateway takes."""

    code = "message_too_long"


class UnknownAgent(GatewayError):
    """No agent of this name is configured."""

    code = "unknown_agent"


class IdempotencyMismatch(GatewayError):
    """This Idempotency-Key was used with another body; use a new key for a new request."""

    code = "idempotency_mismatch"


class RouteNotFound(GatewayError):
    """There is nothing at this address."""

    code = "not_found"


class MethodNotAllowed(GatewayError):
    """This address does not take this method."""

    code = "method_not_allowed"


class SessionNotFound(GatewayError):
    """There is no such session."""

    code = "session_not_found"


class SessionExists(GatewayError):
    """You already have a session of this id."""

    code = "session_exists"


class SessionEnded(GatewayError):
    """This session has ended."""

    code = "session_ended"


class SessionBusy(GatewayError):
    """This session is busy; wait for the end of its turn, or end its worker."""

    code = "session_busy"


class ConversationFull(GatewayError):
    """This conversation has reached the size that it may take; start a new one."""

    code = "conversation_full"


class QueueFull(GatewayError):
    """Too many messages are waiting in this session; wait for the answer or interrupt it."""

    code = "queue_full"


class PermissionNotPending(GatewayError):
    """This permission request is not waiting for an answer; it was answered, or its turn is over."""

    code = "permission_not_pending"


class ProductNotFound(GatewayError):
    """There is no such product."""

    code = "product_not_found"


class NotInCart(GatewayError):
    """This product is not in the cart."""

    code = "not_in_cart"


class NotForSale(GatewayError):
    """This product cannot be bought at the moment."""

    code = "not_for_sale"


class CartLimit(GatewayError):
    """The cart cannot hold so much of one product."""

    code = "cart_limit"


class CartEmpty(GatewayError):
    """The cart is empty: there is nothing to buy."""

    code = "cart_empty"


class CartFull(GatewayError):
    """The cart cannot hold another product."""

    code = "cart_full"


class PreferencesTooLarge(GatewayError):
    """These are more preferences than a conversation may have."""

    code = "preferences_too_large"


class AnswerFailed(GatewayError):
    """The agent did not answer."""

    code = "answer_failed"

    def __init__(self, message: str = "", *, intent: str = "", cause: str = "") -> None:
        super().__init__(message)
        self.intent = intent
        self.cause = cause


class AnswerDropped(GatewayError):
    """Somebody dropped the question, or ended its session, before it was answered."""

    code = "answer_dropped"

    def __init__(self, message: str = "", *, intent: str = "", cause: str = "") -> None:
        super().__init__(message)
        self.intent = intent
        self.cause = cause


class Unauthorized(GatewayError):
    """Say who you are: Authorization: Bearer with an API key or a token of this gateway."""

    code = "unauthorized"


class Forbidden(GatewayError):
    """Your credentials do not allow this."""

    code = "forbidden"


class CsrfMissing(GatewayError):
    """Send X-CSRF-Token with what GET /api/me answers as csrf_token: a cookie alone proves no intent."""

    code = "csrf_missing"


class TenantDisabled(GatewayError):
    """This tenant is disabled."""

    code = "tenant_disabled"


class KeyNotFound(GatewayError):
    """There is no such key."""

    code = "key_not_found"


class ShareNotFound(GatewayError):
    """There is no such link; it may have been revoked or have expired."""

    code = "share_not_found"


class SignInFailed(GatewayError):
    """The sign-in did not succeed."""

    code = "sign_in_failed"


class InvalidInput(GatewayError):
    """The request cannot be served as it is."""

    code = "invalid_input"


class UnknownProduct(GatewayError):
    """Product not found."""

    code = "unknown_product"


class ChatNotFound(GatewayError):
    """Chat session not found."""

    code = "chat_session_not_found"


class ChatClosed(GatewayError):
    """Cannot send message to closed chat session."""

    code = "chat_session_closed"


class ChatIdTaken(GatewayError):
    """Session ID is in use; make a new one."""

    code = "session_id_taken"


class AdminNeeded(GatewayError):
    """Admin credentials are required."""

    code = "admin_needed"


class WrongPassword(GatewayError):
    """Invalid username or password."""

    code = "wrong_password"


class AgentConnection(GatewayError):
    """This connection comes from an agent's process, which may not use this gateway."""

    code = "agent_connection"


class ForbiddenHost(GatewayError):
    """This Host is not served here; add it to server.hosts if it is yours."""

    code = "forbidden_host"


class ForbiddenOrigin(GatewayError):
    """Requests from this Origin are not accepted; add it to cors.origins if it is yours."""

    code = "forbidden_origin"


class RateLimited(GatewayError):
    """Too many requests; slow down."""

    code = "rate_limited"


class QuotaExceeded(GatewayError):
    """A quota is used up."""

    code = "quota_exceeded"

    def __init__(
        self,
        message: str = "",
        *,
        limit: str = "",
        used: float = 0,
        allowed: float = 0,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)
        self.limit = limit
        self.used = used
        self.allowed = allowed


class TooManyStreams(GatewayError):
    """Too many open streams."""

    code = "too_many_streams"


class SessionLimit(GatewayError):
    """This gateway holds as many sessions as it may; try again when some have ended."""

    code = "session_limit"


class WorkerLimit(GatewayError):
    """As many agents are running as this gateway may run; try again in a moment."""

    code = "worker_limit"


class Draining(GatewayError):
    """This gateway is shutting down; try again in a moment."""

    code = "draining"


class StoreFull(GatewayError):
    """The disk is full, so nothing new is accepted; what was accepted is safe. Try again when there is
    room.
    """

    code = "store_full"


class StoreFailed(GatewayError):
    """The store does not answer, so nothing new is accepted; what was accepted is safe."""

    code = "store_failed"


class StoreDamaged(GatewayError):
    """The database is damaged where this is stored. What lies elsewhere is not touched by it; who runs this
    gateway finds in its log what to do.
    """

    code = "store_damaged"


class BrokenInvariant(GatewayError):
    """This should not have happened; the log of the gateway says more under this request id."""

    code = "internal_error"
