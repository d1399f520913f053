"""Drives the SDK benchmarks and writes docs/bench-sdk.md. Started by `scripts/bench-sdk`, which installs what is needed.

Every measurement has a fresh server on an empty directory. The systems take turns, and each figure is the median of the
rounds, but for processor time.
"""

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import tempfile
import time
from contextlib import contextmanager
from collections.abc import Callable, Iterator
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--hither", type=Path, required=True, help="the server")
parser.add_argument("--bench", type=Path, required=True, help="the program hither-bench")
parser.add_argument("--python", type=Path, required=True, help="an interpreter with hither and aetcd")
parser.add_argument("--node", type=Path, required=True, help="a project with hither and etcd3")
parser.add_argument("--out", type=Path, default=Path("docs/bench-sdk.md"))
parser.add_argument("--rounds", type=int, default=5)
args = parser.parse_args()

Figures = dict[str, float]
ALONE = ", a stream each"


@contextmanager
def hither() -> Iterator[str]:
    """A fresh server; its URL. Its clients find their identity through the environment."""
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"XDG_CONFIG_HOME": f"{home}/config"}
        command = [args.hither, "dev", "--data", f"{home}/data", "--port", "0"]
        server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert server.stdout
            words = server.stdout.readline().split()
            os.environ["XDG_CONFIG_HOME"] = environment["XDG_CONFIG_HOME"]
            yield next(word.removeprefix("client=") for word in words if word.startswith("client="))
        finally:
            server.kill()
            server.wait()


@contextmanager
def etcd() -> Iterator[str]:
    """A fresh etcd with its defaults; its address."""
    with tempfile.TemporaryDirectory() as home:
        client, peer = free_port(), free_port()
        here = "http://127.0.0.1"
        command = ["etcd", "--log-level", "error", "--data-dir", home]
        command += ["--listen-client-urls", f"{here}:{client}", "--advertise-client-urls", f"{here}:{client}"]
        command += ["--listen-peer-urls", f"{here}:{peer}", "--initial-advertise-peer-urls", f"{here}:{peer}"]
        command += ["--initial-cluster", f"default={here}:{peer}"]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 20
            while not listens(client):
                assert time.monotonic() < deadline, "etcd does not listen"
                time.sleep(0.05)
            yield f"127.0.0.1:{client}"
        finally:
            server.kill()
            server.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


HERE = Path(__file__).parent


def python(*arguments: str) -> list[str]:
    return [str(args.python), str(HERE / "measure.py"), *arguments]


def node(*arguments: str) -> list[str]:
    # In the project, so that it finds the packages that are installed there.
    script = args.node / "measure.mjs"
    script.write_text((HERE / "measure.mjs").read_text())
    return ["node", str(script), *arguments]


def measured(command: list[str]) -> Figures:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=300, check=True)
    figures: Figures = json.loads(done.stdout)
    print(" ".join(Path(word).name for word in command[:3]), json.dumps(figures), flush=True)
    return figures


def typical(runs: list[Figures]) -> Figures:
    """Medians; of processor time the least, for whatever else the machine does only adds to it."""
    return {name: (min if name.startswith("CPU") else statistics.median)([run[name] for run in runs]) for name in runs[0]}


def beside(command: Callable[..., list[str]]) -> tuple[Figures, Figures]:
    """Hither's figures and etcd's, taken in turns."""
    ours, theirs = [], []
    for _ in range(args.rounds):
        with hither() as url:
            ours.append(measured(command("hither", url)))
        with etcd() as address:
            theirs.append(measured(command("etcd", address)))
    return typical(ours), typical(theirs)


