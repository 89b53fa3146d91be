"""What stands before every request: who may ask, from where, how much, and how slowly.

One ASGI layer, so that a body is judged while it comes in and before anything reads it."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from anydose.serve.metrics import Traffic
from anydose.serve.upload import Limits, Refused

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = ("/", "/health", "/ready")  # and /web/...: what holds nothing of a patient
LARGEST_BODY = 300_000  # bytes of a request that is no file
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self' data:; font-src 'self' data:; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
CLOSE = ((b"connection", b"close"),)  # after a body that is not read to its end
LOCAL = ("localhost", "127.0.0.1", "[::1]")


def is_loopback(host: str) -> bool:
    """True for an address that only this machine reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Guard:
    """An application behind token, origin, size and patience."""

    app: App
    limits: Limits
    traffic: Traffic
    token: str
    """'' for none, which is accepted on loopback alone."""
    hosts: tuple[str, ...] = LOCAL
    """What the Host header may say where there is no token (no other page may speak to this server through
    a browser); any where there is one."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a sentence."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        begun, begin = [0], time.perf_counter()
        is_whole = [headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers]

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                begun[0] = message["status"]
                extra = [*_extra(scope["path"]), *(() if is_whole[0] else CLOSE)]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        try:
            refusal = self._refusal(scope, headers)
            if refusal is not None:
                raise Refused(refusal[1], refusal[0])
            await self.app(scope, self._judged(scope, receive, is_whole), sent)
        except Refused as refused:
            if not begun[0]:
                await _answer(sent, refused.status, str(refused))
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self.traffic.add(scope["method"], route, begun[0], time.perf_counter() - begin)

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> tuple[int, str] | None:
        path: str = scope["path"]
        host = headers.get("host", "")
        if not self.token and host.rsplit(":", 1)[0].lower() not in self.hosts:
            return 421, "this server is asked by its own name alone"
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return 403, "requests of other pages are not accepted"
        is_open = path in OPEN or path.startswith("/web/")
        if self.token and not is_open and not self._knows(headers.get("authorization", "")):
            return 401, "a valid token is needed: Authorization: Bearer TOKEN"
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._most(scope):
            return 413, f"{length} bytes announced, at most {self._most(scope)} are accepted"
        return None

    def _knows(self, header: str) -> bool:
        kind, _, token = header.partition(" ")
        return kind.lower() == "bearer" and hmac.compare_digest(token.encode(), self.token.encode())

    def _most(self, scope: Scope) -> int:
        is_file = scope["method"] == "PUT" and "/files/" in scope["path"]
        return self.limits.max_bytes if is_file else LARGEST_BODY

    def _judged(self, scope: Scope, receive: Receive, is_whole: list[bool]) -> Receive:
        """`receive`, which raises Refused once too much or too little has come. is_whole: told of the body's
        end."""
        most, begin, got, over = self._most(scope), time.monotonic(), 0, False

        async def judged() -> Message:
            nonlocal got, over
            if over:  # the body is whole: what is waited for is the client's going away
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), self.limits.patience_s)
            except TimeoutError as error:
                raise Refused(f"nothing came for {self.limits.patience_s:g} s", 408) from error
            got += len(message.get("body", b""))
            over = is_whole[0] = not message.get("more_body", False)
            waited = time.monotonic() - begin
            if got > most:
                raise Refused(f"more than {most} bytes are not accepted", 413)
            slow = waited > self.limits.patience_s and got < self.limits.least_bytes_per_s * waited
            if slow and not over:
                least = self.limits.least_bytes_per_s
                raise Refused(f"{got / waited:.0f} bytes a second, at least {least} are accepted", 408)
            return message

        return judged


class Impatient(H11Protocol):
    """A connection that is closed if it has not asked anything within `patience_s` of its beginning."""

    patience_s = 20.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._patience = self.loop.call_later(self.patience_s, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to wait for."""
        self._patience.cancel()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        if self.cycle is None and self.transport is not None:
            self.transport.close()


def _extra(path: str) -> list[tuple[bytes, bytes]]:
    cache = "no-cache" if path == "/" or path.startswith("/web/") else "no-store"
    return [(k.encode(), v.encode()) for k, v in {**HEADERS, "cache-control": cache}.items()]


async def _answer(send: Send, status: int, sentence: str) -> None:
    body = json.dumps({"detail": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
