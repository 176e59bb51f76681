"""Tickets: what the gateway signs and gives away to be shown again: cookies, visitor tokens, one-time links.

They carry who their holder is, and no list of them is kept; what was revoked is refused by its time of issue.
Signed with HMAC-SHA-256 (itsdangerous), each kind with a salt of its own, so that none passes for another.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import pathlib
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

import msgspec
from itsdangerous import Signer
from msgspec import Struct

from gateway.errors import StoreFailed
from gateway.principal import Principal

SECRET_BYTES: Final = 32
SECRET_NAME: Final = "cookies.key"  # noqa: S105 - a file name
KNOWN_TICKETS: Final = 20_000
"""Verified ones that are remembered, so that a request costs a look-up and no HMAC."""

TicketUse = Literal["visitor", "user", "token", "handover", "state", "access", "file", "node"]


class Ticket(Struct, frozen=True, array_like=True):
    """What is signed. Times are milliseconds since 1970 UTC."""

    issued_at: int
    expires_at: int
    principal: Principal | None = None
    nonce: str = ""
    extra: dict[str, str] = {}
    """Of a visitor token: the origin it is bound to. Of a sign-in under way: its state. Of a cookie: `name`,
    what it is called; those that were issued before have none.
    """


class Tickets:
    """Signs and checks; `revoked` says what of an owner was issued too early."""

    def __init__(self, *, wall_ms: Callable[[], int]) -> None:
        self._secrets: tuple[bytes, ...] = ()
        """The one that signs, then those that were used before it."""
        self._wall_ms = wall_ms
        self._signers: dict[str, tuple[Signer, ...]] = {}
        self._known: OrderedDict[tuple[str, str], Ticket] = OrderedDict()
        self.revoked: dict[str, int] = {}
        self._latest = 0
        """The latest time of issue that this process has signed or seen."""

    def open(self, secret: bytes, *, old: Sequence[bytes] = ()) -> None:
        """Begins to sign, with this secret (`read_secret`); what the `old` ones signed is good, too."""
        self._secrets = (secret, *old)
        self._signers = {}
        self._known.clear()

    def note_revoked(self, revoked: Mapping[str, int]) -> set[str]:
        """What of owners is revoked by now; those of whom more is than was known."""
        more = {owner for owner, at in revoked.items() if at > self.revoked.get(owner, -1)}
        self.revoked |= {owner: revoked[owner] for owner in more}
        return more

    def issue(
        self,
        use: TicketUse,
        *,
        seconds: float,
        principal: Principal | None = None,
        extra: dict[str, str] | None = None,
    ) -> str:
        """A signed text that is good for so long."""
        now = self._wall_ms()
        if principal is not None:  # a clock that was set back must not issue what is revoked already
            now = max(now, self.revoked.get(principal.owner, -1) + 1)
        self._latest = max(self._latest, now)
        ticket = Ticket(now, now + round(seconds * 1000), principal, secrets.token_urlsafe(12), extra or {})
        body = base64.urlsafe_b64encode(msgspec.json.encode(ticket)).rstrip(b"=")
        return self._signers_of(use)[0].sign(body).decode()

    def read(self, use: TicketUse, text: str) -> Ticket | None:
        """The ticket, if it was signed here for this use and is still good."""
        ticket = self._known.get((use, text)) or self._remembered(use, text)
        return ticket if ticket is not None and self.is_standing(ticket) else None

    def read_once(self, use: TicketUse, text: str) -> Ticket | None:
        """The same of one that is not shown again, and need not be remembered."""
        ticket = self._verified(use, text)
        return ticket if ticket is not None and self.is_standing(ticket) else None

    def is_standing(self, ticket: Ticket) -> bool:
        """Whether it has neither expired nor been revoked."""
        owner = ticket.principal.owner if ticket.principal is not None else ""
        return self._wall_ms() < ticket.expires_at and ticket.issued_at > self.revoked.get(owner, -1)

    def is_own(self, use: TicketUse, text: str) -> bool:
        """Whether this was signed here for this use, however long ago."""
        return (use, text) in self._known or self._remembered(use, text) is not None

    def revocation_ms(self, owner: str) -> int:
        """A time that revokes every ticket of the owner that is known of, also if the clock was set back."""
        return max(self._wall_ms(), self._latest, self.revoked.get(owner, 0))

    def csrf(self, owner: str) -> str:
        """What a page sends back in X-CSRF-Token, which no other site can read."""
        return _csrf(self._secrets[0], owner)

    def is_csrf(self, owner: str, given: str) -> bool:
        """Whether this is the owner's, in constant time."""
        text = given.encode("utf-8", "replace")
        return any(hmac.compare_digest(_csrf(one, owner).encode(), text) for one in self._secrets)

    def _verified(self, use: TicketUse, text: str) -> Ticket | None:
        try:
            encoded = text.encode("ascii")
            body = encoded.rpartition(b".")[0]
            own = [hmac.compare_digest(one.sign(body), encoded) for one in self._signers_of(use)]
            if not any(own):  # one spelling only, unlike unsign
                return None
            ticket = msgspec.json.decode(
                base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4)), type=Ticket
            )
        except (UnicodeEncodeError, binascii.Error, msgspec.DecodeError):
            return None
        self._latest = max(self._latest, ticket.issued_at)
        return ticket

    def _remembered(self, use: TicketUse, text: str) -> Ticket | None:
        ticket = self._verified(use, text)
        if ticket is not None:
            self._known[use, text] = ticket
            if len(self._known) > KNOWN_TICKETS:
                self._known.popitem(last=False)
        return ticket

    def _signers_of(self, use: str) -> tuple[Signer, ...]:
        if not self._secrets:
            raise RuntimeError("tickets are signed once they are open")
        if use not in self._signers:
            salt = f"agent-gateway.{use}"
            self._signers[use] = tuple(
                Signer(secret, salt=salt, digest_method=hashlib.sha256) for secret in self._secrets
            )
        return self._signers[use]


