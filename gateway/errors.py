"""Everything that can go wrong and that a caller is told about: one root, flat leaves.

A leaf's docstring is its message, `code` a stable slug for programs, and `status` the HTTP status that
carries it. docs/errors.md lists every leaf.
"""

from __future__ import annotations

from typing import ClassVar


class GatewayError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500

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
    status = 400


class InvalidField(GatewayError):
    """A field of the request has the wrong type, is missing or is empty."""

    code = "invalid_field"
    status = 422


class MalformedSessionId(GatewayError):
    """A session id is 1 to 128 of A-Z a-z 0-9 _ : . - and does not begin with a dot."""

    code = "malformed_session_id"
    status = 422


class WrongMediaType(GatewayError):
    """Send JSON: Content-Type: application/json."""

    code = "wrong_media_type"
    status = 415


class BodyTooLarge(GatewayError):
    """The request body is larger than this gateway takes."""

    code = "body_too_large"
    status = 413


class RequestTimeout(GatewayError):
    """The request did not arrive in time."""

    code = "request_timeout"
    status = 408


class MessageTooLong(GatewayError):
    """The message is longer than this gateway takes."""

    code = "message_too_long"
    status = 413


class UnknownAgent(GatewayError):
    """No agent of this name is configured."""

    code = "unknown_agent"
    status = 422


class UnknownWorkspace(GatewayError):
    """No workspace of this name is configured for you and this agent."""

    code = "unknown_workspace"
    status = 422


class NoWorkspace(GatewayError):
    """This session did not start from a repository, or its files are not there yet: send a message first."""

    code = "no_workspace"
    status = 409


class NothingChanged(GatewayError):
    """No file differs from the commit that the session started from."""

    code = "nothing_changed"
    status = 409


class BranchConflict(GatewayError):
    """The server has this branch already, with commits that are not this session's. Choose another name."""

    code = "branch_conflict"
    status = 409


class RepositoryRefused(GatewayError):
    """The server of the repository did not accept the credential."""

    code = "repository_refused"
    status = 403


class RepositoryUnreachable(GatewayError):
    """The server of the repository cannot be reached now. Try again later."""

    code = "repository_unreachable"
    status = 502


class WorkspaceFailed(GatewayError):
    """The workspace could not be made ready."""

    code = "workspace_failed"
    status = 502


class ChangesTooLarge(GatewayError):
    """What changed is too large for this; download the files instead."""

    code = "changes_too_large"
    status = 413


class IdempotencyMismatch(GatewayError):
    """This Idempotency-Key was used with another body; use a new key for a new request."""

    code = "idempotency_mismatch"
    status = 422


class RouteNotFound(GatewayError):
    """There is nothing at this address."""

    code = "not_found"
    status = 404


class MethodNotAllowed(GatewayError):
    """This address does not take this method."""

    code = "method_not_allowed"
    status = 405


class SessionNotFound(GatewayError):
    """There is no such session."""

    code = "session_not_found"
    status = 404


class NoSuchFile(GatewayError):
    """There is no such file in this session."""

    code = "file_not_found"
    status = 404


class FileLinkNotFound(GatewayError):
    """This link to a file is not good any more; ask for a new one."""

    code = "file_link_not_found"
    status = 404


class FileNotReadable(GatewayError):
    """This cannot be read: it is a link, a device, or a file that the session itself may not read."""

    code = "file_not_readable"
    status = 409


class ArchiveTooLarge(GatewayError):
    """This folder is too large for one archive; download a folder inside it."""

    code = "archive_too_large"
    status = 413


class RangeNotSatisfiable(GatewayError):
    """The file has no such bytes."""

    code = "range_not_satisfiable"
    status = 416


class SessionExists(GatewayError):
    """You already have a session of this id."""

    code = "session_exists"
    status = 409


class SessionEnded(GatewayError):
    """This session has ended."""

    code = "session_ended"
    status = 409


class SessionFenced(GatewayError):
    """This session went to another gateway meanwhile. Look at what it says now, then try again."""

    code = "session_fenced"
    status = 409


class SessionBusy(GatewayError):
    """This session is busy; wait for the end of its turn, or end its worker."""

    code = "session_busy"
    status = 409


class ConversationFull(GatewayError):
    """This conversation has reached the size that it may take; start a new one."""

    code = "conversation_full"
    status = 409


class QueueFull(GatewayError):
    """Too many messages are waiting in this session; wait for the answer or interrupt it."""

    code = "queue_full"
    status = 429


