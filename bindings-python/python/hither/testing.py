"""A real server for tests: `hither dev` in a process of its own, with its own data, contexts and ports.

    with hither.testing.Server() as server:
        with hither.sync.connect(**server.settings) as client:
            ...

The pytest plugin gives one as `hither_server`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Server", "binary"]

_START = 30.0
_STOP = 20.0


def binary() -> str:
    """The program `hither`: `HITHER_BIN`, or that of the package `hither-server`, or the first on the path."""
    named = os.environ.get("HITHER_BIN")
    if named:
        return named
    installed = shutil.which("hither", path=sysconfig.get_path("scripts")) or shutil.which("hither")
    if installed is None:
        raise FileNotFoundError("there is no program hither: pip install hither-server, or name one in HITHER_BIN")
    return installed


class Server:
    """A running server. It ends with `stop`, with its `with`, or with this object."""

    def __init__(self, *arguments: str, home: str | os.PathLike[str] | None = None) -> None:
        """`arguments` are those of `hither dev`; `home` is a folder for all that it keeps, by default one of its own."""
        self._folder = tempfile.TemporaryDirectory(prefix="hither-") if home is None else None
        self.home = Path(self._folder.name if self._folder else os.fspath(home or "."))
        self._arguments = arguments
        try:
            self._start(["--port", "0"])
        except BaseException:
            self._remove()
            raise

    def _start(self, address: list[str]) -> None:
        out = self.home / "out"
        command = [binary(), "dev", "--data", str(self.home / "data"), *address, *self._arguments]
        environment = {**os.environ, "XDG_CONFIG_HOME": str(self.home / "config")}
        environment.pop("HITHER_URL", None)
        with open(out, "wb") as stdout, open(self.home / "log", "ab") as stderr:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=environment
            )
        deadline = time.monotonic() + _START
        while not (ready := re.search(r"^ready client=(hither://\S+) admin=(http://\S+).*\n", out.read_text(), re.M)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the server did not get ready:\n{self.log()[-2000:]}")
            time.sleep(0.01)
        self.url, self.admin = ready[1], ready[2]

    @property
    def config_home(self) -> Path:
        """Where its contexts are: what `hither` is in `XDG_CONFIG_HOME`."""
        return self.home / "config" / "hither"

    @property
    def settings(self) -> dict[str, Any]:
        """What `hither.connect` is to be given to reach it."""
        return {"url": self.url, "config_home": self.config_home}

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a process that reaches it without arguments."""
        environment = {**os.environ, "XDG_CONFIG_HOME": str(self.home / "config")}
        environment.pop("HITHER_URL", None)
        return environment

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def log(self) -> str:
        """What it has logged."""
        return (self.home / "log").read_text()

    def metric(self, name: str) -> float:
        """The sum of one of its metrics over all labels; 0 if it was never counted."""
        with urllib.request.urlopen(f"{self.admin}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(rf"{name}[ {{]", line))

    def kill(self) -> None:
        """Ends it as a power cut would."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Asks it to end, and waits."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(_STOP)
            except subprocess.TimeoutExpired:
                self.kill()

    def pause(self) -> None:
        """It is there and does nothing, until `resume`."""
        self._process.send_signal(signal.SIGSTOP)
        # Once it has stopped, not once it was told to: nothing is answered any more.
        os.waitpid(self._process.pid, os.WUNTRACED)

    def resume(self) -> None:
        """Ends a pause."""
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Starts it again at the same addresses, after it ended."""
        admin = self.admin.removeprefix("http://")
        self._start(["--listen", self.url.removeprefix("hither://"), "--admin", admin])

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._remove()

    def _remove(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