def loop_delay() -> Figures:
    """How late Node's event loop is while 20,000 events a second come."""
    runs = []
    for _ in range(args.rounds):
        with hither() as url:
            watcher = subprocess.Popen(
                node("hither", url, "live=5000"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            assert watcher.stderr and watcher.stdout
            watcher.stderr.readline()
            subprocess.run(python("steady", url, "5000"), check=True, timeout=60)
            runs.append(json.loads(watcher.communicate(timeout=60)[0]))
            print("node live", runs[-1], flush=True)
    return typical(runs)


def finding(command: Callable[..., list[str]]) -> Figures:
    with hither() as url:
        return measured(command("finding", url))


def table(rows: list[tuple[str, str, str, bool]]) -> list[str]:
    lines = ["| figure | asked | measured | |", "|---|---|---|---|"]
    return lines + [f"| {name} | {asked} | {got} | {'yes' if ok else '**no**'} |" for name, asked, got, ok in rows]


def comparison(title: str, ours: Figures, theirs: Figures, other: str) -> list[str]:
    lines = [f"## {title}", "", f"| figure | Hither | {other} | times |", "|---|---|---|---|"]
    for name, value in ours.items():
        # "..., a stream each" is the same to a client that has no other way.
        other_value = theirs[name.removesuffix(ALONE)]
        times = f"{value / other_value:.2f}" if other_value else "-"
        lines.append(f"| {name} | {value:,.1f} | {other_value:,.1f} | {times} |")
    return [*lines, ""]


py, aetcd = beside(python)
js, etcd3 = beside(node)
delay = loop_delay()["event loop delay p99 ms"]
py_pick, js_pick = finding(python)["pick ns"], finding(node)["pick ns"]
fleet = measured([str(args.bench), "registry", "--hither", str(args.hither)])


def at_least(ours: float, theirs: float, times: int) -> tuple[str, str, bool]:
    return f"at least {times} times", f"{ours / theirs:.1f} times", ours >= times * theirs


def at_most(value: float, bound: float, unit: str) -> tuple[str, str, bool]:
    return f"at most {bound:,g} {unit}", f"{value:,.1f} {unit}", value <= bound


asked = [
    ("Python: CPU per put, 256 in flight", *at_most(py["CPU us/put"], 10, "µs")),
    ("Python: CPU per get, 256 in flight", *at_most(py["CPU us/get"], 10, "µs")),
    ("Python: puts per second beside aetcd", *at_least(py["puts/s"], aetcd["puts/s"], 5)),
    ("Python: gets per second beside aetcd", *at_least(py["gets/s"], aetcd["gets/s"], 5)),
    ("Python: events per second beside aetcd", *at_least(py["events/s"], aetcd["events/s"], 5)),
    ("Python: threads beyond the interpreter's", *at_most(py["threads"], 4, "")),
    ("Node: puts per second beside etcd3", *at_least(js["puts/s"], etcd3["puts/s"], 4)),
    ("Node: gets per second beside etcd3", *at_least(js["gets/s"], etcd3["gets/s"], 4)),
    ("Node: events per second beside etcd3", *at_least(js["events/s"], etcd3["events/s"], 4)),
    ("Node: the same, a stream for each watch", *at_least(js["events/s" + ALONE], etcd3["events/s"], 4)),
    ("Node: event loop delay p99 at 20,000 events/s", *at_most(delay, 5, "ms")),
    ("`pick` in Rust", *at_most(fleet["pick_ns"], 200, "ns")),
    ("`pick` in Python", *at_most(py_pick, 1_000, "ns")),
    ("`pick` in Node", *at_most(js_pick, 2_000, "ns")),
    ("`discover` on a warm view in Rust", *at_most(fleet["discover_warm_ns"], 1_000, "ns")),
    ("the view of 10,000 instances", *at_most(fleet["view_of_10000_ms"], 100, "ms")),
    ("100,000 instances, 100 clients: idle CPU", *at_most(fleet["idle_percent_of_a_core"], 10, "% of a core")),
    (
        "100,000 instances: server memory each beyond the document",
        *at_most(fleet["server_bytes_each_beyond_document"], 1_536, "bytes"),
    ),
]
processor = next(
    (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")),
    platform.machine(),
)
page = [
    "# The clients in other languages, measured",
    "",
    f"Written by `make bench-sdk`: do not edit. Measured on {os.cpu_count()} cores ({processor}), Linux {platform.release()},"
    f" Python {platform.python_version()}.",
    "",
    f"Every run has a fresh server on an empty directory, which shares the cores with the client. Figures beside etcd's are"
    f" medians of {args.rounds} rounds taken in turns, and of processor time the least of"
    " them. Calls: 256 under way at all times for 3 s, values of 256 bytes, puts"
    " acknowledged after fdatasync, reads linearizable. Events: 100 watchers of one key in one client, 1,000 writes by the"
    " same client; identical watches of a client share a stream, unless they are told not to (\"a stream each\"). Hither encrypts, etcd is spoken to in plain HTTP/2.",
    "",
    "## Asked and measured",
    "",
    *table(asked),
    "",
    *comparison("Python", py, aetcd, "aetcd"),
    *comparison("Node", js, etcd3, "etcd3"),
    "## Registry",
    "",
    "| figure | |",
    "|---|---|",
    *(f"| {name.replace('_', ' ')} | {value:,.1f} |" for name, value in fleet.items()),
    "",
]
args.out.write_text("\n".join(page))
print(f"wrote {args.out}")