class MessageNotWaiting(GatewayError):
    """This message is not waiting any more: the agent has it, or it was dropped."""

    code = "message_not_waiting"
    status = 409


class NoSnapshot(GatewayError):
    """There is no snapshot of the files of this moment."""

    code = "no_snapshot"
    status = 404


class FilesNotRestored(GatewayError):
    """The files could not be put back; nothing was changed."""

    code = "files_not_restored"
    status = 409


class ForkRefused(GatewayError):
    """This session cannot be forked there."""

    code = "fork_refused"
    status = 409


class PermissionNotPending(GatewayError):
    """This permission request is not waiting for an answer; it was answered, or its turn is over."""

    code = "permission_not_pending"
    status = 409


class RuleNotFound(GatewayError):
    """This session has no such rule; it may have been revoked."""

    code = "rule_not_found"
    status = 404


class QuestionNotFound(GatewayError):
    """There is no such question in this session."""

    code = "question_not_found"
    status = 404


class QuestionClosed(GatewayError):
    """This question is not waiting for an answer; it was answered, or its turn is over."""

    code = "question_closed"
    status = 409


class OptionRefused(GatewayError):
    """The agent did not take this choice."""

    code = "option_refused"
    status = 409


class OptionLocked(GatewayError):
    """The operator of this gateway has fixed this option."""

    code = "option_locked"
    status = 403


class EgressNotAsked(GatewayError):
    """This question about a host is not waiting for an answer; it was answered, or nobody waits any more."""

    code = "egress_not_asked"
    status = 409


class EgressNotNarrower(GatewayError):
    """A session may only narrow the hosts that its agent's lists allow."""

    code = "egress_not_narrower"
    status = 422


class BadFileName(GatewayError):
    """A file cannot have this name."""

    code = "bad_file_name"
    status = 400


class UploadCut(GatewayError):
    """The upload ended before all of the file had arrived."""

    code = "upload_cut"
    status = 400


class UploadNotFound(GatewayError):
    """There is no such upload in this session."""

    code = "upload_not_found"
    status = 404


class FileInTheWay(GatewayError):
    """Something that is not a file is where this one should be, or on the way there."""

    code = "file_in_the_way"
    status = 409


class UploadElsewhere(GatewayError):
    """This upload goes on at another byte, or a newer request goes on with it."""

    code = "upload_elsewhere"
    status = 409


class FileChanged(GatewayError):
    """The file is not the one that the request is about."""

    code = "file_changed"
    status = 412


class FileTooLarge(GatewayError):
    """The file is larger than this gateway takes."""

    code = "file_too_large"
    status = 413


class FileTypeRefused(GatewayError):
    """Files of this type are not accepted here."""

    code = "file_type_refused"
    status = 415


class AttachmentRefused(GatewayError):
    """A file that the message names cannot be attached."""

    code = "attachment_refused"
    status = 422


class SessionDiskFull(GatewayError):
    """The files of this session take up all that they may. Delete some, or ask who runs this gateway."""

    code = "session_disk_full"
    status = 507


class Unauthorized(GatewayError):
    """Say who you are: Authorization: Bearer with an API key or a token of this gateway."""

    code = "unauthorized"
    status = 401


class Forbidden(GatewayError):
    """Your credentials do not allow this."""

    code = "forbidden"
    status = 403


class CsrfMissing(GatewayError):
    """Send X-CSRF-Token with what GET /api/me answers as csrf_token: a cookie alone proves no intent."""

    code = "csrf_missing"
    status = 403


class TenantDisabled(GatewayError):
    """This tenant is disabled."""

    code = "tenant_disabled"
    status = 403


class PersonDisabled(GatewayError):
    """This account is disabled. The people who run this gateway can enable it again."""

    code = "person_disabled"
    status = 403


class NoGroup(GatewayError):
    """None of your groups may use this gateway. Ask the people who run it."""

    code = "no_group"
    status = 403


class SignInStale(GatewayError):
    """Your sign-in has to be confirmed by the provider: open the page again, or sign in again."""

    code = "sign_in_stale"
    status = 401


class KeyNotFound(GatewayError):
    """There is no such key."""

    code = "key_not_found"
    status = 404


class TenantNotFound(GatewayError):
    """There is no such tenant."""

    code = "tenant_not_found"
    status = 404


class OwnKeyMissing(GatewayError):
    """This provider needs a key of your own; set one in the page, or with PUT /api/me/keys/NAME."""

    code = "own_key_missing"
    status = 409


