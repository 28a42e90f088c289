"""integrations/ray_grading.py: on a cluster of two nodes with one core each, which share no files.

The nodes are processes of this machine, each with a directory of its own; the driver is a node
without cores, so that a node may die.
"""

from __future__ import annotations

import compileall
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import ROOT, attempts

import variance_dropout_task as task

# Before Ray is imported: no token in the home directory, nothing sent, and the nodes use this very
# Python, also under `uv run`, which Ray would repeat for every process.
os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0",
               "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}

ray = pytest.importorskip("ray", reason="ray is not installed")
from ray.cluster_utils import Cluster  # noqa: E402

sys.path.insert(0, str(ROOT / "integrations"))
import ray_grading  # noqa: E402

# Ray leaves sockets and log files of the processes that it ends to the garbage collector, and
# warns of a setting of its own that will change.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*:FutureWarning:ray"),
]

# A dead node is noticed soon.
HEALTH = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500,
          "health_check_timeout_ms": 2000, "health_check_failure_threshold": 4}
ADAPTER = ROOT / "integrations/ray_grading.py"


class Nodes(NamedTuple):
    cluster: Cluster
    workers: list[Any]


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """A short path, since sockets have to fit into it."""
    path = Path(tempfile.mkdtemp(prefix="ray"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def nodes(directory: Path) -> Iterator[Nodes]:
    """A head without cores, two nodes with one each, and this process as the driver."""
    # Ray gives a node 30 s to start: too few for a fresh installation that compiles meanwhile.
    compileall.compile_dir(Path(ray.__file__).parent, quiet=2, workers=2)
    head = {"num_cpus": 0, "temp_dir": str(directory / "h"), "include_dashboard": False,
            "_system_config": HEALTH}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        workers = [cluster.add_node(num_cpus=1, temp_dir=str(directory / n)) for n in "ab"]
        cluster.wait_for_nodes()
        ray_grading.connect(cluster.address)
        yield Nodes(cluster, workers)
    finally:
        ray.shutdown()
        cluster.shutdown()


def graders(node: Any) -> list[int]:
    """The worker processes of a node that keep a warm grader: those with a child process."""
    [raylet] = node.all_processes["raylet"]
    return [pid for pid in children(raylet.process.pid)
            if b"ray::" in Path(f"/proc/{pid}/cmdline").read_bytes() and children(pid)]


def children(pid: int) -> list[int]:
    try:
        threads = list(Path(f"/proc/{pid}/task").glob("*/children"))
        return [int(child) for thread in threads for child in thread.read_text().split()]
    except OSError:
        return []


def sources(count: int) -> list[bytes]:
    """Different submissions, right and wrong by turns."""
    both = [task.REFERENCE_IMPLEMENTATION, task.BUGGY_IMPLEMENTATION]
    return [f"{both[i % 2]}# {i}\n".encode() for i in range(count)]


def timeless(verdicts: list[task.Verdict]) -> list[dict[str, Any]]:
    return [{k: v for k, v in verdict.items() if k != "duration_s"} for verdict in verdicts]


def test_the_verdicts_are_those_of_local_grading(nodes: Nodes) -> None:
    """Text and bytes, right, wrong and hostile: the same verdicts, in order, from both nodes."""
    texts = ["", "def broken(:", "x\ud800", b"\xff\x00", "#" * (300 << 10), *sources(20)]
    texts += [attempt.source for attempt in attempts("wrong")[:10] + attempts("honest")[:5]]
    texts += [a.source for a in attempts("hostile") if a.path.name.startswith("builtin_")]
    remote = list(ray_grading.grade_map(texts))
    with task.Grader() as grader:
        assert timeless(remote) == timeless(list(grader.map(texts)))
    assert {verdict["passed"] for verdict in remote} == {True, False}
    assert all(graders(node) for node in nodes.workers)


def test_a_grader_has_one_core_and_one_thread(nodes: Nodes) -> None:
    """A node with one core keeps one grader, in a process with one BLAS thread."""
    list(ray_grading.grade_map(sources(20)))
    for node in nodes.workers:
        [pid] = graders(node)
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert {b"OMP_NUM_THREADS=1", b"OPENBLAS_NUM_THREADS=1"} <= set(environment)


def test_endless_iterables(nodes: Nodes) -> None:
    """No more is read than is in flight, and closing the iterator ends it."""
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        for read in itertools.count(1):  # noqa: B007
            yield sources(1)[0]

    verdicts = ray_grading.grade_map(endless(), in_flight=3)
    assert read == 0
    assert next(verdicts)["passed"]
    assert read == 3
    next(verdicts)
    assert read == 4
    verdicts.close()
    assert read == 4
    assert len(list(ray_grading.grade_map(sources(2)))) == 2  # and the cluster is free again


def test_a_process_that_dies_costs_nothing_but_time(nodes: Nodes) -> None:
    """Ray grades again what the process had."""
    expected = [float(i % 2 == 0) for i in range(40)]
    verdicts = ray_grading.grade_map(sources(40))
    rewards = [next(verdicts)["reward"] for _ in range(3)]
    [victim] = graders(nodes.workers[0])
    os.kill(victim, signal.SIGKILL)
    rewards += [verdict["reward"] for verdict in verdicts]
    assert rewards == expected


def test_a_node_that_dies_costs_nothing_but_time(nodes: Nodes, directory: Path) -> None:
    """The other node does its work; a node that comes later takes a share."""
    third = nodes.cluster.add_node(num_cpus=1, temp_dir=str(directory / "c"))
    nodes.cluster.wait_for_nodes()
    verdicts = ray_grading.grade_map(sources(3000), in_flight=60)
    rewards = [next(verdicts)["reward"]]
    while not graders(third):
        rewards.append(next(verdicts)["reward"])
    nodes.cluster.remove_node(third, allow_graceful=False)
    rewards += [next(verdicts)["reward"] for _ in range(90)]
    verdicts.close()
    assert rewards == [float(i % 2 == 0) for i in range(len(rewards))]


def test_wrong_arguments() -> None:
    """They are refused before anything is read."""
    with pytest.raises(ValueError, match="in_flight"):
        next(ray_grading.grade_map([], in_flight=0))


# --- Drivers of their own -------------------------------------------------------------------------


def drive(nodes: Nodes, code: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a driver from a copy of the two modules, which is all that it has."""
    (directory / "copy/integrations").mkdir(parents=True)
    shutil.copy(task.__file__, directory / "copy")
    shutil.copy(ADAPTER, directory / "copy/integrations")
    program = f"""
import shutil, sys
sys.path.insert(0, {str(directory / "copy/integrations")!r})
import ray_grading
from ray_grading import core
address, copy = {nodes.cluster.address!r}, {str(directory / "copy")!r}
{code}
"""
    command = [sys.executable, "-I", "-c", program]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=120)


def test_the_nodes_need_nothing_of_the_drivers_disk(nodes: Nodes, tmp_path: Path) -> None:
    """Both modules travel with the job: the driver's copies are gone before the first grade."""
    code = """
sources = [core.REFERENCE_IMPLEMENTATION, core.BUGGY_IMPLEMENTATION] * 5
ray_grading.connect(address)
shutil.rmtree(copy)
print([verdict["reward"] for verdict in ray_grading.grade_map(sources)])
"""
    done = drive(nodes, code, tmp_path)
    # Ray writes there, too: of a node that another test has killed.
    assert done.stdout.splitlines()[-1:] == [str([1.0, 0.0] * 5)], done.stdout + done.stderr


BROKEN_BWRAP = """#!/bin/sh
echo >> {directory}/log
[ $(wc -l < {directory}/log) -gt {failures} ] && exec {bwrap} "$@"
echo broken >&2
exit 1
"""


@pytest.mark.parametrize("failures", [2, 999])
def test_grading_errors_are_retried_then_raised(
    failures: int, nodes: Nodes, tmp_path: Path
) -> None:
    """A node that cannot grade is asked three times more; then it is an error, never a 0.

    What Ray says of the retries does not get among the verdicts.
    """
    if task.available_sandbox() != "bubblewrap":
        pytest.skip("bubblewrap is not usable here")
    bwrap, layer = tmp_path / "bwrap", tmp_path / "layer.py"
    bwrap.write_text(BROKEN_BWRAP.format(
        directory=tmp_path, failures=failures, bwrap=shutil.which("bwrap")))
    bwrap.chmod(0o755)
    layer.write_text(task.REFERENCE_IMPLEMENTATION)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    done = drive(nodes, f"""
ray_grading.RUNTIME_ENV["env_vars"]["PATH"] = {path!r}
sys.exit(ray_grading.main(["--address", address, "--sandbox", "bubblewrap", {str(layer)!r}]))
""", tmp_path)
    assert len((tmp_path / "log").read_text()) == min(failures + 1, 4)
    if failures == 2:
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["reward"] == 1.0
    else:
        assert (done.returncode, done.stdout) == (2, "")
        assert "\nnot graded: expected sandbox bubblewrap to start, got: broken" in done.stderr


def test_command_line(nodes: Nodes, tmp_path: Path) -> None:
    """Files, or lines of JSON; one verdict a line; a wrong line is a sentence and exit code 2."""
    def run(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ADAPTER), "--address", nodes.cluster.address, *arguments]
        return subprocess.run(command, cwd=tmp_path, input=given, capture_output=True, text=True,
                              timeout=120)

    for number, source in enumerate(sources(2)):
        (tmp_path / f"{number}.py").write_bytes(source)
    lines = "".join(json.dumps({"source": s.decode()}) + "\n" for s in sources(2))
    for done in (run("0.py", "1.py"), run(given=lines)):
        assert done.returncode == 0, done.stderr
        assert [json.loads(line)["reward"] for line in done.stdout.splitlines()] == [1.0, 0.0]
    done = run(given='{"source": 1\n')
    assert done.returncode == 2
    assert """not graded: line 1: expected {"source": "..."}, got '{"source": 1""" in done.stderr
    assert "Traceback" not in done.stderr
