"""An OpenID provider on loopback, with real keys: for tests of tokens and sign-ins.

A stand-in, because a real provider wants accounts; what it checks (client, secret, redirect, PKCE) it checks
for real.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import secrets
import time
import urllib.parse
from collections.abc import AsyncIterator
from typing import Any, Final

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa

CLIENT: Final = "gateway"
SECRET: Final = "provider-secret-canary"


class Issuer:
    """Signs tokens; serves discovery, keys, and a code flow in which `user` is signed in already."""

    def __init__(self, url: str = "https://issuer.example") -> None:
        self.url = url
        self.user = "alice"
        self.claims: dict[str, Any] = {}
        self.nonce_override: str | None = None
        self.keys: dict[str, Any] = {
            "rsa-1": rsa.generate_private_key(65537, 2048),
            "ec-1": ec.generate_private_key(ec.SECP256R1()),
        }
        self.asked = {"keys": 0, "token": 0, "refresh": 0, "userinfo": 0, "silent": 0}
        self.gives: tuple[str, ...] = ()
        """What it gives besides the token of a sign-in: `refresh`, `access` (with the userinfo endpoint)."""
        self.says: dict[str, Any] = {}
        """Claims of the answers to later questions, over `claims`; None: left out."""
        self.refuses = False
        """It does not know the person any more."""
        self.is_down = False
        self.asks_people = False
        """A person has to type something, so that nobody is signed in silently."""
        self.ahead_seconds = 0.0
        """How much its clock is ahead of ours."""
        self._refresh_tokens: set[str] = set()
        self.bodies: dict[str, bytes] = {}
        """What is answered at a path instead of what is right."""
        self.piece_bytes = 0
        """Each body leaves in pieces of so many bytes; 0: at once."""
        self._codes: dict[str, dict[str, str]] = {}

    def token(self, subject: str = "alice", *, key_id: str = "rsa-1", **claims: Any) -> str:
        """A good token, but for the claims that are given (None: left out)."""
        now = int(time.time() + self.ahead_seconds)
        all_claims = {"iss": self.url, "aud": CLIENT, "sub": subject, "iat": now, "exp": now + 600} | claims
        key: Any = self.keys[key_id]
        present = {name: value for name, value in all_claims.items() if value is not None}
        algorithm = "RS256" if key_id.startswith("rsa") else "ES256"
        return jwt.encode(present, key, algorithm=algorithm, headers={"kid": key_id})

    def signed(self, payload: bytes, *, key_id: str = "ec-1") -> str:
        """A token of any bytes."""
        algorithm = "RS256" if key_id.startswith("rsa") else "ES256"
        headers = {"kid": key_id}
        return jwt.api_jws.encode(payload, self.keys[key_id], algorithm=algorithm, headers=headers)

    def jwks(self) -> dict[str, Any]:
        """The public keys."""
        found = []
        for key_id, key in self.keys.items():
            kind: Any = (
                jwt.algorithms.RSAAlgorithm if key_id.startswith("rsa") else jwt.algorithms.ECAlgorithm
            )
            found.append(json.loads(kind.to_jwk(key.public_key())) | {"kid": key_id})
        return {"keys": found}

    # -- as a server --------------------------------------------------------------------------------------

    def description(self) -> dict[str, Any]:
        """The document of discovery."""
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
        } | ({"userinfo_endpoint": f"{self.url}/userinfo"} if "access" in self.gives else {})

    @web.middleware
    async def odd(self, request: web.Request, handler: Any) -> web.StreamResponse:
        body = self.bodies.get(request.path)
        if body is not None:
            answer = web.Response(body=body, content_type="application/json")
        else:
            answer = await handler(request)
        return answer if not self.piece_bytes else await self._in_pieces(request, answer)

    async def _in_pieces(self, request: web.Request, answer: web.Response) -> web.StreamResponse:
        stream = web.StreamResponse(status=answer.status, headers={"Content-Type": "application/json"})
        await stream.prepare(request)
        body = bytes(answer.body)  # type: ignore[arg-type]
        for start in range(0, len(body), self.piece_bytes):
            await stream.write(body[start : start + self.piece_bytes])
            await asyncio.sleep(0)
        return stream

    async def discovery(self, _request: web.Request) -> web.Response:
        return web.json_response(self.description())

    async def public_keys(self, _request: web.Request) -> web.Response:
        self.asked["keys"] += 1
        return web.json_response(self.jwks())

    async def authorize(self, request: web.Request) -> web.Response:
        asked = dict(request.query)
        if asked.get("prompt") == "none":
            self.asked["silent"] += 1
            if self.asks_people or self.refuses:
                answer = urllib.parse.urlencode({"error": "login_required", "state": asked["state"]})
                raise web.HTTPFound(f"{asked['redirect_uri']}?{answer}")
        code = secrets.token_urlsafe()
        self._codes[code] = asked
        answer = urllib.parse.urlencode({"code": code, "state": asked["state"]})
        raise web.HTTPFound(f"{asked['redirect_uri']}?{answer}")

    async def exchange(self, request: web.Request) -> web.Response:
        form = await request.post()
        if self.is_down:
            return web.json_response({}, status=503)
        if form.get("grant_type") == "refresh_token":
            return self._refresh(str(form.get("refresh_token")))
        self.asked["token"] += 1
        asked = self._codes.pop(str(form.get("code")), None)
        digest = hashlib.sha256(str(form.get("code_verifier")).encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        given = request.headers.get("Authorization", "")
        is_right = (
            asked is not None
            and asked["code_challenge"] == challenge
            and asked["redirect_uri"] == form.get("redirect_uri")
            and given == "Basic " + base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        )
        if not is_right or asked is None:
            return web.json_response({"error": "invalid_grant"}, status=400)
        nonce = self.nonce_override or asked["nonce"]
        token = self.token(self.user, nonce=nonce, **self.claims)
        return web.json_response({"id_token": token, **self._tokens()})

    def _tokens(self) -> dict[str, str]:
        """What it gives besides, a new one each time."""
        found = {}
        if "refresh" in self.gives:
            found["refresh_token"] = secrets.token_urlsafe()
            self._refresh_tokens.add(found["refresh_token"])
        if "access" in self.gives:
            found["access_token"] = "access-" + self.user
        return found

    def _refresh(self, given: str) -> web.Response:
        self.asked["refresh"] += 1
        if self.refuses or given not in self._refresh_tokens:
            return web.json_response({"error": "invalid_grant"}, status=400)
        self._refresh_tokens.discard(given)
        token = self.token(self.user, **(self.claims | self.says))
        return web.json_response({"id_token": token, **self._tokens()})

    async def userinfo(self, request: web.Request) -> web.Response:
        self.asked["userinfo"] += 1
        if self.is_down:
            return web.json_response({}, status=503)
        if self.refuses or request.headers.get("Authorization") != "Bearer access-" + self.user:
            return web.json_response({"error": "invalid_token"}, status=401)
        said = {"sub": self.user} | self.claims | self.says
        return web.json_response({name: value for name, value in said.items() if value is not None})


@contextlib.asynccontextmanager
async def running_issuer() -> AsyncIterator[Issuer]:
    """The provider on a free port of loopback."""
    issuer = Issuer()
    app = web.Application(middlewares=[issuer.odd])
    app.add_routes(
        [
            web.get("/.well-known/openid-configuration", issuer.discovery),
            web.get("/keys", issuer.public_keys),
            web.get("/authorize", issuer.authorize),
            web.post("/token", issuer.exchange),
            web.get("/userinfo", issuer.userinfo),
        ]
    )
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    issuer.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield issuer
    finally:
        await runner.cleanup()
