"""The service `orders`, with FastAPI: an order of an article asks `prices` what it costs.

uvicorn's place is taken by a few lines at the end, so that the port is known before the registration.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI, HTTPException, Request

import hither.asgi
import hither.httpx

listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]


@asynccontextmanager
async def inner(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """The client of HTTP that finds services by name."""
    async with hither.connect() as client:
        transport = hither.httpx.AsyncTransport(client)
        async with httpx.AsyncClient(mounts={"svc://": transport}, timeout=5) as http:
            yield {"http": http}


app = FastAPI(
    lifespan=hither.asgi.lifespan("orders", inner=inner, port=port, address="127.0.0.1", version="1.0.0", ttl=2)
)


@app.get("/orders/{article}")
async def order(article: int, request: Request) -> dict[str, Any]:
    try:
        response = await request.state.http.get(f"svc://prices/prices/{article}")
        response.raise_for_status()
    except (httpx.HTTPError, hither.HitherError) as error:
        # Whoever asks may ask another instance.
        raise HTTPException(503, f"prices does not answer: {error!r}") from error
    return {"article": article, "price": response.json(), "by": "python"}


@app.get("/discounts/{article}")
async def discount(article: int) -> dict[str, Any]:
    return {"article": article, "percent": article % 10, "by": "python"}


server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
asyncio.run(server.serve(sockets=[listener]))
