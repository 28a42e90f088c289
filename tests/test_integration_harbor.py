"""The Harbor task directory: it is the task, and its reward cannot be forged, in either mode.

Two things run here: Harbor's own command line, in the environment of harbor_environment.py, and the
exported tests/test.sh alone in a box of that environment, which is faster.
"""

from __future__ import annotations

import functools
import json
import os
import queue
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from conftest import ROOT, Attempt, attempts

import variance_dropout_task as task

if TYPE_CHECKING:
    from harbor_environment import Box

EXPORTER = ROOT / "integrations" / "export_harbor.py"
NO_HARBOR = "Harbor is not installed: see integrations/requirements/harbor.txt"

SEPARATE = """\
environment_mode = "separate"

[verifier.environment]
network_mode = "no-network"
cpus = 1
memory_mb = 4096
"""

# Leaves a process behind that turns each reward of 0 into 1 (harbor#1779). It maps the file: that
# works under a limit on the size of files, too.
FORGER = """\
import mmap, os, time

def forge():
    os.setsid()
    if os.fork():
        os._exit(0)
    os.closerange(0, 100)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            with open("/logs/verifier/reward.json", "r+b") as file:
                with mmap.mmap(file.fileno(), 0) as text:
                    text[:] = text[:].replace(b"0", b"1")
        except (OSError, ValueError):
            pass
        time.sleep(0.01)
    os._exit(0)

try:
    if os.fork() == 0:
        forge()
except OSError:
    pass

"""
FORGERY = FORGER + task.BUGGY_IMPLEMENTATION

# A verifier as many are: it runs what it judges beside the reward file.
FORGEABLE = """\
#!/bin/bash
cd /app && python3 -c 'import dropout'
echo '{"reward": 0}' > /logs/verifier/reward.json
sleep 1
"""


