"""The code in docs/python.md and in the package's own page, from top to bottom: each block is a program of its own, beside a
server for the page. `# prints:` says what it writes."""

from __future__ import annotations

import builtins
import os
import re
from pathlib import Path

import pytest
from support import run

import hither
from hither import _native, errors
from hither.testing import Server

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("page", ["docs/python.md", "bindings-python/README.md", "README.md"])
def test_the_code_of_the_page_does_what_it_says(page):
    text = (ROOT / page).read_text()
    blocks = re.findall(r"^```(\w+)[^\n]*\n(.*?)^```$", text, re.M | re.S)
    assert any(language == "python" for language, _ in blocks)
    # The front page speaks every language; scripts/readme-blocks and the tests of Node run the others.
    others = {"text"} | ({"sh", "console", "rust", "js"} if page == "README.md" else set())
    with Server() as server:
        for language, code in blocks:
            if language in others:
                continue
            assert language == "python", "a block of another language would not be run"
            done = run(server, code)
            assert (done.returncode, done.stderr) == (0, ""), f"{code}\n{done.stderr}"
            prints = re.findall(r"# prints: (.*)$", code, re.M)
            assert done.stdout.splitlines() == prints, code


def test_the_table_of_errors_is_that_of_the_code():
    """With HITHER_REWRITE=1 it is written."""
    page = ROOT / "docs/python.md"
    codes = {}
    for number, name, retryable in _native.error_codes():
        codes.setdefault(type(errors.from_core(number, name, "", "no", retryable, {})), []).append(name)
    rows = []
    for kind in sorted(codes, key=lambda kind: kind.__name__):
        also = [base.__name__ for base in kind.__mro__[1:] if base is not hither.HitherError]
        own = [name for name in also if hasattr(hither, name) or (hasattr(builtins, name) and name != "OSError")]
        own = [name for name in own if name not in ("Exception", "BaseException", "object")]
        rows.append(f"| `{kind.__name__}` | {', '.join(f'`{name}`' for name in own)} | {', '.join(codes[kind])} |")
    text = page.read_text()
    head = "| class | also a | codes |\n|---|---|---|\n"
    wanted = head + "".join(f"{row}\n" for row in rows) + "| `ForkedError`"
    written = re.sub(re.escape(head) + r".*?\| `ForkedError`", lambda _: wanted, text, flags=re.S)
    if os.environ.get("HITHER_REWRITE"):
        page.write_text(written)
    assert text == written


def test_every_test_that_the_page_of_requirements_names_exists():
    page = ROOT / "docs/sdk-requirements.md"
    rows = re.findall(r"^\| ([PN]\d+) \|(.*)\|$", page.read_text(), re.M)
    assert [number for number, _ in rows] == [f"P{n}" for n in range(1, 19)] + [f"N{n}" for n in range(1, 17)]
    declared = {
        ".py": lambda name: rf"def test_{re.escape(name.replace(' ', '_'))}\(",
        ".mjs": lambda name: rf"test\(([\"`]).*{re.escape(name)}\1",
        ".toml": lambda name: rf'title = "{re.escape(name)}"',
    }
    for number, row in rows:
        named = 0
        for name, target in re.findall(r"\[([^\]]+)\]\(([^)#]+)[^)]*\)", row):
            source = (page.parent / target).read_text()
            declaration = declared.get(Path(target).suffix)
            if declaration and "program that uses it" not in name:
                assert re.search(declaration(name), source), f"{number}: {target} has no test {name}"
            named += 1
        assert named or "left out" in row, f"{number} is shown by nothing"
