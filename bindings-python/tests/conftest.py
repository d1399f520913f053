from __future__ import annotations

import sys
from pathlib import Path

import pytest

import hither

pytest_plugins = ["pytester"]
sys.path.insert(0, str(Path(__file__).parent))


def pytest_configure(config: pytest.Config) -> None:
    """What is tested is what was installed, never the source tree."""
    installed = Path(hither.__file__)
    assert "site-packages" in installed.parts, f"hither comes from {installed}: run scripts/python"