def run_exporter(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXPORTER), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{path} holds no {old!r}"
    path.write_text(text.replace(old, new))


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The task directory, which tests copy before they change it."""
    parent = tmp_path_factory.mktemp("harbor")
    done = run_exporter("task", cwd=parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert "harbor run -p task -a oracle" in done.stdout
    return parent / "task"


# --- The export -----------------------------------------------------------------------------------


def test_the_export_is_the_task_of_this_very_file_system(exported: Path) -> None:
    """Prompt, starting files, reference and grader are those of the core, byte for byte."""
    assert (exported / "instruction.md").read_text().startswith(task.TASK_PROMPT)
    for path, text in {
        "environment/dropout.py": task.BUGGY_IMPLEMENTATION,
        "environment/test_dropout.py": task.TEST_SCRIPT,
        "solution/dropout.py": task.REFERENCE_IMPLEMENTATION,
        "tests/variance_dropout_task.py": Path(task.__file__).read_text(),
    }.items():
        assert (exported / path).read_text() == text, path


def test_the_agent_sees_nothing_of_the_answer(exported: Path) -> None:
    """The image that the agent works in is made of the starting files alone."""
    files = sorted(path.name for path in (exported / "environment").iterdir())
    assert files == ["Dockerfile", "dropout.py", "test_dropout.py"]
    visible = [exported / "instruction.md", *(exported / "environment").iterdir()]
    assert not any("sqrt(keep" in path.read_text() for path in visible)
    assert "sqrt(keep" in (exported / "solution" / "dropout.py").read_text()


def test_versions_are_pinned_and_nothing_is_fetched_to_grade(exported: Path) -> None:
    """Both images name exact versions; the verifier installs when it is built, not when it runs."""
    for folder in ("environment", "tests"):
        text = (exported / folder / "Dockerfile").read_text()
        assert re.search(r"^FROM python:\d+\.\d+\.\d+-\S+$", text, re.M)
        assert re.search(r"\bnumpy==\d+\.\d+\.\d+$", text, re.M)
    fetches = re.compile(r"\b(pip|uvx?|apt|apt-get|curl|wget)\b")
    assert fetches.search((exported / "tests" / "Dockerfile").read_text())
    for name in ("test.sh", "grade.py"):
        assert not fetches.search((exported / "tests" / name).read_text())


def test_a_directory_that_holds_something_is_refused(tmp_path: Path) -> None:
    """One sentence, exit status 2, and nothing is touched; an empty directory is taken."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "work").write_text("mine")
    done = run_exporter("full", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: full: expected a new or an empty directory")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["work"]
    (tmp_path / "empty").mkdir()
    assert run_exporter("empty", cwd=tmp_path).returncode == 0
    assert (tmp_path / "empty" / "task.toml").is_file()


# --- Harbor's models ------------------------------------------------------------------------------


def test_harbor_reads_it(exported: Path, tmp_path: Path) -> None:
    """Harbor's own model takes the directory, and refuses it where it is broken."""
    models = pytest.importorskip("harbor.models.task.task", reason=NO_HARBOR)
    verifier = models.Task(exported).config.verifier
    assert models.Task(exported).config.schema_version == "1.4"
    assert verifier.environment_mode.value == "separate"
    assert verifier.environment.network_mode.value == "no-network"
    assert models.Task.is_valid_dir(exported)
    copy = Path(shutil.copytree(exported, tmp_path / "copy"))
    (copy / "instruction.md").unlink()
    assert not models.Task.is_valid_dir(copy)
    edit(copy / "task.toml", '"separate"', '"apart"')
    with pytest.raises(ValueError, match="environment_mode"):
        models.Task(copy)


def test_every_setting_is_one_that_harbor_knows(exported: Path) -> None:
    """No key of task.toml is ignored as unknown or warned about as deprecated."""
    models = pytest.importorskip("harbor.models.task.task", reason=NO_HARBOR)
    tomllib = pytest.importorskip("tomllib")

    def keys(table: Any, prefix: str = "") -> Iterator[str]:
        for key, value in table.items():
            yield prefix + key
            if isinstance(value, dict):
                yield from keys(value, f"{prefix}{key}.")

    written = set(keys(tomllib.loads((exported / "task.toml").read_text())))
    assert written <= set(keys(models.Task(exported).config.model_dump()))


# --- Harbor's command line ------------------------------------------------------------------------


class Case(NamedTuple):
    """A trial: what the agent does (solve.sh), what else differs, and the reward that is right.

    reward: None for no reward at all. submission: what solve.sh copies to /app/dropout.py.
    """

    reward: int | None
    shared: bool = False
    agent: str | None = None
    submission: str = task.REFERENCE_IMPLEMENTATION
    tests: dict[str, str] = {}  # noqa: RUF012 - never changed


PLANTED = "mkdir -p /logs/verifier; echo '{\"reward\": 1}' | tee /logs/verifier/reward.json"
NO_GRADER = {"variance_dropout_task.py": "raise MemoryError\n"}
CASES = {
    "oracle": Case(1),
    "oracle_shared": Case(1, shared=True),
    "double_fork": Case(0, submission=FORGERY),
    "double_fork_shared": Case(0, submission=FORGERY, shared=True),
    "double_fork_where_the_verifier_is_forgeable": Case(
        1, submission=FORGERY, tests={"test.sh": FORGEABLE}
    ),
    "planted_reward": Case(0, agent=PLANTED),
    "planted_reward_shared": Case(0, agent=PLANTED, shared=True),
    "no_file": Case(0, agent="rm /app/dropout.py"),
    "no_workspace": Case(0, agent="cd /; rm -r /app"),
    "a_directory": Case(0, agent="rm /app/dropout.py; mkdir /app/dropout.py"),
    "no_python": Case(0, submission="This is the answer."),
    "visible_test_changed": Case(0, agent="cp /solution/* /app; echo >> /app/test_dropout.py"),
    "no_grader": Case(None, tests=NO_GRADER),
    "no_grader_planted_reward_shared": Case(None, agent=PLANTED, shared=True, tests=NO_GRADER),
}


def write_case(exported: Path, directory: Path, case: Case) -> None:
    shutil.copytree(exported, directory)
    (directory / "solution" / "dropout.py").write_text(case.submission)
    if case.agent is not None:
        (directory / "solution" / "solve.sh").write_text(f"#!/bin/bash\n{case.agent}\n")
    for name, text in case.tests.items():
        (directory / "tests" / name).write_text(text)
    if case.shared:
        edit(directory / "task.toml", SEPARATE, 'environment_mode = "shared"\n')


def harbor_run(path: Path, agent: str, jobs: Path) -> dict[str, Any]:
    """Run `harbor run` on a task, or on a directory of tasks; returns the trials by directory."""
    need_box()
    # Offline: without these it reports its use, and asks the network for the prices of models.
    settings = {"HARBOR_TELEMETRY": "0", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    settings["HOME"] = str(jobs.parent)  # it keeps notes in ~/.cache
    done = subprocess.run(
        [sys.executable, "-c", "from harbor.cli.main import app; app()", "run", "--quiet", "--yes",
         "--path", str(path), "--agent", agent, "--n-concurrent", "2", "--jobs-dir", str(jobs),
         "--job-name", agent, "--env", "harbor_environment:LocalEnvironment"],
        capture_output=True, text=True, check=False,
        env={**os.environ, **settings, "PYTHONPATH": str(ROOT / "tests")},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    trials = [json.loads(file.read_text()) for file in (jobs / agent).glob("*/result.json")]
    return {Path(trial["task_id"]["path"]).name: trial for trial in trials}


@functools.cache
def need_box() -> None:
    """Skip where Harbor or bubblewrap is missing."""
    pytest.importorskip("harbor", reason=NO_HARBOR)
    if task.available_sandbox() != "bubblewrap" or not shutil.which("nsenter"):
        pytest.skip("bubblewrap is not usable here, or nsenter is missing")
    # A box cannot write where NumPy is: without bytecode it would compile NumPy at each grade.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", "import numpy.random"], env=environment, check=True)


@pytest.fixture(scope="session")
def trials(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All cases in one job."""
    directory = tmp_path_factory.mktemp("cases")
    for name, case in CASES.items():
        write_case(exported, directory / "tasks" / name, case)
    return harbor_run(directory / "tasks", "oracle", directory / "jobs")


@pytest.mark.parametrize("name", CASES)
def test_trial(name: str, trials: dict[str, Any]) -> None:
    """Harbor's reward is the right one; what could not be graded has none, and is an exception."""
    trial, case = trials[name], CASES[name]
    assert trial["verifier_environment_mode"] == ("shared" if case.shared else "separate")
    if case.reward is None:
        assert trial["verifier_result"] is None
        assert trial["exception_info"]["exception_type"] == "RewardFileNotFoundError"
    else:
        assert trial["exception_info"] is None
        assert trial["verifier_result"]["rewards"] == {"reward": case.reward}


def test_doing_nothing_is_worth_nothing(exported: Path, tmp_path: Path) -> None:
    """The agent nop has reward 0, and the reasons are beside it."""
    trial = harbor_run(exported, "nop", tmp_path)["task"]
    assert trial["exception_info"] is None
    assert trial["verifier_result"]["rewards"] == {"reward": 0}
    (details,) = tmp_path.glob("nop/*/verifier/reward-details.json")
    verdict = json.loads(details.read_text())
    assert set(verdict) == set(task.Verdict.__annotations__)
    assert verdict["failure_mode"] == "mean_preserving_scaling_unchanged"


# --- The verifier alone ---------------------------------------------------------------------------


class Graded(NamedTuple):
    """What tests/test.sh left: reward None where there is no reward.json."""

    reward: int | None
    status: int
    output: str


def furnish(box: Box, exported: Path) -> Box:
    box.put(exported / "environment", "/app")
    box.put(exported / "tests", "/tests")
    box.run("mkdir -p /logs/verifier")
    return box


def grade(
    box: Box, source: str | bytes | None = None, script: str = "/tests/test.sh"
) -> Graded:
    """Run the verifier in a box; on `source`, or on what /app holds."""
    if source is not None:
        data = source.encode() if isinstance(source, str) else source
        (box.root / "app" / "dropout.py").write_bytes(data)
    done = box.run(script, cwd="/app", timeout=120)
    file = box.root / "logs" / "verifier" / "reward.json"
    content = json.loads(file.read_text()) if file.is_file() else {"reward": None}
    assert set(content) == {"reward"}
    return Graded(content["reward"], done.return_code, f"{done.stdout}{done.stderr}")


@pytest.fixture
def new_box(exported: Path) -> Iterator[Callable[..., Box]]:
    """Makes boxes that hold the verifier and the starting files."""
    need_box()
    from harbor_environment import Box

    made: list[Box] = []

    def make(**settings: Any) -> Box:
        made.append(Box(**settings))
        return furnish(made[-1], exported)

    yield make
    for box in made:
        box.close()


@pytest.mark.parametrize("bwrap", [True, False])
def test_every_hostile_attempt_is_worth_nothing(
    bwrap: bool, new_box: Callable[..., Box]
) -> None:
    """Each hostile file has reward 0, with bubblewrap; those that forge also in a plain process.

    The reference, graded in the same boxes when they are done, still has 1. (Each attempt passes
    without its malice: test_attempts.py.)
    """
    boxes: queue.Queue[Box] = queue.Queue()
    for _ in range(len(os.sched_getaffinity(0))):
        boxes.put(new_box(bwrap=bwrap))
    patient = Path(task.__file__).read_text()
    hasty = patient.replace("\nTIME_LIMIT_S = 10.0\n", "\nTIME_LIMIT_S = 2.0\n")
    assert hasty != patient

    def judge(attempt: Attempt) -> tuple[str, Graded]:
        box = boxes.get()
        try:
            text = hasty if "timeout" in attempt.expected else patient
            (box.root / "tests" / "variance_dropout_task.py").write_text(text)
            return attempt.path.stem, grade(box, attempt.source)
        finally:
            boxes.put(box)

    def control(_: int) -> Graded:
        box = boxes.get()
        try:
            (box.root / "tests" / "variance_dropout_task.py").write_text(patient)
            return grade(box, task.REFERENCE_IMPLEMENTATION)
        finally:
            boxes.put(box)

    chosen = [attempt for attempt in attempts("hostile") if bwrap or forges(attempt)]
    assert len(chosen) >= 30
    with ThreadPoolExecutor(boxes.qsize()) as pool:
        judged = list(pool.map(judge, chosen))
        controls = list(pool.map(control, range(len(chosen) // 10)))
    wrong = {name: graded for name, graded in judged if graded[:2] != (0, 0)}
    assert not wrong
    assert {graded[:2] for graded in controls} == {(1, 0)}


def forges(attempt: Attempt) -> bool:
    """Whether it reaches for the verdict, for files or for other processes, as its name says."""
    words = "verdict|written|rewritten|rewound|removed|replaced|daemon|process|parent|descriptor"
    return re.search(words, attempt.path.stem) is not None


# --- What lies in wait in a shared box ------------------------------------------------------------

AT_EXIT = """\
import atexit
atexit.register(lambda: open("/logs/verifier/reward.json", "w").write('{"reward": 1}'))
"""
SITE = "$(python3 -c 'import sysconfig; print(sysconfig.get_path(\"platlib\"))')"
PLANT_BYTECODE = """\
import py_compile, sys
name = f"/tests/__pycache__/variance_dropout_task.{sys.implementation.cache_tag}.pyc"
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
py_compile.compile("/tmp/hook.py", name, doraise=True, invalidation_mode=mode)
"""
COMMAND = """#!/bin/sh
/usr/bin/chmod "$@"
echo '{"reward": 1}' > /logs/verifier/reward.json
"""
TRAPS = {  # what an agent did as root; the guard, and the verifier without it
    "sitecustomize": (f"cp /tmp/hook.py {SITE}/sitecustomize.py", "test.sh", "-I -S -B", "-I -B"),
    "pth_file": (
        f"cp /tmp/hook.py {SITE}/hook.py; echo import hook > {SITE}/hook.pth",
        "test.sh", "-I -S -B", "-I -B",
    ),
    "module_in_tests": (
        "cp /tmp/hook.py /tests/queue.py", "grade.py", "sys.path += [", "sys.path[:0] = [",
    ),
    "module_in_the_working_directory": (
        "cp /tmp/hook.py /app/json.py; cp /tmp/hook.py /app/sitecustomize.py",
        "test.sh", "env -i PATH=\"$PATH\" /usr/local/bin/python3 -I -S",
        "PYTHONPATH=/app /usr/local/bin/python3",
    ),
    "bytecode_in_tests": ("python3 /tmp/plant.py", "test.sh", " /tests/__pycache__", ""),
    "command": (
        "cp /tmp/command /usr/local/bin/chmod; chmod +x /usr/local/bin/chmod",
        "test.sh", "PATH=/usr/sbin:", "PATH=/usr/local/bin:/usr/sbin:",
    ),
    "reward_directory": ("mkdir /logs/verifier/.reward.json", "test.sh", "/logs/verifier/.rew", ""),
}


@pytest.mark.parametrize("name", TRAPS)
def test_trap(name: str, new_box: Callable[..., Box]) -> None:
    """What an agent planted for the grader changes nothing; without the guard, it does."""
    plant, file, guard, without = TRAPS[name]
    box = new_box()
    for path, text in {"hook.py": AT_EXIT, "plant.py": PLANT_BYTECODE, "command": COMMAND}.items():
        (box.root / "tmp" / path).write_text(text)
    planted = box.run(plant)
    assert planted.return_code == 0, planted.stderr
    assert grade(box)[:2] == (0, 0)
    assert box.run(plant).return_code == 0
    edit(box.root / "tests" / file, guard, without)
    assert grade(box).reward == (None if name == "reward_directory" else 1)


def test_a_planted_reward_does_not_outlive_a_grader_that_fails(new_box: Callable[..., Box]) -> None:
    """Where nothing could be graded there is no reward, not even one that was there before."""
    box = new_box()
    (box.root / "tests" / "grade.py").write_text("raise SystemExit(3)\n")
    for name in ("reward.json", "reward.txt", "reward-details.json"):
        (box.root / "logs" / "verifier" / name).write_text('{"reward": 1}')
    graded = grade(box)
    assert (graded.reward, graded.status) == (None, 3)
    assert list((box.root / "logs" / "verifier").iterdir()) == []


# --- Where there is no sandbox --------------------------------------------------------------------

# Runs a command as on a kernel without Landlock, or without system-call filters (as in gVisor).
OLD_KERNEL = """\
import ctypes, os, platform, struct, sys

prctl = {"x86_64": 157, "aarch64": 167}[platform.machine()]
code = [(0x20, 0, 0, 0)]
if "landlock" in sys.argv[1]:
    code += [(0x15, 0, 1, 444), (0x06, 0, 0, 0x50000 | 38)]
if "seccomp" in sys.argv[1]:
    code += [(0x15, 0, 3, prctl), (0x20, 0, 0, 16), (0x15, 0, 1, 22), (0x06, 0, 0, 0x50000 | 22)]
code.append((0x06, 0, 0, 0x7FFF0000))
text = b"".join(struct.pack("=HBBI", *one) for one in code)
buffer = ctypes.create_string_buffer(text, len(text))
program = struct.pack("HxxxxxxP", len(code), ctypes.addressof(buffer))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0
os.execv(sys.argv[2], sys.argv[2:])
"""


def on_old_kernel(box: Box, missing: str, source: str) -> Graded:
    (box.root / "tmp" / "old.py").write_text(OLD_KERNEL)
    return grade(box, source, f"/usr/local/bin/python3 /tmp/old.py {missing} /tests/test.sh")


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("landlock", "the tests can be read"),
        ("seccomp", "the grader can be killed"),
        ("landlock,seccomp", "the tests can be read"),
    ],
)
def test_without_a_sandbox_there_is_no_reward(
    missing: str, said: str, new_box: Callable[..., Box]
) -> None:
    """A submission that could forge is not run; bubblewrap, or both protections, and it is."""
    graded = on_old_kernel(new_box(bwrap=False), missing, task.REFERENCE_IMPLEMENTATION)
    assert graded.reward is None
    assert graded.status != 0
    assert "Not graded" in graded.output
    assert said in graded.output
    with_bubblewrap = on_old_kernel(new_box(), missing, task.REFERENCE_IMPLEMENTATION)
    assert with_bubblewrap[:2] == (1, 0), with_bubblewrap.output
    nothing_missing = on_old_kernel(new_box(bwrap=False), "-", task.REFERENCE_IMPLEMENTATION)
    assert nothing_missing[:2] == (1, 0), nothing_missing.output


def test_without_a_sandbox_the_reward_could_be_forged(new_box: Callable[..., Box]) -> None:
    """It is the rehearsal that prevents it: without it, the forger has reward 1 there."""
    box = new_box(bwrap=False)
    assert on_old_kernel(box, "landlock,seccomp", FORGERY).reward is None
    edit(box.root / "tests" / "grade.py", 'if not rehearsal["passed"]', "if False")
    edit(box.root / "tests" / "test.sh", "/tests/grade.py", "/tests/grade.py; sleep 1")
    assert on_old_kernel(box, "landlock,seccomp", FORGERY).reward == 1


# --- The environment of these tests ---------------------------------------------------------------


def test_a_link_in_a_box_leads_nowhere_outside(new_box: Callable[..., Box], tmp_path: Path) -> None:
    """What is copied in and out takes the box's view of a path; plain files come and go."""
    box = new_box()
    secret = tmp_path / "secret"
    secret.write_text("outside")
    box.run(f"mkdir -p /app/data; ln -s {tmp_path} /app/way; ln -s {secret} /app/link")
    with pytest.raises(FileNotFoundError):
        box.get("/app/link", tmp_path / "copy")
    with pytest.raises(RuntimeError):
        box.put(secret, "/app/way/secret-2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret"]
    box.put(secret, "/app/data/secret")
    box.get("/app/data", tmp_path / "back")
    assert (tmp_path / "back" / "secret").read_text() == "outside"


def test_the_box_of_the_verifier_has_no_network(new_box: Callable[..., Box]) -> None:
    """Nothing but loopback; a box that asks for the network has what the host has."""
    names = "ls /proc/self/net/dev_snmp6 2>/dev/null; tail -n +3 /proc/self/net/dev | cut -d: -f1"
    assert set((new_box().run(names).stdout or "").split()) == {"lo"}
    host = Path("/proc/self/net/dev").read_text().count(":")
    assert len((new_box(network=True).run("cat /proc/self/net/dev").stdout or "").split(":")) > host
