"""README and FAQ cannot lie: snippets run, commands exist, links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import ROOT

import variance_dropout_task as task

README = (ROOT / "README.md").read_text()
FAQ = (ROOT / "FAQ.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", text)


def commands() -> list[str]:
    """The lines that call one of the project's own programs."""
    lines = "\n".join(blocks(README, "sh") + blocks(FAQ, "sh")).splitlines()
    return [line.split("#")[0].strip() for line in lines if line.startswith("python ")]


@pytest.mark.parametrize("block", blocks(README, "python") + blocks(FAQ, "python"))
def test_snippets_run(block: str, tmp_path: Path) -> None:
    """Each python block runs by itself, in an empty directory, without a warning."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


REPLIES = {
    "labelled": "```python\nCODE```\n",
    "no label": "So:\n```\nCODE```",
    "other label": "```Python3 title\r\nCODE```",
    "shell before": "```bash\npip install numpy\n```\nThen\n\n```python\nCODE```\n",
    "formula before": "```text\nx\n```\n```python\nCODE```",
    "output after": "```python\nCODE```\nIt prints\n```\nall passed\n```\n",
    "shell after": "```py\nCODE```\n```sh\npython test_dropout.py\n```",
    "cut off": "Here it is:\n```python\nCODE",
    "in a list": "1. So:\n\n   ```python\nINDENTED   ```\n2. Done.",
    "tildes": "~~~python\nCODE~~~",
    "bare": "CODE",
}


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
def test_the_snippet_finds_the_code_in_a_reply(
    reply: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a model writes around its code costs it nothing."""
    (snippet,) = [block for block in blocks(README, "python") if "re.findall" in block]
    code = task.REFERENCE_IMPLEMENTATION
    reply = reply.replace("INDENTED", textwrap.indent(code, "   ")).replace("CODE", code)
    graded: list[str] = []
    monkeypatch.setattr(
        task, "grade_source", lambda source: graded.append(source) or {"reward": 1.0}
    )
    (example,) = [line for line in snippet.splitlines() if line.startswith("reply =")]
    exec(snippet.replace(example, f"reply = {reply!r}"), {})
    assert [source.strip() for source in graded] == [code.strip()]


def test_there_are_snippets_and_commands() -> None:
    """The two tests around this one look at something."""
    assert len(blocks(README, "python")) >= 3
    assert len(commands()) >= 5


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_commands_are_understood(command: str, tmp_path: Path) -> None:
    """Every program and flag that is named exists: with --help appended, each is accepted."""
    program, *arguments = shlex.split(command)[1:]
    done = subprocess.run(
        [sys.executable, str(ROOT / program), *arguments, "--help"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )
    if program.startswith("integrations/") and "pip install -r integrations/" in done.stderr:
        pytest.skip(done.stderr.strip())  # its framework is not installed
    assert done.returncode == 0, done.stderr
    flags = {argument.split("=")[0] for argument in arguments if argument.startswith("--")}
    assert flags <= set(re.findall(r"--[a-z-]+", done.stdout))


@pytest.mark.parametrize("name", ["README.md", "FAQ.md"])
def test_links_lead_somewhere(name: str) -> None:
    """Every relative link is a file of the project."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / name).read_text())
    assert all((ROOT / link).exists() for link in links), links


def test_requirements_hold_numpy_and_anthropic_alone() -> None:
    """What a user has to install is what the design says."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    names = [re.match(r"[a-z0-9-]+", line) for line in lines if line and line[0] != "#"]
    assert [name and name.group() for name in names] == ["numpy", "anthropic"]


def test_every_failure_mode_is_documented() -> None:
    """Each mode that a check can name is in README's table."""
    source = Path(task.__file__).read_text()
    modes = set(re.findall(r'"([a-z]+(?:_[a-z]+)+)"', source)) & {
        "test_file_modified", "no_submission", "syntax_error", "wrong_drop_rate",
        "mask_not_random", "data_dependent_scaling", "mean_preserving_scaling", "wrong_factor",
        "eval_mode", "zero_rate", "no_sqrt_or_power",
    }
    assert len(modes) == 11
    assert all(f"`{mode}" in README for mode in modes | {"timeout", "crash", "interface"})


def test_the_figure_is_drawn_by_its_script() -> None:
    """The figure in the tree is one that the script in the tree writes."""
    assert "docs/variance_by_depth.svg" in README
    assert (ROOT / "docs/draw_variance_by_depth.py").exists()
    assert (ROOT / "docs/variance_by_depth.svg").read_text().startswith("<?xml")
