"""Requests to services by name with httpx: `svc://service/path`.

    transport = hither.httpx.AsyncTransport(client)
    async with httpx.AsyncClient(mounts={"svc://": transport}) as http:
        response = await http.get("svc://api/users")

An instance that cannot be connected to is passed over for another, whatever the request. One that breaks off, or answers
502, 503 or 504, is passed over if the request may be sent twice: its method is GET, HEAD, OPTIONS, TRACE, PUT or DELETE.
When all have been asked, one that answered is asked again a moment later, rather than one that could not be reached. A
body that is a stream is sent once. The last answer is returned as it came.
"""

from __future__ import annotations

import asyncio
import time

import httpx

from . import _calling, sync
from ._client import Client
from ._services import Filter, Instance, Policy

__all__ = ["AsyncTransport", "Transport"]


def _aimed(request: httpx.Request, instance: Instance) -> httpx.Request:
    """The request at one of the instances."""
    base = httpx.URL(_calling.base(instance))
    headers = request.headers.copy()
    headers["Host"] = base.netloc.decode()
    return httpx.Request(
        request.method,
        base.copy_with(raw_path=request.url.raw_path),
        headers=headers,
        stream=request.stream,
        extensions=request.extensions,
    )


def _is_unsent(error: httpx.TransportError) -> bool:
    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)


def _attempts_of(request: httpx.Request, attempts: int) -> int:
    """How often it can be sent: once if its body is a stream."""
    return attempts if isinstance(request.stream, httpx.ByteStream) else 1


class AsyncTransport(httpx.AsyncBaseTransport):
    """Sends requests to services by name, for `httpx.AsyncClient`."""

    def __init__(
        self,
        client: Client,
        inner: httpx.AsyncBaseTransport | None = None,
        *,
        policy: Policy = "random",
        filter: Filter | None = None,
        attempts: int = _calling.ATTEMPTS,
    ) -> None:
        """`inner` talks to the instances: an `httpx.AsyncHTTPTransport` unless given. `attempts` is how often one
        request is sent at most."""
        self._client = client
        self._inner = inner if inner is not None else httpx.AsyncHTTPTransport()
        self._policy: Policy = policy
        self._filter, self._attempts = filter, attempts

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        service, count = request.url.host, _attempts_of(request, self._attempts)
        # Waits only if nothing is known of the service yet.
        await self._client.discover(service)
        attempts = _calling.Attempts(
            self._client.pick, service, self._policy, self._filter, count, request.method
        )
        while True:
            instance, pause = attempts.choose()
            if pause:
                await asyncio.sleep(pause)
            try:
                response = await self._inner.handle_async_request(_aimed(request, instance))
            except httpx.TransportError as error:
                if not attempts.again_after_error(unsent=_is_unsent(error)):
                    raise
                continue
            if not attempts.again_after_answer(response.status_code):
                return response
            await response.aclose()

    async def aclose(self) -> None:
        await self._inner.aclose()


class Transport(httpx.BaseTransport):
    """Sends requests to services by name, for `httpx.Client`."""

    def __init__(
        self,
        client: sync.Client,
        inner: httpx.BaseTransport | None = None,
        *,
        policy: Policy = "random",
        filter: Filter | None = None,
        attempts: int = _calling.ATTEMPTS,
    ) -> None:
        """`inner` talks to the instances: an `httpx.HTTPTransport` unless given. `attempts` is how often one request is
        sent at most."""
        self._client = client
        self._inner = inner if inner is not None else httpx.HTTPTransport()
        self._policy: Policy = policy
        self._filter, self._attempts = filter, attempts

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        service, count = request.url.host, _attempts_of(request, self._attempts)
        self._client.discover(service)
        attempts = _calling.Attempts(
            self._client.pick, service, self._policy, self._filter, count, request.method
        )
        while True:
            instance, pause = attempts.choose()
            if pause:
                time.sleep(pause)
            try:
                response = self._inner.handle_request(_aimed(request, instance))
            except httpx.TransportError as error:
                if not attempts.again_after_error(unsent=_is_unsent(error)):
                    raise
                continue
            if not attempts.again_after_answer(response.status_code):
                return response
            response.close()

    def close(self) -> None:
        self._inner.close()
