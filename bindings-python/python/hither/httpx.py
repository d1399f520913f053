"""Requests to services by name with httpx: `svc://service/path`.

    transport = hither.httpx.AsyncTransport(client)
    async with httpx.AsyncClient(mounts={"svc://": transport}) as http:
        response = await http.get("svc://api/users")

An instance that cannot be connected to is passed over for another, whatever the request. One that breaks off, or answers
502, 503 or 504, is passed over if the request may be sent twice: its method is GET, HEAD, OPTIONS, TRACE, PUT or DELETE.
A body that is a stream is sent once. The last answer is returned as it came.
"""

from __future__ import annotations

import httpx

from . import _calling, sync
from ._client import Client
from ._services import Filter, Instance, Policy

__all__ = ["AsyncTransport", "Transport"]


class _Attempts:
    """One request, and the instances that it was tried at."""

    def __init__(self, request: httpx.Request, attempts: int) -> None:
        self.request = request
        self.service = request.url.host
        self.tried: set[str] = set()
        self.left = attempts if isinstance(request.stream, httpx.ByteStream) else 1
        self.repeatable = request.method in _calling.IDEMPOTENT

    def aimed(self, instance: Instance) -> httpx.Request:
        """The request at one of the instances."""
        self.tried.add(instance.id)
        self.left -= 1
        base = httpx.URL(_calling.base(instance))
        headers = self.request.headers.copy()
        headers["Host"] = base.netloc.decode()
        return httpx.Request(
            self.request.method,
            base.copy_with(raw_path=self.request.url.raw_path),
            headers=headers,
            stream=self.request.stream,
            extensions=self.request.extensions,
        )

    def again_after_answer(self, response: httpx.Response) -> bool:
        """Whether another instance is to be asked."""
        return self.left > 0 and self.repeatable and response.status_code in _calling.TRANSIENT

    def again_after_error(self, error: httpx.TransportError) -> bool:
        """Whether another instance is to be asked."""
        unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        return self.left > 0 and (unsent or self.repeatable)


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
        """`inner` talks to the instances: an `httpx.AsyncHTTPTransport` unless given. `attempts` is how many of them one
        request is tried at."""
        self._client = client
        self._inner = inner if inner is not None else httpx.AsyncHTTPTransport()
        self._policy: Policy = policy
        self._filter, self._attempts = filter, attempts

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        attempts = _Attempts(request, self._attempts)
        # Waits only if nothing is known of the service yet.
        await self._client.discover(attempts.service)
        while True:
            instance = _calling.choose(
                self._client.pick, self._client.view, attempts.service, self._policy, self._filter, attempts.tried
            )
            try:
                response = await self._inner.handle_async_request(attempts.aimed(instance))
            except httpx.TransportError as error:
                if not attempts.again_after_error(error):
                    raise
                continue
            if not attempts.again_after_answer(response):
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
        """`inner` talks to the instances: an `httpx.HTTPTransport` unless given. `attempts` is how many of them one request
        is tried at."""
        self._client = client
        self._inner = inner if inner is not None else httpx.HTTPTransport()
        self._policy: Policy = policy
        self._filter, self._attempts = filter, attempts

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        attempts = _Attempts(request, self._attempts)
        self._client.discover(attempts.service)
        while True:
            instance = _calling.choose(
                self._client.pick, self._client.view, attempts.service, self._policy, self._filter, attempts.tried
            )
            try:
                response = self._inner.handle_request(attempts.aimed(instance))
            except httpx.TransportError as error:
                if not attempts.again_after_error(error):
                    raise
                continue
            if not attempts.again_after_answer(response):
                return response
            response.close()

    def close(self) -> None:
        self._inner.close()
