"""
The code blocks of README.md and docs/ run as they are printed.

A comment directly above a block changes that: ``<!-- not run: reason -->`` leaves it out, and
``<!-- shortened: text => other text -->`` replaces a text in it, such as the number of steps. The Python blocks of a
page run one after the other and share their variables; the shell blocks of all pages run in one folder.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from helpers import REPOSITORY

PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
FENCE = re.compile(r"((?:^<!-- [^\n]* -->\n)*)^```(\w+|\{[^\n]*)?[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHORTENED = re.compile(r"<!-- shortened: (.+?) => (.+?) -->")
# drawings and citations; directives of Sphinx, such as {include}, are built with the documentation
NOT_CODE = ("text", "bibtex")
# one process for all pages, since importing takes longer than most blocks; a traceback names the page
RUN_PAGES = """
import json, sys
for page, code in json.load(sys.stdin).items():
    exec(compile(code, page, "exec"), {"__name__": page})
    print("ran", page)
"""


class Block(NamedTuple):
    """A code block with its comments applied."""

    page: str
    language: str
    code: str
    reason: str | None


def read_blocks(page: Path) -> list[Block]:
    """Return the code blocks of a page."""
    blocks = []
    for comments, language, code in FENCE.findall(page.read_text(encoding="utf-8")):
        if language in NOT_CODE or language.startswith("{"):
            continue
        for text, other in SHORTENED.findall(comments):
            assert text in code, f"{page.name} shortens {text!r}, which is not in the block:\n{code}"
            code = code.replace(text, other)
        reason = re.search(r"<!-- not run: (.+?) -->", comments)
        blocks.append(Block(page.name, language, code, reason and reason[1]))
    return blocks


BLOCKS = [block for page in PAGES for block in read_blocks(page)]


def code_that_runs(*languages: str) -> dict[str, str]:
    """Return the code of the blocks of each page."""
    wanted = [block for block in BLOCKS if block.language in languages and block.reason is None]
    pages = dict.fromkeys(block.page for block in wanted)
    return {page: "\n".join(block.code for block in wanted if block.page == page) for page in pages}


def run(folder: Path, command: list[str], given: str) -> str:
    """Return the output of a program that reads the given text from the standard input."""
    places = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    # `python` of a shell block is the one that runs the tests
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, places)), "PATH": programs}
    process = subprocess.run(command, input=given, cwd=folder, env=variables, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, f"{command} ended with {process.returncode}:\n{process.stdout}{process.stderr}"
    return process.stdout


def test_every_block_has_a_language() -> None:
    assert {block.language for block in BLOCKS} == {"python", "sh", "bash", "yaml"}


def test_python_blocks(tmp_path: Path) -> None:
    pages = code_that_runs("python")
    output = run(tmp_path, [sys.executable, "-c", RUN_PAGES], json.dumps(pages))
    assert len(pages) > 5 and all(f"ran {page}\n" in output for page in pages)


@pytest.mark.skipif(sys.platform == "win32", reason="the shell blocks are for a POSIX shell")
def test_shell_blocks(tmp_path: Path) -> None:
    code = "\n".join(code_that_runs("sh", "bash").values())
    # the README's main job, with fewer steps
    assert "rl_zoo3.train" in code and "sb3_lwm.zoo watch" in code
    assert "visited" in run(tmp_path, ["bash", "-e"], code)


def test_yaml_blocks() -> None:
    assert all(isinstance(yaml.safe_load(block.code), dict) for block in BLOCKS if block.language == "yaml")
