"""Requests to services by name with aiohttp.

    async with aiohttp.ClientSession(connector=hither.aiohttp.connector(client)) as session:
        services = hither.aiohttp.Services(client, session)
        async with services.get("svc://api/users") as response:
            ...

`Services` takes `svc://service/path` and asks another instance when one fails. An instance that cannot be connected to is
passed over, whatever the request. One that breaks off, or answers 502, 503 or 504, is passed over if the request may be
sent twice: its method is GET, HEAD, OPTIONS, TRACE, PUT or DELETE. A body that is a stream is sent once.

The connector alone is enough for whoever must write `http`: `http://api.svc/users` resolves to the instances of `api`, and
another one is tried if one cannot be connected to.
"""

from __future__ import annotations

import asyncio
import random
import socket
from types import TracebackType
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from . import _calling
from ._client import Client
from ._services import Filter, Instance, Policy
from .errors import HitherError

__all__ = ["Resolver", "Services", "connector"]

_SUFFIX = ".svc"
_SENT_AGAIN = (type(None), str, bytes, dict)
"""Bodies that can be sent a second time."""


class Resolver(AbstractResolver):
    """Resolves `service.svc` to the instances of a service, and every other name as usual."""

    def __init__(
        self, client: Client, fallback: AbstractResolver | None = None, *, filter: Filter | None = None
    ) -> None:
        self._client = client
        self._fallback = fallback if fallback is not None else aiohttp.DefaultResolver()
        self._filter = filter

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        service = host.removesuffix(_SUFFIX)
        if service == host:
            return await self._fallback.resolve(host, port, family)
        try:
            view = await self._client.discover(service, filter=self._filter)
            # The picked one first, and the others for when it cannot be connected to.
            first = self._client.pick(service, "random", filter=self._filter)
        except HitherError as error:
            raise OSError(None, str(error)) from error
        others = [other for other in view if other.id != first.id and other.status in ("passing", "warning")]
        random.shuffle(others)
        found: list[ResolveResult] = []
        for instance in [first, *others]:
            target = URL(_calling.base(instance))
            for address in await self._fallback.resolve(target.host or "", target.port or port, family):
                found.append({**address, "hostname": host, "port": target.port or port})
        return found

    async def close(self) -> None:
        await self._fallback.close()


def connector(client: Client, *, filter: Filter | None = None, **options: Any) -> aiohttp.TCPConnector:
    """A connector to whose sessions `http://service.svc/path` is a service. `options` are those of `TCPConnector`."""
    # What a name stands for changes with every instance that comes or goes.
    return aiohttp.TCPConnector(**{"use_dns_cache": False, **options}, resolver=Resolver(client, filter=filter))


class Services:
    """Sends requests to `svc://service/path` over a session, and any other as it stands."""

    def __init__(
        self,
        client: Client,
        session: aiohttp.ClientSession,
        *,
        policy: Policy = "random",
        filter: Filter | None = None,
        attempts: int = _calling.ATTEMPTS,
    ) -> None:
        """`attempts` is how often one request is sent at most."""
        self._client, self._session = client, session
        self._policy: Policy = policy
        self._filter, self._attempts = filter, attempts

    def request(self, method: str, url: str | URL, **options: Any) -> _Requesting:
        """A request, to be awaited or entered, as one of the session."""
        return _Requesting(self._send(method.upper(), URL(url), options))

    def get(self, url: str | URL, **options: Any) -> _Requesting:
        """GET."""
        return self.request("GET", url, **options)

    def post(self, url: str | URL, **options: Any) -> _Requesting:
        """POST."""
        return self.request("POST", url, **options)

    def put(self, url: str | URL, **options: Any) -> _Requesting:
        """PUT."""
        return self.request("PUT", url, **options)

    def delete(self, url: str | URL, **options: Any) -> _Requesting:
        """DELETE."""
        return self.request("DELETE", url, **options)

    async def _send(self, method: str, url: URL, options: dict[str, Any]) -> aiohttp.ClientResponse:
        if url.scheme != "svc":
            return await self._session.request(method, url, **options)
        service = url.host or ""
        # Waits only if nothing is known of the service yet.
        await self._client.discover(service)
        count = self._attempts if isinstance(options.get("data"), _SENT_AGAIN) else 1
        attempts = _calling.Attempts(self._client.pick, service, self._policy, self._filter, count, method)
        while True:
            instance, pause = attempts.choose()
            if pause:
                await asyncio.sleep(pause)
            try:
                response = await self._session.request(method, _aimed(instance, url), **options)
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
                unsent = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
                if not attempts.again_after_error(unsent=unsent):
                    raise
                continue
            if not attempts.again_after_answer(response.status):
                return response
            response.release()


class _Requesting:
    """Both `await services.get(url)` and `async with services.get(url) as response:`."""

    def __init__(self, sending: Any) -> None:
        self._sending = sending
        self._response: aiohttp.ClientResponse | None = None

    def __await__(self) -> Any:
        return self._sending.__await__()

    async def __aenter__(self) -> aiohttp.ClientResponse:
        response: aiohttp.ClientResponse = await self._sending
        self._response = response
        return response

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._response is not None:
            self._response.release()
            await self._response.wait_for_close()


def _aimed(instance: Instance, url: URL) -> URL:
    return URL(_calling.base(instance)).join(URL(url.raw_path_qs or "/", encoded=True))
