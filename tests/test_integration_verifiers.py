"""integrations/verifiers: the package that a wheel holds, through verifiers' own commands."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, attempts

import variance_dropout_task as task

vf = pytest.importorskip("verifiers.v1", reason="verifiers (v1 API) is not installed")
pytest.importorskip("hatchling", reason="hatchling, which builds the package, is not installed")

import fake_openai  # noqa: E402

PACKAGE = ROOT / "integrations/verifiers"
REPAIR = "sed -i 's|1.0 / keep_prob|1.0 / np.sqrt(keep_prob)|' dropout.py"
HOSTILE = next(a for a in attempts("hostile") if a.path.name == "builtin_all_and_any_patched.py")


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what the wheel installs, built without network."""
    directory = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(build, cwd=PACKAGE, check=True, capture_output=True)
    [wheel] = directory.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory / "site")
    return directory / "site"


@pytest.fixture(scope="session")
def taskset(installed: Path) -> Any:
    """The one taskset, found by verifiers from the environment's ID."""
    sys.path.insert(0, str(PACKAGE))
    return vf.load_taskset(vf.taskset_config_type("variance-dropout")(id="variance-dropout"))


def run(command: str, *arguments: str, installed: Path, directory: Path) -> None:
    """One of verifiers' commands, as a user would run it, somewhere else."""
    python = Path(sys.executable).parent  # the model's `python`, with NumPy, and the commands
    uv = Path(os.environ.get("UV", "uv")).parent
    path = os.pathsep.join([str(python), str(uv), os.environ["PATH"]])
    environment = os.environ | {"PYTHONPATH": str(installed), "PATH": path, "KEY": "none"}
    done = subprocess.run(
        [str(python / command), "variance-dropout", *arguments, "--no-rich", "-o", "out"],
        cwd=directory, env=environment, capture_output=True, text=True, timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_holds_the_package_and_the_core(installed: Path) -> None:
    """What is installed is the project's core, byte for byte, and the package; nothing else."""
    files = {str(path.relative_to(installed)) for path in installed.rglob("*.*") if path.is_file()}
    names = {name for name in files if ".dist-info" not in name}
    package = {"variance_dropout/__init__.py", "variance_dropout/taskset.py"}
    assert names == {"variance_dropout_task.py"} | package
    core = installed / "variance_dropout_task.py"
    assert core.read_bytes() == Path(task.__file__).read_bytes()


def test_readme_names_what_is_there(taskset: Any) -> None:
    """ID, arguments and metrics of the README are those of the code."""
    readme = (PACKAGE / "README.md").read_text()
    [one] = taskset.load()
    assert "**Environment ID**: `variance-dropout`" in readme
    names = [hook.__name__ for kind in ("reward", "metric") for hook in one.hooks(kind)]
    for name in [*names, *(set(type(one.config).model_fields) - set(vf.TaskConfig.model_fields))]:
        assert f"`{name}`" in readme or f".{name}`" in readme, name


def test_validate(installed: Path, tmp_path: Path) -> None:
    """vf-validate: the reference passes, and the untouched workspace gets 0."""
    arguments = ["--runtime.type", "subprocess"]
    run("vf-validate", *arguments, installed=installed, directory=tmp_path)
    [row] = map(json.loads, next(tmp_path.rglob("results.jsonl")).read_text().splitlines())
    assert row["gold"]["valid"] is True
    assert row["noop"]["valid"] is True
    assert row["noop"]["rewards"] == {"solved": 0.0}


@pytest.mark.skipif(not (os.environ.get("UV") or shutil.which("uv")), reason="uv is not on PATH")
def test_eval(installed: Path, tmp_path: Path) -> None:
    """vf-eval with the default harness: 1 for the repair, 0 for the idle and the hostile policy."""
    scripts = {
        "repairing": ["cat dropout.py", REPAIR, "python test_dropout.py"],
        "idle": ["python test_dropout.py"],
        "hostile": [f"cp '{HOSTILE.path}' dropout.py"],
    }
    with fake_openai.serve(scripts) as url:
        run(
            "vf-eval", "-m", "scripted", "-r", "3", "--no-push",
            "--client.base-url", url, "--client.api-key-var", "KEY",
            "--env.agent.runtime.type", "subprocess", installed=installed, directory=tmp_path,
        )
    episodes = map(json.loads, next(tmp_path.rglob("traces.jsonl")).read_text().splitlines())
    traces = [trace for episode in episodes for trace in episode["traces"]]
    found = {}
    for trace in traces:
        name = next(name for name in scripts if f'"{name}-0"' in json.dumps(trace))
        assert trace["ok"], trace["errors"]
        found[name] = trace
    rewards = {name: trace["rewards"]["solved"]["score"] for name, trace in found.items()}
    assert rewards == {"repairing": 1.0, "idle": 0.0, "hostile": 0.0}
    assert found["repairing"]["metrics"]["checks_passed"] == 1.0
    assert found["idle"]["metrics"]["variance_error"] > 1
    assert "all passed" in json.dumps(found["repairing"])  # the model's python has NumPy
    mode = found["idle"]["info"]["verdict"]["failure_mode"]
    assert mode == "mean_preserving_scaling_unchanged"


# --- What a policy may leave behind, without the commands -----------------------------------------


def new_trace(one: Any) -> Any:
    return vf.Trace(
        task=vf.TraceTask(type=type(one).__name__, data=one.data, key=one.key, hash=one.hash),
        state=vf.State(),
        agent=vf.AgentInfo(config=vf.AgentConfig(runtime=vf.SubprocessConfig())),
    )


def rollout(taskset: Any, leave: Callable[[Path], object], **config: Any) -> Any:
    """The trace of a rollout in which the policy does `leave` to the workspace."""
    from verifiers.v1.runtimes import make_runtime

    async def play() -> Any:
        [one] = taskset.load()
        one = type(one)(one.data, type(one.config)(**config))
        trace = new_trace(one)
        runtime = make_runtime(vf.SubprocessConfig())
        await runtime.start()
        try:
            await one.setup(runtime)
            leave(runtime.workdir)
            await one.finalize(trace, runtime)
            await one.score(trace)
        finally:
            await runtime.stop()
        return trace

    return asyncio.run(play())


def write(source: str | bytes) -> Callable[[Path], object]:
    data = source.encode() if isinstance(source, str) else source
    return lambda workspace: (workspace / "dropout.py").write_bytes(data)


def replace(make: Callable[[Path], object]) -> Callable[[Path], object]:
    """The repaired layer is there, but `make` puts something else at its name."""
    def leave(workspace: Path) -> None:
        layer = workspace / "dropout.py"
        layer.unlink()
        (workspace / "elsewhere.py").write_text(task.REFERENCE_IMPLEMENTATION)
        make(layer)
    return leave


def test_a_repair_passes(taskset: Any) -> None:
    """The control of all that follows: the reference, with every metric."""
    trace = rollout(taskset, write(task.REFERENCE_IMPLEMENTATION))
    assert trace.reward == 1.0
    assert trace.metrics["checks_passed"] == 1.0
    assert trace.metrics["variance_error"] < 0.1
    json.dumps(trace.info, allow_nan=False)


LEFT = {
    "nothing": (replace(lambda layer: None), "no_submission"),
    "a directory": (replace(Path.mkdir), "no_submission"),
    "a link": (replace(lambda layer: layer.symlink_to("elsewhere.py")), "no_submission"),
    "a FIFO": (replace(os.mkfifo), "no_submission"),
    "no workspace": (shutil.rmtree, "test_file_modified"),
    "too much": (write(task.REFERENCE_IMPLEMENTATION + "#" * (256 << 10)), "no_submission"),
    "far too much": (write(task.REFERENCE_IMPLEMENTATION + "#" * (4 << 20)), "no_submission"),
    "no text": (write(b"\xff\xfe\x00"), "syntax_error"),
}


@pytest.mark.parametrize(("leave", "mode"), LEFT.values(), ids=LEFT)
def test_what_cannot_be_graded_is_the_policys_failure(
    leave: Callable[[Path], object], mode: str, taskset: Any
) -> None:
    """A missing or unreadable deliverable is a reward of 0, neither an error nor a wait."""
    trace = rollout(taskset, leave)
    assert trace.reward == 0.0
    assert trace.rewards["solved"] is not None
    assert trace.info["verdict"]["failure_mode"] == mode
    assert trace.info["verdict"]["checks"][1]["passed"] is False  # "runs"
    assert "variance_error" not in trace.metrics


def test_a_modified_test_file_fails(taskset: Any) -> None:
    """The visible test leaves the runtime too, and is compared."""
    def leave(workspace: Path) -> None:
        (workspace / "dropout.py").write_text(task.REFERENCE_IMPLEMENTATION)
        (workspace / "test_dropout.py").write_text("print('all passed')\n")
    assert rollout(taskset, leave).info["verdict"]["failure_mode"] == "test_file_modified"


def test_the_layer_does_not_run_in_the_runtime(taskset: Any, tmp_path: Path) -> None:
    """A submission that forges what it can reach gets 0; without its malice it would pass."""
    assert rollout(taskset, write(HOSTILE.source)).reward == 0.0
    assert rollout(taskset, write(HOSTILE.control)).reward == 1.0
    marker = tmp_path / "marker"
    malice = f"open({str(marker)!r}, 'w').close()\n"
    assert rollout(taskset, write(malice + task.REFERENCE_IMPLEMENTATION)).reward == 0.0
    assert not marker.exists()


# --- What is not the policy's fault ---------------------------------------------------------------


def test_not_graded_is_an_error_and_no_reward(
    taskset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GradingError comes out of the rollout."""
    def refuse(*_: object) -> None:
        raise task.GradingError("expected memory, got none")

    monkeypatch.setattr(task.Grader, "grade_solution", refuse)
    with pytest.raises(task.GradingError, match="expected memory"):
        rollout(taskset, write(task.REFERENCE_IMPLEMENTATION))


def test_a_lost_runtime_is_an_error_and_no_reward(
    taskset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A box that answers nothing any more says nothing about the submission."""
    runtimes = pytest.importorskip("verifiers.v1.runtimes")

    def lose(_: Path) -> None:
        async def refuse(*_: object) -> None:
            raise vf.SandboxError("connection lost")
        monkeypatch.setattr(runtimes.SubprocessRuntime, "run", refuse)

    with pytest.raises(RuntimeError, match="the runtime is gone"):
        rollout(taskset, lose)


def test_a_scoring_without_verdict_gives_no_reward(taskset: Any) -> None:
    """A finalize that ran out of time leaves no number behind."""
    [one] = taskset.load()
    trace = new_trace(one)
    with pytest.raises(vf.TaskError):
        asyncio.run(one.score(trace))
    assert trace.rewards["solved"] is None


def test_a_runtime_without_numpy_is_refused(
    taskset: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The sentence says what to do; a subprocess runtime installs nothing on the host."""
    (tmp_path / "python").write_text("#!/bin/sh\necho \"$@\" >> \"$0.log\"; exit 1\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(RuntimeError, match="expected `python` with NumPy in the runtime"):
        rollout(taskset, write(task.REFERENCE_IMPLEMENTATION))
    assert (tmp_path / "python.log").read_text() == "-c import numpy\n"


def test_a_box_without_numpy_gets_it(
    taskset: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In a runtime of its own, the task installs what the default images lack."""
    import variance_dropout.taskset as module

    (tmp_path / "python").write_text("#!/bin/sh\necho \"$@\" >> \"$0.log\"; test $1 = -m\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    class Box:
        type = "docker"

        async def run(self, argv: list[str], _: dict[str, str]) -> Any:
            done = subprocess.run(argv, capture_output=True, text=True)
            return vf.ProgramResult(done.returncode, done.stdout, done.stderr)

    asyncio.run(module._require_numpy(Box()))
    calls = (tmp_path / "python.log").read_text().splitlines()
    assert calls == ["-c import numpy", "-m pip install -q --root-user-action=ignore numpy"]
