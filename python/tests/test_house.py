"""The module is made of the library's door and of nothing behind it."""

from __future__ import annotations

import re

import lewis
from conftest import ROOT


def test_the_sources_include_what_the_library_offers():
    offered = {f"lewis/{header.name}" for header in (ROOT / "include/lewis").glob("*.h")}
    own = {header.name for header in (ROOT / "python/src").glob("*.h")}
    for source in (ROOT / "python/src").iterdir():
        for name in re.findall(r'#include ["<]([^">]+)[">]', source.read_text()):
            assert (
                name in own
                or name in offered
                or name.startswith("nanobind/")
                or re.fullmatch(r"[a-z_]+|[a-z/]+\.h", name) and not name.startswith("base/")
            ), f"{source.name} includes {name}"


def test_every_public_name_has_a_docstring():
    for name in lewis.__all__:
        assert getattr(lewis, name).__doc__, name


def test_functions_say_what_they_raise_and_where_the_formulas_are():
    for name in (
        *("merge", "plan", "calibrate", "evaluate", "report", "tune", "merge_state_dict"),
        *("apply", "extract", "convert", "verify", "status", "pull", "push"),
    ):
        text = getattr(lewis, name).__doc__
        for part in ("Args:", "Returns:", "Raises:", "Source: docs/"):
            assert part in text, f"{name}: {part}"