def _csrf(secret: bytes, owner: str) -> str:
    return hmac.new(secret, b"csrf\0" + owner.encode(), hashlib.sha256).hexdigest()


def digest_of(secret: bytes) -> str:
    """By which two gateways find out that they have the same secret; it tells nothing else."""
    return hmac.new(secret, b"agent-gateway: which secret", hashlib.sha256).hexdigest()


def keep_secret(secret: bytes, data_path: pathlib.Path) -> None:
    """Puts a secret in the place of that of the data directory, so that a backup has it, too. Raises
    StoreFailed.
    """
    path = data_path / SECRET_NAME
    incoming = path.with_suffix(".incoming")
    try:
        incoming.unlink(missing_ok=True)
        with _created(incoming) as file:
            file.write(secret)
        incoming.rename(path)
    except OSError as error:
        raise StoreFailed(f"{path} cannot be written: {error.strerror}.") from error


def read_secret(named: str, data_path: pathlib.Path) -> bytes:
    """The secret that tickets are signed with: of the file named, or one made in the data directory.

    Raises StoreFailed, with what to do.
    """
    path = pathlib.Path(named).expanduser() if named else data_path / SECRET_NAME
    if not named:
        with contextlib.suppress(FileExistsError), _created(path) as file:
            file.write(secrets.token_bytes(SECRET_BYTES))
    return _secret_in(path, "auth.secret_file")


def read_old_secrets(named: Sequence[str]) -> list[bytes]:
    """Secrets that were in use before. Raises StoreFailed, with what to do."""
    return [_secret_in(pathlib.Path(name).expanduser(), "auth.old_secret_files") for name in named]


def _secret_in(path: pathlib.Path, setting: str) -> bytes:
    try:
        secret = path.read_bytes()
    except OSError as error:
        raise StoreFailed(f"{setting}: {path} cannot be read: {error.strerror}.") from error
    if len(secret) < SECRET_BYTES:
        raise StoreFailed(f"{setting}: {path} holds fewer than {SECRET_BYTES} bytes; make a new one.")
    return secret


def _created(path: pathlib.Path):  # type: ignore[no-untyped-def]
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