class ShareNotFound(GatewayError):
    """There is no such link; it may have been revoked or have expired."""

    code = "share_not_found"
    status = 404


class ShareNotAllowed(GatewayError):
    """This link does not allow that. Ask the owner of the session for another one."""

    code = "share_not_allowed"
    status = 403


class SignInFailed(GatewayError):
    """The sign-in did not succeed."""

    code = "sign_in_failed"
    status = 401


class AgentConnection(GatewayError):
    """This connection comes from an agent's process, which may not use this gateway."""

    code = "agent_connection"
    status = 403


class ForbiddenHost(GatewayError):
    """This Host is not served here; add it to server.hosts if it is yours."""

    code = "forbidden_host"
    status = 403


class ForbiddenOrigin(GatewayError):
    """Requests from this Origin are not accepted; add it to cors.origins if it is yours."""

    code = "forbidden_origin"
    status = 403


class RateLimited(GatewayError):
    """Too many requests; slow down."""

    code = "rate_limited"
    status = 429


class QuotaExceeded(GatewayError):
    """A quota is used up."""

    code = "quota_exceeded"
    status = 429

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


class BudgetReached(GatewayError):
    """The budget for models is used up. The administrator of this gateway can raise it."""

    code = "budget_reached"
    status = 402

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
        """Whose, and which: `subject.cost_per_day`."""
        self.used = used
        """In dollars, or in tokens; what calls in flight may still cost is within."""
        self.allowed = allowed


class TooManyStreams(GatewayError):
    """Too many open streams."""

    code = "too_many_streams"
    status = 429


class TooManyDownloads(GatewayError):
    """Too many downloads at once; wait until one has ended."""

    code = "too_many_downloads"
    status = 429


class SessionLimit(GatewayError):
    """This gateway holds as many sessions as it may; try again when some have ended."""

    code = "session_limit"
    status = 503


class WorkerLimit(GatewayError):
    """This gateway is running its maximum number of agents, and too many messages wait for one. Try again
    shortly.
    """

    code = "worker_limit"
    status = 503


class Draining(GatewayError):
    """This gateway is shutting down; try again in a moment."""

    code = "draining"
    status = 503


class StoreFull(GatewayError):
    """The disk is full, so nothing new is accepted; what was accepted is safe. Try again when there is
    room.
    """

    code = "store_full"
    status = 507


class PortUnreachable(GatewayError):
    """Nothing in this session's worker answers at this port."""

    code = "port_unreachable"
    status = 502


class StoreFailed(GatewayError):
    """The store does not answer, so nothing new is accepted; what was accepted is safe."""

    code = "store_failed"
    status = 503


class StoreUnreachable(GatewayError):
    """The gateway cannot reach its store, so nothing new is accepted; what was accepted is safe. Try again in
    a moment.
    """

    code = "store_unreachable"
    status = 503


class StoreInDoubt(GatewayError):
    """The store was lost while something was written, so it is not known yet whether this was done. Ask again
    in a moment; with the Idempotency-Key of this request, if it had one, nothing is done twice.
    """

    code = "store_in_doubt"
    status = 503


class FilesNotHere(GatewayError):
    """The files of this session could not be fetched from where they are kept; try again in a moment."""

    code = "files_not_here"
    status = 503


class SessionElsewhere(GatewayError):
    """Another gateway has this session, and it cannot be reached now. Try again in a moment."""

    code = "session_elsewhere"
    status = 503

    def __init__(
        self, message: str = "", *, node: int = 0, url: str = "", session_id: str | None = None
    ) -> None:
        super().__init__(message, session_id=session_id, retry_after_seconds=1)
        self.node = node
        """The id of who has it. The request is sent on to it; only if that fails, the caller is told."""
        self.url = url


class OutcomeUnknown(GatewayError):
    """The gateway that has this session was lost before it answered: what you asked for may have been done,
    or not. Look at the session before you ask again; with an Idempotency-Key it would have been safe to.
    """

    code = "outcome_unknown"
    status = 503


class StoreDamaged(GatewayError):
    """The database is damaged where this is stored. What lies elsewhere is not touched by it; who runs this
    gateway finds in its log what to do.
    """

    code = "store_damaged"
    status = 500


class BrokenInvariant(GatewayError):
    """This should not have happened; the log of the gateway says more under this request id."""

    code = "internal_error"
    status = 500
