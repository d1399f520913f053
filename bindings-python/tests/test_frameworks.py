"""HTTP by the name of a service, and applications that register while they serve."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support import start

import hither
import hither.sync

aiohttp = pytest.importorskip("aiohttp")
httpx = pytest.importorskip("httpx")

import hither.aiohttp  # noqa: E402
import hither.httpx  # noqa: E402


class Backend:
    """A little server that says its name, or what it was told to."""

    def __init__(self, name, status=200):
        backend = self
        self.name, self.status, self.requests = name, status, []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                backend.requests.append((self.command, self.path, self.headers["Host"], body))
                said = json.dumps({"name": backend.name, "path": self.path, "body": body.decode()}).encode()
                self.send_response(backend.status)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            do_GET = do_POST = do_PUT = answer

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def backends():
    made = []

    def make(name, **options):
        made.append(Backend(name, **options))
        return made[-1]

    yield make
    for backend in made:
        backend.close()


def closed_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextlib.asynccontextmanager
async def registered(client, *ports):
    async with contextlib.AsyncExitStack() as stack:
        for number, port in enumerate(ports):
            await stack.enter_async_context(client.register("api", port=port, address="127.0.0.1", id=str(number)))
        await client.wait_for("api", len(ports))
        yield


async def test_httpx_asks_a_service_by_name_and_another_instance_if_one_is_gone(hither_connect, backends):
    one = backends("one")
    async with hither_connect() as client, registered(client, closed_port(), one.port):
        transport = hither.httpx.AsyncTransport(client, policy="round_robin")
        async with httpx.AsyncClient(mounts={"svc://": transport}) as http:
            for _ in range(6):
                answer = await http.get("svc://api/users?limit=1&q=a%20b")
                assert answer.json() == {"name": "one", "path": "/users?limit=1&q=a%20b", "body": ""}
            # Nothing was sent, so even this may go elsewhere.
            for _ in range(2):
                assert (await http.post("svc://api/", content="hello")).json()["body"] == "hello"
            assert {host for _, _, host, _ in one.requests} == {f"127.0.0.1:{one.port}"}
            with pytest.raises(hither.NoInstancesError):
                await http.get("svc://nobody/")


async def test_httpx_sends_only_what_may_be_sent_twice_to_another_instance(hither_connect, backends):
    ill, well = backends("ill", status=503), backends("well")
    async with hither_connect() as client, registered(client, ill.port, well.port):
        transport = hither.httpx.AsyncTransport(client, policy="round_robin")
        async with httpx.AsyncClient(mounts={"svc://": transport}) as http:
            assert {(await http.get("svc://api/")).status_code for _ in range(4)} == {200}
            assert {(await http.put("svc://api/", content="x")).status_code for _ in range(4)} == {200}
            assert len(ill.requests) >= 4
            assert {(await http.post("svc://api/", content="x")).status_code for _ in range(4)} == {200, 503}

            async def stream():
                yield b"once"

            assert {(await http.put("svc://api/", content=stream())).status_code for _ in range(4)} == {200, 503}


@pytest.mark.timeout(60)
async def test_an_instance_that_answered_is_asked_again_before_one_that_cannot_be_reached(hither_connect, backends):
    ill = backends("ill", status=503)
    async with (
        hither_connect() as client,
        registered(client, closed_port(), ill.port),
        httpx.AsyncClient(mounts={"svc://": hither.httpx.AsyncTransport(client)}) as http,
        aiohttp.ClientSession() as session,
    ):
        services = hither.aiohttp.Services(client, session)
        for round in range(1, 11):
            # Three attempts each: both, and then the one that lives.
            assert (await http.get("svc://api/")).status_code == 503
            async with services.get("svc://api/") as answer:
                assert answer.status == 503
            assert len(ill.requests) == 4 * round


def test_httpx_without_a_loop(hither_client, backends):
    one = backends("one")
    with (
        hither_client.register("api", port=closed_port(), address="127.0.0.1"),
        hither_client.register("api", port=one.port, address="127.0.0.1"),
        httpx.Client(mounts={"svc://": hither.httpx.Transport(hither_client)}) as http,
    ):
        hither_client.wait_for("api", 2)
        for _ in range(6):
            assert http.get("svc://api/x").json()["name"] == "one"


async def test_aiohttp_asks_a_service_by_name_and_another_instance_if_one_fails(hither_connect, backends):
    ill, well = backends("ill", status=503), backends("well")
    async with hither_connect() as client, registered(client, closed_port(), ill.port, well.port):
        async with aiohttp.ClientSession(connector=hither.aiohttp.connector(client)) as session:
            services = hither.aiohttp.Services(client, session, policy="round_robin")
            for _ in range(6):
                async with services.get("svc://api/users?limit=1", headers={"X": "y"}) as response:
                    assert (await response.json(content_type=None))["path"] == "/users?limit=1"
            said = set()
            for _ in range(6):
                async with services.post("svc://api/", data="x") as response:
                    said.add(response.status)
            assert said == {200, 503}
            plain = await services.get(f"http://127.0.0.1:{well.port}/plain")
            assert (await plain.json(content_type=None))["path"] == "/plain"


async def test_aiohttp_resolves_the_names_of_services(hither_connect, backends):
    one = backends("one")
    async with hither_connect() as client, registered(client, closed_port(), one.port):
        async with aiohttp.ClientSession(connector=hither.aiohttp.connector(client, force_close=True)) as session:
            for _ in range(6):
                async with session.get("http://api.svc/x") as response:
                    assert (await response.json(content_type=None))["name"] == "one"
            async with session.get(f"http://localhost:{one.port}/") as response:
                assert response.status == 200
            with pytest.raises(aiohttp.ClientConnectorError, match="nobody"):
                await session.get("http://nobody.svc/")


APPLICATION = """
    import contextlib, os, sys
    import uvicorn
    from fastapi import FastAPI, Request
    import hither.asgi

    @contextlib.asynccontextmanager
    async def mine(app):
        print("begun", flush=True)
        yield {"mine": "kept"}
        print("ended", flush=True)

    port = int(sys.argv[1])
    app = FastAPI(lifespan=hither.asgi.lifespan("api", port=port, address="127.0.0.1", drain=0.3, inner=mine))

    @app.get("/")
    async def index(request: Request):
        view = await request.state.hither.discover("api")
        return {"mine": request.state.mine, "instances": list(view)}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_application_is_registered_while_it_serves_and_drains_before_it_stops(hither_server, number):
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    port = closed_port()
    process = start(hither_server, APPLICATION, str(port))
    try:
        with hither.sync.connect(**hither_server.settings) as client:
            instance = client.wait_for("api", timeout=20)[0]
            assert instance.url() == f"http://127.0.0.1:{port}"
            with httpx.Client(mounts={"svc://": hither.httpx.Transport(client)}) as http:
                answer = http.get("svc://api/").json()
                assert answer["mine"] == "kept" and answer["instances"][0]["id"] == instance.id
            with client.watch_service("api") as watch:
                watch.next()
                process.send_signal(number)
                assert [one.status for one in watch.next(timeout=5).changed] == ["draining"]
                # It still serves those who do not know yet.
                assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 200
                assert len(watch.next(timeout=5).removed) == 1
        out, err = process.communicate(timeout=10)
        assert out == "begun\nended\n" and err == "", err
    finally:
        process.kill()
        process.wait()


async def test_a_lifespan_runs_without_a_server(hither_server):
    import hither.asgi

    lifespan = hither.asgi.lifespan("alone", port=80, address="h", settings=hither_server.settings)
    async with lifespan(None) as state, hither.connect(**hither_server.settings) as other:
        assert isinstance(state["hither"], hither.Client)
        assert len(await other.wait_for("alone")) == 1
