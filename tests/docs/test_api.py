"""The page of the API has every public name."""

import re

from helpers import REPOSITORY

import sb3_lwm


def test_every_public_class_is_documented() -> None:
    page = (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\.\. autoclass:: sb3_lwm\.(\w+)$", page, re.MULTILINE))
    assert documented >= set(sb3_lwm.__all__) - {"__version__"}
