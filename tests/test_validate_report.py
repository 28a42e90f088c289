"""The report, rendered from JSON alone, and the command line around it."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_api import ROOT, Json, call_command, command, run_command

import validate_task as v
import variance_dropout_task as task

FACTS: Json = {
    "scripted": False, "status": "finished", "reason": None, "started": "2026-11-22T10:00:00+00:00",
    "ended": "2026-11-22T10:05:00+00:00", "wall_seconds": 300.0, "runs": 15, "concurrency": 4,
    "fingerprint": {"prompt": "aa", "task": "bb", "grader": "cc",
                    "settings": {"model": "claude-opus-5-5", "effort": "medium",
                                 "tools": ["read_file", "write_file"], "max_turns": 20}},
    "versions": {"validate_task.py": "0123456789abcdef", "python": "3.12.1",
                 "anthropic": "2.12.0", "sandbox": "bubblewrap"},
}


def row(number: int, result: str = "FAIL", **changes: Any) -> Json:
    """One row of the results, as a run writes it."""
    mode = {"PASS": None, "FAIL": "mean_preserving_scaling", "ERROR": None}[result]
    return {
        "number": number, "result": result, "failure_mode": mode,
        "variance_error": {"PASS": 0.001, "FAIL": 2.333}.get(result),
        "ending": "error" if result == "ERROR" else "end_turn",
        "error": "RateLimitError: 429" if result == "ERROR" else None, "refusal": None,
        "script": None, "turns": 4, "tokens": {"input": 9_000, "output": 1_000},
        "seconds": {"total": 20.0, "model": 18.0}, "faults": [],
        "file": f"attempts/{number:03d}.json", **changes,
    }


def results(passes: int, failures: int, *more: Json, **facts: Any) -> Json:
    """The results document of a run."""
    rows = [row(i + 1, "PASS" if i < passes else "FAIL") for i in range(passes + failures)]
    document = v.summarise({**FACTS, "runs": len(rows) + len(more), **facts}, [*rows, *more])
    return dict(json.loads(json.dumps(document)))


# --- The report


def test_headline_and_verdict() -> None:
    """The lines that a reader looks for, word for word, and one honest sentence."""
    report = v.render_report(results(4, 11))
    for line in (
        "Success Rate: 26.7% (4/15)",
        "Range Status: INCONCLUSIVE (point estimate in range, target 10-40%)",
        "Average Time: 20.0s per attempt",
        "95% Interval: 10.9% to 52.0% (Wilson)",
        "P(in range):  0.82 (uniform prior)",
    ):
        assert line in report.splitlines()
    assert "**Inconclusive**: 4 of 15 attempts passed" in report
    assert "does not tell whether" in report
    assert "about 105 in all" in report


@pytest.mark.parametrize(
    ("passes", "n", "sentence", "advice"),
    [
        (30, 120, "**In range**", "None: the verdict is conclusive"),
        (12, 15, "**Outside**: 12 of 15 attempts passed; with 95% confidence the true pass rate "
                 "lies between 54.8% and 93.0%, all of it above", "Too easy so far"),
        (0, 60, "all of it below the target", "Too hard so far"),
        (7, 15, "**Inconclusive**", "Too easy so far"),
        (6, 15, "**Inconclusive**", "will hardly settle it"),
    ],
)
def test_verdicts_and_their_advice(passes: int, n: int, sentence: str, advice: str) -> None:
    """Each verdict has its sentence and says what to do next."""
    report = v.render_report(results(passes, n - passes))
    assert sentence in report
    assert advice in report


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [("interrupted", None, "it was interrupted"), ("stopped", "401 no key", "401 no key"),
     ("running", None, "was killed")],
)
def test_an_unfinished_run_has_no_verdict(status: str, reason: str | None, words: str) -> None:
    """The report says why there is none, and how to go on."""
    report = v.render_report(results(12, 3, status=status, reason=reason, runs=30))
    assert words in report
    assert f"**No verdict**: 15 of 30 attempts graded; {reason or ''}" in report
    assert ".." not in report
    assert "--resume" in report
    assert "Range Status: no verdict" in report


def test_nothing_graded_is_no_rate() -> None:
    """All errors: no figure, no histogram and no word of a verdict, only what to do."""
    document = results(0, 0, row(1, "ERROR"), row(2, "ERROR"))
    report = v.render_report(document)
    assert "Success Rate: not measured (0 of 2 attempts graded)" in report
    assert "nothing was graded, since all attempts ended in errors" in report
    assert "conclusive" not in report
    assert v.histogram(document, False) == ["Nothing was measured."]
    assert "`--resume` runs" in report


def test_a_run_that_stopped_before_the_first_attempt_says_why() -> None:
    """The reason stands there once and ends in one full stop; no verdict is claimed."""
    report = v.render_report(results(0, 0, status="stopped", reason="401. Set a key.", runs=15))
    assert "**No verdict**: 0 of 15 attempts graded; 401. Set a key. `--resume` goes on." in report
    assert "conclusive" not in report
    assert "- Finish the run: `--resume`." in report


def test_one_attempt_is_singular() -> None:
    """A run of one attempt reads like English, and has no pass@k to speak of."""
    report = v.render_report(results(0, 1))
    assert "1 attempts" not in report
    assert "0 of 1 attempt passed" in report
    assert "Pass at k" not in report


def test_errors_are_listed_and_kept_out() -> None:
    """ERROR attempts are counted apart and named, with the flag that runs them again."""
    report = v.render_report(results(4, 10, row(15, "ERROR")))
    assert "Success Rate: 28.6% (4/14)" in report
    assert "attempt 15 has no verdict: `RateLimitError: 429`" in report
    assert "`--resume` runs" in report


@pytest.mark.parametrize(("ending", "flag"), list(v.LIMIT_FLAGS.items()))
def test_a_limit_that_ends_many_attempts_is_named(ending: str, flag: str) -> None:
    """A rate full of truncated attempts measures the setting: the flag to raise is named."""
    cut = [row(number, ending=ending) for number in (14, 15)]
    assert flag in v.render_report(results(4, 9, *cut))
    assert f"`{flag}`" not in v.render_report(results(4, 11))


def test_refusals_are_told_apart() -> None:
    """A refusal counts as a failure, with its category in the table and advice of its own."""
    refused = row(15, failure_mode="refusal", ending="refusal", refusal="frontier_llm")
    document = results(4, 10, refused)
    assert document["statistics"]["graded"] == 15
    report = v.render_report(document)
    assert "refusal: frontier_llm" in report
    assert "1 attempt was refused" in report


def test_histogram_counts_every_attempt_once() -> None:
    """The bars add up, with the attempts that have no measured error in a line of their own."""
    document = results(4, 11, row(16, variance_error=None))
    counts = {line[:14].strip(): int(line[14:20]) for line in v.histogram(document, False)
              if re.match(r" *(\d+%|over|not measured)", line)}
    assert sum(counts.values()) == 16
    assert counts["0% to 10%"] == 4
    assert counts["over 200%"] == 11
    assert counts["not measured"] == 1


def test_long_bars_are_scaled() -> None:
    """500 attempts do not make a line of 500 characters; one attempt is never invisible."""
    lines = v.histogram(results(1, 499), False)
    assert max(map(len, lines)) < 120
    assert any(line.endswith("1  #") for line in lines)


def test_table_links_every_attempt() -> None:
    """One row an attempt, with a link to its file."""
    report = v.render_report(results(4, 11))
    assert re.findall(r"^\| \[(\d+)\]\(attempts/0*(\d+)\.json\)", report, re.M) == [
        (str(n), str(n)) for n in range(1, 16)]


def test_settings_and_hashes_are_in_the_report() -> None:
    """What shaped the result, and that neither seed nor temperature exists."""
    report = v.render_report(results(4, 11))
    for fact in ("| model | claude-opus-5-5 |", "| effort | medium |", "| anthropic | 2.12.0 |",
                 "| grader, SHA-256 (its first 12 digits) | cc |",
                 "| validate_task.py, SHA-256 (its first 12 digits) | 0123456789ab |",
                 "input 135,000, output 15,000"):
        assert fact in report
    assert "Seed and temperature" in report


@pytest.mark.parametrize("scripted", [True, False])
def test_scripted_results_are_stamped(scripted: bool) -> None:
    """The stamp stands above everything, and only over scripted results."""
    report = v.render_report(results(4, 11, scripted=scripted))
    assert (v.SCRIPTED in report.partition("```")[0]) is scripted


def test_scripted_results_give_no_advice() -> None:
    """Nobody should buy 105 attempts because of a script; a real run gets that advice."""
    advice = v.recommendations(results(4, 11, scripted=True))
    assert len(advice) == 1
    assert "no model was measured" in advice[0]
    assert "about 105 in all" in v.recommendations(results(4, 11))[0]


def test_the_report_comes_from_the_json_alone(tmp_path: Path) -> None:
    """--report renders the same text again from one file, with no attempts beside it."""
    v.write_json(tmp_path / v.RESULTS_FILE, results(4, 11))
    before = (tmp_path / v.RESULTS_FILE).read_bytes()
    done = call_command("--report", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / v.RESULTS_FILE).read_bytes() == before
    picture = (tmp_path / v.PICTURE_FILE).exists()
    assert (tmp_path / v.REPORT_FILE).read_text() == v.render_report(results(4, 11), picture)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "does not exist"), ("{}", "damaged"), ('{"schema_version": 99}', "schema version 1")],
)
def test_a_report_that_cannot_be_made_is_a_sentence(
    tmp_path: Path, content: str | None, complaint: str
) -> None:
    """No results, broken ones and those of another version are told apart."""
    if content is not None:
        (tmp_path / v.RESULTS_FILE).write_text(content)
    done = call_command("--report", tmp_path)
    assert done.returncode == 2
    assert complaint in done.stderr


def test_a_picture_is_drawn_where_matplotlib_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With matplotlib the report shows a picture; a stand-in takes its place in this test."""

    class Figure:
        def __init__(self, **named: object) -> None:
            self.bars: list[object] = []

        def subplots(self) -> Any:
            return types.SimpleNamespace(
                bar=lambda x, y, color: self.bars.extend(x), axhline=lambda *a, **n: None,
                set=lambda **n: None)

        def savefig(self, path: Path) -> None:
            path.write_text(str(self.bars))

    module: Any = types.ModuleType("matplotlib.figure")
    module.Figure = Figure
    monkeypatch.setitem(sys.modules, "matplotlib", types.ModuleType("matplotlib"))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", module)
    v.publish(tmp_path, results(2, 1))
    assert (tmp_path / v.PICTURE_FILE).read_text() == "[1, 2, 3]"
    assert f"]({v.PICTURE_FILE})" in (tmp_path / v.REPORT_FILE).read_text()


def test_without_matplotlib_there_is_no_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report then refers to none."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    v.publish(tmp_path, results(2, 1))
    assert v.PICTURE_FILE not in (tmp_path / v.REPORT_FILE).read_text()


# --- The command line


def test_help_is_the_manual_and_imports_nothing_heavy() -> None:
    """--help answers without NumPy and without the SDK, and shows examples and exit codes."""
    code = ("import sys, validate_task\n"
            "try: validate_task.main(['--help'])\n"
            "except SystemExit: print(sorted({'numpy', 'anthropic'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                          check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "examples:" in done.stdout
    assert "exit codes:" in done.stdout


def test_the_examples_of_the_help_are_valid() -> None:
    """Each example line parses with the flags that exist."""
    lines = [line for line in v.EPILOG.splitlines() if "python validate_task.py" in line]
    assert len(lines) >= 5
    for line in lines:
        flags = line.partition("validate_task.py")[2].partition("   ")[0]
        v.parse(shlex.split(flags))


@pytest.mark.parametrize(
    "flags",
    [["--runs", "0"], ["--runs", "x"], ["--tools", "read_file"], ["--tools", "bash"],
     ["--effort", "huge"], ["--offline", "--regrade", "x"], ["--temperature", "1"],
     ["--offline", "--model", "x"], ["--portable", "--effort", "low"],
     ["--report", "x", "--resume"], ["--regrade", "x", "--runs", "15"], ["--output-dir", ""]],
)
def test_wrong_usage_is_told(flags: list[str]) -> None:
    """Flags that make no sense end with exit code 2 and a sentence, before anything is made."""
    done = call_command(*flags)
    assert done.returncode == 2
    assert "error:" in done.stderr


def test_a_flag_without_effect_is_named() -> None:
    """It is refused by name; one that works in that mode is not."""
    done = call_command("--offline", "--model", "x", "--max-turns", "3")
    assert "--offline takes no notice of --model: leave it out" in done.stderr
    assert v.parse(["--offline", "--max-turns", "3"]) == {"offline": True, "max_turns": 3}


def test_scripted_and_real_runs_have_directories_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at --offline does not stand in the way of the real run after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
    assert v.prepare({"offline": True}).directory == Path("demo_results")
    real = v.prepare({"allow_unsandboxed_tools": True})
    assert (real.directory, real.runs) == (Path("validation_results"), 15)


def test_a_directory_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    """A file in the way of --output-dir is named, without a traceback."""
    (tmp_path / "file").write_text("")
    done = call_command("--offline", "--output-dir", tmp_path / "file")
    assert done.returncode == 2
    assert "file" in done.stderr


def test_without_the_sdk_the_install_command_is_told(tmp_path: Path) -> None:
    """A missing anthropic package is one sentence."""
    (tmp_path / "anthropic.py").write_text("raise ImportError")
    done = run_command("--offline", "--output-dir", tmp_path / "out",
                       env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 2
    assert "pip install" in done.stderr


def test_code_runs_unsandboxed_only_when_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without bubblewrap a real model gets execute_code only with the explicit flag; without
    that tool, and for scripted attempts, which are ours, no flag is needed."""
    monkeypatch.setattr("variance_dropout_task.available_sandbox", lambda: "process")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")

    def settings(*flags: str) -> v.Settings:
        return v.settings_from(v.parse(list(flags)))

    with pytest.raises(v.RunStopped, match="--allow-unsandboxed-tools"):
        settings()
    assert "execute_code" in settings("--allow-unsandboxed-tools").tools
    assert settings("--tools", "read_file,write_file").tools == ("read_file", "write_file")
    assert settings("--offline").scripted is True


@pytest.mark.parametrize("broken", ["grade_source", "run_sandboxed"])
def test_no_attempt_is_made_that_could_not_be_graded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, broken: str
) -> None:
    """A sandbox that cannot start stops the command before the first request."""

    def fail(*arguments: object) -> None:
        raise task.GradingError("no sandbox")

    monkeypatch.setattr(task, broken, fail)
    done = call_command("--offline", "--output-dir", tmp_path)
    assert done.returncode == 2
    assert "cannot be graded on this machine: no sandbox" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_password_in_the_address_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """ANTHROPIC_BASE_URL may hold credentials for a proxy."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://user:secret@127.0.0.1:8000/api")
    settings = v.settings_from(v.parse(["--tools", "write_file"]))
    assert settings.base_url == "http://127.0.0.1:8000/api"


def test_defaults_of_flags_and_settings_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command without flags runs what Settings() describes."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
    monkeypatch.delenv("ANTHROPIC_BASE_URL", raising=False)
    assert v.settings_from(v.parse(["--allow-unsandboxed-tools"])) == v.Settings()


def test_an_effort_that_is_not_sent_is_not_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """--portable sends no effort, so the settings and the report name none."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
    settings = v.settings_from(v.parse(["--portable", "--allow-unsandboxed-tools"]))
    assert settings.effort == "not sent"


@pytest.mark.parametrize(
    ("terminal", "no_color", "coloured"),
    [(True, "", True), (True, "1", False), (False, "", False)],
)
def test_colour_only_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, no_color: str, coloured: bool
) -> None:
    """Pipes and NO_COLOR get plain text."""
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    line = v.progress_line(row(1, "PASS"), {"passes": 1, "graded": 1})
    assert ("\033[" in line) is coloured


def test_the_widest_progress_line_fits() -> None:
    """The longest failure mode, three-digit numbers and long times stay within 80 columns."""
    wide = row(500, failure_mode="mean_preserving_scaling_unchanged", variance_error=81.4,
               turns=100, tokens={"input": 999_000}, seconds={"total": 1800.0})
    assert len(v.progress_line(wide, {"passes": 123, "graded": 500})) <= 80


def test_an_error_line_says_what_happened() -> None:
    """An attempt without verdict has its whole error on a line of its own below."""
    error = "RateLimitError: 429 " + "and so on " * 10 + "to the end"
    line, below = v.progress_line(row(3, "ERROR", error=error),
                                  {"passes": 1, "graded": 2}).split("\n")
    assert "ERROR" in line
    assert below == "     " + error


def test_tqdm_draws_a_bar_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With tqdm it makes room for the lines, and the bar moves on; a stand-in counts."""

    class Bar:
        def __init__(self, **named: Any) -> None:
            self.total, self.n = named["total"], named["initial"]
            self.seen: list[str] = []

        @contextlib.contextmanager
        def external_write_mode(self) -> Iterator[None]:
            self.seen.append("line")
            yield

        def update(self) -> None:
            self.n += 1

        def close(self) -> None:
            self.seen.append("close")

    module: Any = types.ModuleType("tqdm")
    module.tqdm = Bar
    monkeypatch.setitem(sys.modules, "tqdm", module)
    rows = {1: row(1), 2: row(2, "ERROR")}
    progress = v.Progress(v.Run(tmp_path, v.Settings(), runs=3, rows=rows))
    assert (progress.bar.n, progress.bar.total) == (1, 3)  # an error is made again
    progress.show(row(2), results(0, 2))
    assert len(progress.bar.seen) == 1
    progress.show(row(3), results(0, 3))
    assert progress.bar.seen[-1] == "close"
    assert capsys.readouterr().out.count("mean_preserving_scaling") == 2


def test_the_command_is_the_file() -> None:
    """These tests run the module of this tree."""
    assert Path(v.__file__).resolve() == Path(command()[1])
