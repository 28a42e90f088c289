"""Variance-Stabilized Dropout: an ML research engineering task, and the judge of its answers.

A workspace holds a NumPy dropout layer that scales survivors by 1/keep_prob. For zero-mean
activations that inflates the variance by 1/keep_prob in every layer. A model has to find that out,
derive the factor that preserves the variance, and repair `dropout.py`; `grade_solution` returns
the reward. Everything a model wrote is hostile, so the data flows one way:

    workspace -> bytes, read once -> untrusted process -> raw arrays -> pure checks -> verdict

The untrusted process returns arrays and never an opinion; the trusted side compares them with
inputs that it knows. The reference solution, the tolerances and the checks stay on this side.

The sections, in reading order (`grep '^# ---'` lists them):

    The task            the prompt, the starting files, the reference solution
    Grading             grade_solution, grade_source, Grader, grade_many, and the verdict
    The probe           the calls that a submission will meet, drawn from its SHA-256
    The evidence        what came back, as arrays and as figures by drop rate
    The checks          arrays -> findings; every tolerance with its reason
    The worker          the trusted side's handle on an untrusted process
    The child program   what runs on the untrusted side
    The sandbox         bubblewrap, the system-call filter, run_sandboxed
    The command line    demo, setup, grade, prompt
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import hashlib
import inspect
import io
import itertools
import json
import marshal
import math
import operator
import os
import platform
import queue
import random
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

try:
    import numpy as np
except ModuleNotFoundError as error:
    if __name__ != "__main__":
        raise
    print(f"error: {error}; run python -m pip install -r requirements.txt", file=sys.stderr)
    sys.exit(2)

__all__ = [
    "BUGGY_IMPLEMENTATION",
    "REFERENCE_IMPLEMENTATION",
    "TASK_PROMPT",
    "TEST_SCRIPT",
    "Check",
    "Execution",
    "Grader",
    "GradingError",
    "Verdict",
    "available_sandbox",
    "grade_many",
    "grade_solution",
    "grade_source",
    "run_sandboxed",
    "setup_task_files",
    "variance_by_depth",
]

# --- The task -------------------------------------------------------------------------------------

TASK_PROMPT = '''\
A dropout layer written in NumPy is used in a deep network whose activations have zero mean. The
network does not train: the variance of its activations changes from layer to layer, and it is
dropout that changes it. Find out why, derive what the layer should do instead, and repair it.

Your workspace holds two files:

- dropout.py        the layer; this is the file to repair, and the only one that is graded
- test_dropout.py   a script that checks a layer against the contract below (`python
                    test_dropout.py`); it must stay byte for byte as it is

The contract, all of which is graded:

1. dropout.py defines the class VarianceStabilizedDropout(dropout_rate=0.5). The constructor raises
   ValueError unless 0 <= dropout_rate < 1 (for nan, too). Attributes: dropout_rate, and training,
   which is True at first. Methods: train() and eval(), which switch training on and off.
2. layer(x) takes a float32 or float64 ndarray of any shape, empty and 0-d ones included, and
   returns a plain ndarray of the same shape and dtype (for a 0-d input, a NumPy scalar of that
   dtype is as good). It never modifies x, nor an array that it returned before.
3. In training, each unit is set to exactly 0 independently with probability dropout_rate. Every
   call of every layer draws a fresh mask: no two calls, and no two layers, share one.
4. In training, every unit that survives is multiplied by one positive factor, which depends on
   dropout_rate alone and never on the data.
5. In training, for zero-mean x, the variance of the output is within 10 % of the variance of the
   input, at dropout rates 0.3, 0.5 and 0.7 and at every other rate in [0, 1).
6. After eval(), the output equals the input exactly, at every rate. train() switches dropout on
   again.
7. At rate 0 the output equals the input exactly in training, too.
8. The code computes the factor with a square root or power function (np.sqrt, math.sqrt, **,
   np.power, pow, ... under whatever name it is imported). A mention in a comment or in a string
   does not count.
9. dropout.py uses NumPy and the standard library only and has at most 256 KiB.

It is graded by running it on inputs that you do not see: many rates, shapes and distributions, in
a process without network, which cannot write files, nor start processes or threads, with 10 seconds
and 2 GiB of memory in all.
'''

BUGGY_IMPLEMENTATION = '''\
"""Dropout for networks written in NumPy."""

import numpy as np


class VarianceStabilizedDropout:
    """Dropout that leaves the variance of zero-mean activations as it is.

    In training, each unit is set to zero with probability dropout_rate, and the units that
    survive are scaled. In evaluation the layer is the identity.
    """

    def __init__(self, dropout_rate=0.5):
        if not 0.0 <= dropout_rate < 1.0:
            raise ValueError(f"dropout_rate must be in [0, 1), got {dropout_rate!r}")
        self.dropout_rate = dropout_rate
        self.training = True

    def train(self):
        """Switch dropout on."""
        self.training = True

    def eval(self):
        """Switch dropout off."""
        self.training = False

    def __call__(self, x):
        """Apply dropout to a float array of any shape; returns an array of its shape and dtype."""
        if not self.training or self.dropout_rate == 0.0:
            return x
        keep_prob = 1.0 - self.dropout_rate
        mask = np.random.random_sample(x.shape) < keep_prob
        scale = 1.0 / keep_prob
        return (x * mask * scale).astype(x.dtype)
'''

# The bug is one expression, and the repair of that expression alone passes.
REFERENCE_IMPLEMENTATION = BUGGY_IMPLEMENTATION.replace(
    "1.0 / keep_prob", "1.0 / np.sqrt(keep_prob)"
)

TEST_SCRIPT = '''\
"""Checks dropout.py against its contract. Run `python test_dropout.py`, or use pytest."""

import sys

import numpy as np

from dropout import VarianceStabilizedDropout

RATES = (0.3, 0.5, 0.7, 0.15)
rng = np.random.default_rng()


def test_variance_is_preserved():
    x = rng.standard_normal(400_000)
    for rate in RATES:
        ratio = np.var(VarianceStabilizedDropout(rate)(x)) / np.var(x)
        assert 0.9 < ratio < 1.1, f"rate {rate}: Var(output) / Var(input) is {ratio:.3f}, not 1"


def test_units_are_dropped_at_the_rate():
    x = np.ones((100, 1000))
    for rate in RATES:
        dropped = np.mean(VarianceStabilizedDropout(rate)(x) == 0)
        assert abs(dropped - rate) < 0.02, f"rate {rate}: {dropped:.3f} of the units are zero"


def test_survivors_share_one_factor():
    for rate in RATES:
        layer = VarianceStabilizedDropout(rate)
        x, z = rng.standard_normal(1000), rng.uniform(1, 2, 1000)
        y, w = layer(x), layer(z)
        factors = np.concatenate([(y / x)[y != 0], (w / z)[w != 0]])
        assert np.allclose(factors, factors[0]), f"rate {rate}: factors differ: {factors[:5]}"
        assert factors[0] > 0, f"rate {rate}: the factor is {factors[0]:.3f}, not positive"


def test_mask_is_fresh_and_independent():
    x = np.ones((200, 200))
    layer = VarianceStabilizedDropout(0.5)
    a, b, c = layer(x) == 0, layer(x) == 0, VarianceStabilizedDropout(0.5)(x) == 0
    pairs = {
        "two calls": (a, b), "two layers": (a, c), "rows": (a[1:], a[:-1]),
        "columns": (a[:, 1:], a[:, :-1]),
    }
    for name, (one, other) in pairs.items():
        agree = np.mean(one == other)
        assert 0.45 < agree < 0.55, f"masks of {name} agree in {agree:.0%} of the units, not 50%"


def test_eval_is_the_identity():
    x = rng.standard_normal(10_000)
    for rate in (0.0, *RATES):
        layer = VarianceStabilizedDropout(rate)
        layer.eval()
        assert np.array_equal(layer(x), x), f"rate {rate}: the output of eval mode is not the input"
        layer.train()
        assert rate == 0 or np.any(layer(x) == 0), f"rate {rate}: train() does not switch it on"


def test_rate_zero_is_the_identity():
    x = rng.standard_normal(10_000)
    assert np.array_equal(VarianceStabilizedDropout(0.0)(x), x), "rate 0 changes the input"


def test_shape_dtype_and_input_are_kept():
    for dtype in (np.float32, np.float64):
        for shape in ((), (0,), (1,), (3, 0, 2), (2, 3, 4)):
            x = np.ones(shape, dtype)
            y = VarianceStabilizedDropout(0.5)(x)
            assert y.shape == shape, f"shape {shape} became {y.shape}"
            assert y.dtype == dtype, f"{np.dtype(dtype)} became {y.dtype} for shape {shape}"
            assert np.all(x == 1), f"the input of shape {shape} was modified"


def test_constructor():
    layer = VarianceStabilizedDropout()
    assert layer.dropout_rate == 0.5 and layer.training, "defaults: rate 0.5, training"
    assert VarianceStabilizedDropout(dropout_rate=0.2).dropout_rate == 0.2
    for rate in (-0.1, 1.0, 1.5, float("nan")):
        try:
            VarianceStabilizedDropout(rate)
        except ValueError:
            continue
        raise AssertionError(f"dropout_rate {rate} raises no ValueError")


def main():
    failures = 0
    for name, test in list(globals().items()):
        if not name.startswith("test_"):
            continue
        try:
            test()
            print(f"PASS  {name}")
        except Exception as error:
            failures += 1
            print(f"FAIL  {name}: {type(error).__name__}: {error}")
    print(f"{failures} failed" if failures else "all passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
'''

SOLUTION_FILE = "dropout.py"
TEST_FILE = "test_dropout.py"


def setup_task_files(workspace: str | Path) -> Path:
    """Write the two starting files of the task into `workspace`; returns it as a Path.

    The directory is created where missing; files of these names in it are replaced. Raises
    OSError when it cannot be written, ValueError for an empty path.
    """
    if not str(workspace):
        raise ValueError("workspace: expected a path, got an empty string")
    directory = Path(workspace)
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in ((SOLUTION_FILE, BUGGY_IMPLEMENTATION), (TEST_FILE, TEST_SCRIPT)):
        # Written aside and renamed: a link that an earlier attempt left is replaced, not followed.
        descriptor, scratch = tempfile.mkstemp(dir=directory)
        with open(descriptor, "wb") as file:
            file.write(text.encode())
            os.fchmod(descriptor, 0o644)
        os.replace(scratch, directory / name)
    return directory

# --- Grading --------------------------------------------------------------------------------------

TIME_LIMIT_S = 10.0
MEMORY_LIMIT_BYTES = 2 << 30
SOURCE_LIMIT_BYTES = 256 << 10


class GradingError(RuntimeError):
    """The submission could not be graded, for no fault of its own: this is never a reward of 0."""


class Check(TypedDict):
    """One row of a verdict: what was checked, whether it holds, and what was measured."""

    name: str
    passed: bool
    detail: str


class Verdict(TypedDict):
    """What grading returns; JSON-able.

    variance_errors: |Var(output)/Var(input) - 1| by dropout rate, for the rates where it could be
    measured; variance_error: the worst of them. failure_mode: a short name, None if passed.
    feedback is for the model: what was expected and what was measured, never the formula.
    output: the checks as text. duration_s: seconds; the only key that varies between two grades
    of one source.
    """

    passed: bool
    reward: float
    feedback: str
    checks: list[Check]
    variance_error: float | None
    variance_errors: dict[str, float]
    failure_mode: str | None
    output: str
    sandbox: str
    duration_s: float
    source_sha256: str


def grade_solution(
    workspace: str | Path, *, time_limit: float = TIME_LIMIT_S, sandbox: str = "auto"
) -> Verdict:
    """Grade `dropout.py` in `workspace`, and that `test_dropout.py` there is as it was.

    time_limit: seconds that the submission may run. sandbox: "auto" (bubblewrap where usable),
    "bubblewrap" or "process". Raises GradingError if it cannot be graded (no such workspace, no
    process can be started, bubblewrap asked for and not usable), ValueError for wrong arguments.
    """
    with Grader(workers=1, time_limit=time_limit, sandbox=sandbox) as grader:
        return grader.grade_solution(workspace)


def grade_source(
    source: str | bytes, *, time_limit: float = TIME_LIMIT_S, sandbox: str = "auto"
) -> Verdict:
    """Grade the text of a `dropout.py`; as grade_solution, without a workspace."""
    with Grader(workers=1, time_limit=time_limit, sandbox=sandbox) as grader:
        return grader.grade_source(source)


def grade_many(
    submissions: Iterable[str | bytes],
    workers: int | None = None,
    *,
    time_limit: float = TIME_LIMIT_S,
    sandbox: str = "auto",
) -> list[Verdict]:
    """Grade many sources at once; the verdicts come in the order of the submissions."""
    with Grader(workers, time_limit=time_limit, sandbox=sandbox) as grader:
        return list(grader.map(submissions))


class Grader:
    """Keeps sandboxed processes warm, so that a grade costs little more than its checks.

        with Grader() as grader:
            rewards = [verdict["reward"] for verdict in grader.map(sources)]

    workers: how many submissions are graded at once (default: the usable cores). Thread-safe:
    a call waits for a free worker; from an event loop, use `asyncio.to_thread`. A worker forks
    a process for every submission, ahead of it, and never sees one itself, so that no submission
    can reach another. Each of several workers belongs to a process of ours, which draws the probes
    and looks at the arrays: in one process, only one thread at a time would. If there are as many
    as cores, each keeps to one, so the machine should be theirs. Used after `fork`, the child
    process starts workers of its own.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        time_limit: float = TIME_LIMIT_S,
        sandbox: str = "auto",
    ) -> None:
        _check_arguments(time_limit, sandbox)
        if workers is not None and workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers!r}")
        self.workers = workers or len(_usable_cores())
        self.time_limit = time_limit
        self.sandbox = sandbox
        self._open()

    def _open(self) -> None:
        """Fill the pool; what is in it starts processes at its first use."""
        self._idle: queue.LifoQueue[_Bench | _Judge] = queue.LifoQueue()
        settings, cores = (self.time_limit, self.sandbox), list[int | None](_usable_cores())
        if len(cores) != self.workers:
            cores = [None] * self.workers
        # Processes that take turns on one core find their data in its cache: a tenth of a grade.
        # In any order, as several graders that are seldom asked should not share the first core.
        random.SystemRandom().shuffle(cores)
        for core in cores:
            self._idle.put(_Judge(*settings, core) if self.workers > 1 else _Bench(*settings))
        # What is at work, and the event that says that nobody waits for it any more.
        self._busy: dict[_Bench | _Judge, threading.Event] = {}
        self._lock = threading.Lock()
        self._abandoned = threading.Event()
        self._owner = os.getpid()  # the last: until then no thread of a forked process goes on

    def grade_source(self, source: str | bytes) -> Verdict:
        """Grade the text of a `dropout.py`."""
        return self._use_free("grade_source", _source_bytes(source))

    def grade_solution(self, workspace: str | Path) -> Verdict:
        """Grade `dropout.py` in `workspace`, and that `test_dropout.py` there is as it was."""
        return self._use_free("grade_solution", _workspace(workspace).absolute())

    def map(self, submissions: Iterable[str | bytes]) -> Iterator[Verdict]:
        """Yield the verdicts of sources in order, grading `workers` at once.

        Takes endless iterables: it reads at most two submissions a worker ahead. Left early, it
        ends what is still being graded.
        """
        if isinstance(submissions, (str, bytes)):
            raise TypeError("submissions must be several sources, got one; see grade_source")
        return self._map(submissions)

    def _map(self, submissions: Iterable[str | bytes]) -> Iterator[Verdict]:
        abandoned = threading.Event()

        def grade(source: str | bytes) -> Verdict:
            return self._use_free("grade_source", _source_bytes(source), abandoned)

        with ThreadPoolExecutor(self.workers) as pool:
            pending: deque[Future[Verdict]] = deque()
            try:
                for source in submissions:
                    pending.append(pool.submit(grade, source))
                    if len(pending) > 2 * self.workers:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            except BaseException:
                self._abandon(abandoned)
                raise
            finally:
                for future in pending:
                    future.cancel()

    def _use_free(
        self, method: str, argument: bytes | Path, abandoned: threading.Event | None = None
    ) -> Verdict:
        if self._owner != os.getpid():
            self._open()  # after fork: the workers belong to the other process
        abandoned = abandoned or self._abandoned
        one = self._idle.get()
        try:
            with self._lock:
                if abandoned.is_set() or self._abandoned.is_set():
                    raise GradingError("expected to grade, but what asked for it has ended")
                self._busy[one] = abandoned
            verdict: Verdict = getattr(one, method)(argument)
            return verdict
        finally:
            with self._lock:
                self._busy.pop(one, None)
            if one.stopped:
                one.close()
                one.stopped = False
            self._idle.put(one)

    def _abandon(self, abandoned: threading.Event) -> None:
        """End what is at work for an event, or all if it is the grader's own."""
        if self._owner != os.getpid():
            return
        abandoned.set()
        with self._lock:  # what has its verdict may be at work for somebody else at once
            for one, whose in self._busy.items():
                if abandoned in (whose, self._abandoned):
                    one.stop()

    def close(self) -> None:
        """End the idle workers; a later grade starts them again."""
        if self._owner != os.getpid():
            return
        idle = []
        with contextlib.suppress(queue.Empty):
            while True:
                idle.append(self._idle.get_nowait())
        for one in idle:
            one.close()
            self._idle.put(one)

    def __enter__(self) -> Grader:
        self._abandoned = threading.Event()  # should an exception have ended it before
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:  # nobody waits for what other threads have at work, or ask for later
            self._abandon(self._abandoned)
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_idle"):
            self.close()


def _source_bytes(source: str | bytes) -> bytes:
    if not isinstance(source, (str, bytes)):
        raise TypeError(f"source must be str or bytes, got {type(source).__name__}")
    # bytes() of bytes: a class of the caller's is not known to the process that they are sent to.
    return source.encode("utf-8", "surrogatepass") if isinstance(source, str) else bytes(source)


class _Bench:
    """Grades one submission after another, with one worker."""

    stopped = False

    def __init__(self, time_limit: float, sandbox: str) -> None:
        self.time_limit, self.sandbox = time_limit, sandbox
        self.worker: _Worker | None = None
        # Freed at once, never touched: from now on malloc keeps pages instead of giving them back
        # after every grade (mallopt(3), M_MMAP_THRESHOLD), which took a tenth of its time.
        np.empty(16 << 20, np.uint8)

    def grade_source(self, source: bytes) -> Verdict:
        started = time.perf_counter()
        submission = Submission(source, _problem_with_size(source), tests_intact=None)
        return self._grade(submission, started)

    def grade_solution(self, directory: Path) -> Verdict:
        started = time.perf_counter()
        submission = _read_submission(directory)
        # Looked at before and after: without a sandbox the code could put the file back meanwhile.
        return self._grade(submission, started, lambda: _tests_intact(directory))

    def _grade(
        self,
        submission: Submission,
        started: float,
        look_again: Callable[[], bool] | None = None,
    ) -> Verdict:
        """The one way from a submission to a verdict."""
        digest = hashlib.sha256(submission.source)
        for stage in (SCREENING, CONFIRMATION):
            if submission.problem is None:
                run, probe, sandbox = self._run(submission.source, digest.digest(), stage)
            else:
                run, probe = None, draw_probe(digest.digest(), stage)
                sandbox = available_sandbox() if self.sandbox == "auto" else self.sandbox
            if look_again is not None and submission.tests_intact:
                submission = submission._replace(tests_intact=look_again())
            evidence = gather_evidence(submission, probe, run)
            findings = judge(evidence)
            if findings:
                break
        seconds = time.perf_counter() - started
        return _verdict(evidence, findings, sandbox, digest.hexdigest(), seconds)

    def _run(self, source: bytes, digest: bytes, stage: Stage) -> tuple[Run, Probe, str]:
        """Run a submission in the worker, and again in a fresh one if that one was ended.

        Where the system-call filter works, no submission can send a signal or set a limit: if a
        process is killed twice, the machine did it, and there is no verdict.
        """
        try:
            for _ in range(2):
                self.worker = worker = self.worker or _start_worker(self.sandbox)
                if self.stopped:
                    raise GradingError("expected to grade, but was stopped")
                draw = functools.partial(draw_probe, digest, stage)
                run, probe = worker.run(source, draw, self.time_limit, stage.rounds)
                if run.ending in ("killed", "worker lost") or not worker.filtered:
                    self.close()
                if run.ending not in ("killed", "worker lost"):
                    break
            else:
                if worker.filtered:
                    raise GradingError(f"expected the process to run to its end, but {run.detail}; "
                                       "is the machine out of memory?")
            return run, probe, worker.sandbox
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):  # no descriptors, no memory: not the submission's fault
                raise GradingError(f"expected to run a process, got: {error}") from error
            raise

    def stop(self) -> None:
        """From another thread: have what is being graded end now."""
        self.stopped = True
        if (worker := self.worker) is not None:
            worker.stop()

    def close(self) -> None:
        if self.worker is not None:
            self.worker.close()
            self.worker = None


class _Judge:
    """A process of ours with a bench of its own.

    No submission's code runs in it, that is for its worker: so what it answers is believed.
    """

    stopped = False

    def __init__(self, time_limit: float, sandbox: str, core: int | None) -> None:
        self.settings = json.dumps([time_limit, sandbox, core])
        self.connection: Connection | None = None

    def _start(self) -> Connection:
        self.channel, theirs = socket.socketpair()
        settings = [str(_packages()), __file__, str(theirs.fileno()), self.settings]
        command = [_interpreter(), "-I", "-S", "-c", _JUDGE_SOURCE, *settings]
        environment = _clean_environment() | {"PATH": os.environ.get("PATH", os.defpath)}
        try:
            connection = Connection(os.dup(self.channel.fileno()))
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                cwd="/",
                env=environment,
                start_new_session=True,
            )
        except OSError:
            self.channel.close()
            raise
        finally:
            theirs.close()
        return connection

    def grade_source(self, source: bytes) -> Verdict:
        return self._ask("grade_source", source)

    def grade_solution(self, directory: Path) -> Verdict:
        return self._ask("grade_solution", directory)

    def _ask(self, method: str, argument: bytes | Path) -> Verdict:
        """Ask, and again another process if this one is lost: not the submission's fault."""
        try:
            for last in (False, True):
                try:
                    self.connection = self.connection or self._start()
                    if self.stopped:
                        raise GradingError("expected to grade, but was stopped")
                    self.connection.send((method, argument))
                    verdict, problem = self.connection.recv()
                    break
                except (EOFError, OSError) as error:
                    self.close()
                    if last or self.stopped:
                        raise GradingError(f"expected an answer, got: {error!r}") from error
        except BaseException:
            self.close()
            raise
        if problem is not None:
            raise GradingError(problem)
        answer: Verdict = verdict
        return answer

    def stop(self) -> None:
        """From another thread: have what is being graded end now."""
        self.stopped = True
        if self.connection is not None:
            _shut_down(self.channel)

    def close(self) -> None:
        if self.connection is None:
            return
        _shut_down(self.channel)  # it ends its worker and itself
        self.connection.close()
        self.channel.close()
        self.connection = None
        try:
            self.process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _shut_down(channel: socket.socket) -> None:
    """End a connection for all who hold it: processes that were forked hold it, too."""
    with contextlib.suppress(OSError):  # it may have ended already
        channel.shutdown(socket.SHUT_RDWR)


# By file, and with no path but NumPy's: a module that a model left in some directory is not loaded.
_JUDGE_SOURCE = """\
import importlib.util, json, sys
packages, file, descriptor, settings = sys.argv[1:]
sys.path.append(packages)
spec = importlib.util.spec_from_file_location("variance_dropout_task", file)
task = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(task)
task._judge(int(descriptor), *json.loads(settings))
"""


def _judge(descriptor: int, time_limit: float, sandbox: str, core: int | None) -> None:
    """The program of a `_Judge`: grade what is asked for, until nobody is there to ask."""
    if core is not None and _LINUX:
        with contextlib.suppress(OSError):  # the core may have been taken away
            os.sched_setaffinity(0, {core})
    connection, bench = Connection(descriptor), _Bench(time_limit, sandbox)

    def stop_when_nobody_asks() -> None:
        end = select.poll()
        end.register(descriptor, 0)  # nothing but that the other side is closed
        end.poll()
        bench.stop()

    threading.Thread(target=stop_when_nobody_asks, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        while True:
            method, argument = connection.recv()
            verdict, problem = None, None
            try:
                verdict = getattr(bench, method)(argument)
            except GradingError as error:
                problem = str(error)
            except Exception as error:
                problem = f"expected a verdict, got {type(error).__name__}: {error}"
            connection.send((verdict, problem))
    bench.close()
    os._exit(0)


def _check_arguments(time_limit: float, sandbox: str) -> None:
    if not 0 < time_limit <= 86_400:
        raise ValueError(f"time_limit must be in (0, 86400], in seconds; got {time_limit!r}")
    if sandbox not in ("auto", "bubblewrap", "process"):
        raise ValueError(f"sandbox must be auto, bubblewrap or process, got {sandbox!r}")


def _workspace(path: str | Path) -> Path:
    """The directory; raises GradingError if there is none."""
    try:
        if str(path) and Path(path).is_dir():
            return Path(path)
        reason = ""
    except OSError as error:
        reason = f" ({error.strerror})"
    raise GradingError(
        f"workspace: expected a directory that holds {SOLUTION_FILE}, got "
        f"{str(path)[:200]!r}{reason}; make one with `setup`, or setup_task_files(workspace)"
    )


def _usable_cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if _LINUX else list(range(os.cpu_count() or 1))


class Submission(NamedTuple):
    """What was read: the source, why it is none (or None), and whether the test file is intact."""

    source: bytes
    problem: str | None
    tests_intact: bool | None


def _read_submission(directory: Path) -> Submission:
    try:
        source = _read_regular_file(directory / SOLUTION_FILE, SOURCE_LIMIT_BYTES + 1)
    except ValueError as error:
        return Submission(b"", f"{SOLUTION_FILE} {error}", _tests_intact(directory))
    return Submission(source, _problem_with_size(source), _tests_intact(directory))


def _read_regular_file(path: Path, limit: int) -> bytes:
    """Up to `limit` bytes of a file, read once; raises ValueError if it is no regular file.

    O_NOFOLLOW: a link could point out of the workspace. O_NONBLOCK: opening a FIFO must not wait.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ValueError("is missing") from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):  # what O_NOFOLLOW says of a link
            raise ValueError("is a link, not a regular file") from None
        if error.errno not in (errno.ENXIO, errno.EACCES):
            raise GradingError(f"{path}: expected to open it, got: {error}") from error
        raise ValueError(f"cannot be opened as a regular file ({error.strerror})") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(limit)
    except OSError as error:
        raise GradingError(f"{path}: expected to read it, got: {error}") from error
    finally:
        os.close(descriptor)


def _problem_with_size(source: bytes) -> str | None:
    if not source.strip():
        return f"{SOLUTION_FILE} is empty"
    if len(source) > SOURCE_LIMIT_BYTES:
        return f"{SOLUTION_FILE} is larger than {SOURCE_LIMIT_BYTES >> 10} KiB"
    return None


def _tests_intact(directory: Path) -> bool:
    expected = TEST_SCRIPT.encode()
    try:
        return _read_regular_file(directory / TEST_FILE, len(expected) + 1) == expected
    except ValueError:
        return False


def _verdict(
    evidence: Evidence,
    findings: list[tuple[str, Finding]],
    sandbox: str,
    sha256: str,
    duration_s: float,
) -> Verdict:
    """Build the verdict: the one place where a submission can pass."""
    failures = [finding for _, finding in findings if finding.failure_mode]
    errors = {f"{rate.rate:.4g}": abs(rate.variance_ratio - 1.0) for rate in evidence.measured}
    checks = [
        Check(name=name, passed=finding.failure_mode is None, detail=finding.detail)
        for name, finding in findings
    ]
    if failures:
        # What was not reached says nothing that the failure before it has not said.
        told = [finding for finding in failures if finding.detail != NOT_REACHED]
        feedback = "Not solved yet. " + " ".join(finding.detail for finding in told)
    else:
        feedback = f"Solved: all {len(checks)} checks passed."
    return Verdict(
        passed=not failures,
        reward=0.0 if failures else 1.0,
        feedback=feedback,
        checks=checks,
        variance_error=max(errors.values(), default=None),
        variance_errors=errors,
        failure_mode=failures[0].failure_mode if failures else None,
        output="\n".join(
            f"{'PASS' if row['passed'] else 'FAIL'}  {row['name']}: {row['detail']}"
            for row in checks
        ),
        sandbox=sandbox,
        duration_s=duration_s,
        source_sha256=sha256,
    )


# --- The probe ------------------------------------------------------------------------------------

GRADED_RATES = (0.3, 0.5, 0.7)
# Rates outside the contract, which the constructor has to refuse; others are drawn.
BAD_RATES = (-0.1, -1e-12, -math.inf, 1.0, 1.5, math.inf, math.nan, -1, 1, 2)

# Of the promised bound, 1e-9 that a right solution fails, each of at most 1,000 tests in each of
# two stages gets this.
ALPHA = 5e-13


class Stage(NamedTuple):
    """How closely a submission is looked at.

    A group-sequential design of two stages: what passes every test of the first at a level that
    few right submissions miss is right, what fails one at ALPHA is wrong, and only what lies
    between is run again, on a larger probe.

    alpha: the level of every statistical test; drop_rate_alpha: of the drop rate at a graded rate,
    where most units are asked for. drop_rate_units: units at a graded rate p, as a multiple of
    4p(1-p): a drop rate that is off by 3 points is 6 standard deviations from passing.
    mask_units: over how many units two masks are compared. rounds: how often all is asked for
    which a few calls do, and how often the time limit is allowed.
    """

    alpha: float
    drop_rate_alpha: float
    drop_rate_units: int
    mask_units: int
    rounds: int


SCREENING = Stage(3e-4, 5e-3, 26_000, 512, 1)
CONFIRMATION = Stage(ALPHA, ALPHA, 53_000, 1024, 4)

# Elements of one distribution: of the nearly normal one, and of each of six others.
_LARGE, _SMALL = 15_360, 1_024
_RECTIFIED = 4  # the small distribution that has zeros


class Step(NamedTuple):
    """One step of a probe: what the child is asked to do, and what it is for.

    op: "new" (argument: [rate] or {"dropout_rate": rate}), "bad" (rates to be refused), "mode"
    ("train" or "eval"), "call" ([dtype, shape, first byte, last byte, offset, strides, memory,
    caller]) or "end". memory: "" for a view, "r" for a read-only one, else the dtype of a copy with
    memory of its own. phase: "train", "retrain" (after train()), "eval" or "zero".
    """

    op: str
    layer: int
    rate: float
    phase: str
    argument: Any
    x: np.ndarray[Any, Any]  # the input of a call; for another step, the form of its answer
    has_zeros: bool = False  # x has elements that are 0: they are no units


class Probe(NamedTuple):
    """All that a submission will be asked in a stage: the same source always meets the same.

    place: where in a large mask it is looked at besides its beginning, from 0 to 1.
    """

    steps: list[Step]
    stage: Stage
    place: float


_LAYOUTS = ("own memory", "own memory", "C", "F", "reversed", "every other")

_STATE = np.zeros(2)  # the answer to "new" and "mode": dropout_rate and training
_REFUSED = np.zeros(len(BAD_RATES) + 4)  # the answer to "bad": 1.0 for each ValueError
_DONE = np.zeros(0)  # the answer to "end"

# Who seems to call the layer: code that acts by its caller meets them all.
_CALLERS = [
    ("test_dropout.py", "test_variance_is_preserved"),
    ("train.py", "training_step"),
    ("model.py", "forward"),
    ("network.py", "__call__"),
    ("<stdin>", "<module>"),
]


def draw_probe(digest: bytes, stage: Stage = SCREENING) -> Probe:
    """Draw a probe from the SHA-256 of a source, so that no code is written for the one it meets.

    Only `random.Random` is used, whose stream does not change between versions.
    """
    plan = _Plan(random.Random(digest + bytes([stage is CONFIRMATION])), stage)
    low, high = plan.uniform(0.05, 0.25), plan.uniform(0.88, 0.95)
    # Each distribution, where a wrong factor may show, in one dtype or the other.
    kinds = [(plan.shape(400), kind + plan.deal((0, 6))) for kind in range(6)]
    plan.rng.shuffle(kinds)
    double_at, often_at, flat_at = (plan.pick(GRADED_RATES) for _ in range(3))
    zeros_at = plan.pick([rate for rate in GRADED_RATES if rate != flat_at])
    for rate in GRADED_RATES:
        kind = 13 if rate == double_at else 12
        elsewhere = 5 * (160 if rate == zeros_at else stage.mask_units) * stage.rounds
        _plan_statistics(plan, rate, kind, kinds[:3] if rate == often_at else [], elsewhere)
    for rate in (*GRADED_RATES, low, high) * stage.rounds:
        _plan_modes(plan, rate, flat=rate == flat_at, zeros=rate == zeros_at)
    for call, (least, most) in zip(
        kinds[3:], ((0.01, 0.3), (0.25, 0.95), (0.9, 0.99)), strict=True
    ):
        plan.add(plan.uniform(least, most), "train", call)
    # Few units: a right layer does not drop all of them at a rate close to 0, nor keep all of them
    # at one close to 1, whatever guards it has against empty masks.
    near_0, near_1 = (10 ** -plan.uniform(2, 2.7) for _ in range(2))
    for rate, few in ((near_0, []), (1 - near_1, [(2,), (2, 1), (3,)])):
        shapes: list[Any] = [(), (1,), (), (1,), *few] * stage.rounds
        calls = [(shape, plan.below(4)) for shape in shapes]
        calls.insert(plan.below(len(calls)), (plan.shape(3000), 12))
        plan.add(rate, "train", *calls)
    kind = 8 + plan.below(4)
    plan.add(0.0, "zero", ((12, 9), kind, "F"), ((12, 9), kind), ((3, 0),), how=[0])
    plan.add(0.0, "zero", ((),), "eval", (plan.shape(60),), "train", (plan.shape(1500),))
    for rate in (1e-9, 0.5, 1 - 1e-9):
        plan.add(rate, "train", how={} if rate == 0.5 else None)
    near = [10 ** plan.uniform(-6, 2) for _ in range(4)]
    bad = [*BAD_RATES, -near[0], -near[1], 1 + near[2], 1 + near[3]]
    plan.scripts.append([[Step("bad", 0, 0.0, "", bad, _REFUSED)]])
    steps = plan.interleaved()
    steps.append(Step("end", 0, 0.0, "", None, _DONE))
    return Probe(steps, stage, plan.uniform(0, 1))


def _plan_statistics(
    plan: _Plan, rate: float, kind: int, others: list[Any], elsewhere: int
) -> None:
    """Enough units at a graded rate for its drop rate, most of them in one array of 2 to 4 axes.

    elsewhere: how many units other scripts have at that rate, at least. With `others`, the layer
    lives long, and ends with pairs of small arrays of one shape: masks that it caches come twice.
    """
    n = plan.stage.mask_units
    whole = plan.deal((((4, n // 4), 12, "F"), ((2, n // 32, 16), 12, "reversed"), ((1, n), 12)))
    units = plan.stage.drop_rate_units * 4 * rate * (1 - rate) - elsewhere - n
    rows, inner = 10 + plan.below(5), plan.deal(((), (4,), (2, 3)))
    large = (rows, *inner, int(plan.uniform(1, 1.1) * units / rows / math.prod(inner)) + 1)
    calls = [(large, kind), (plan.deal(((), (0,), (2, 0, 3))),), *others]
    plan.rng.shuffle(calls)
    sizes = [plan.uniform(56, 64) for _ in range(2 * plan.stage.rounds)] + [plan.uniform(300, 500)]
    shapes = [plan.shape(size) for size in sizes if others]
    pairs = [(shape, plan.below(4), how) for shape in shapes for how in ("own memory", None)]
    plan.rng.shuffle(pairs)
    plan.add(rate, "train", whole, *calls, *pairs)


def _plan_modes(plan: _Plan, rate: float, flat: bool, zeros: bool) -> None:
    """Calls on the same data, of one layer and of two, with changes of mode between them.

    Masks that are cached, or seeded in the constructor, in train() or in eval(), come twice. At one
    rate the arrays are flat and larger, and all comes more often; at another, half of them is zero.
    """
    n, times = plan.stage.mask_units, 1 + flat
    axes, rectified = plan.deal((2, 3, 4, 5)), _RECTIFIED + plan.deal((0, 6))
    again = plan.call((2 * n + 99,) if flat else plan.shape(1.2 * n, n, axes))
    if zeros:
        again = plan.call(plan.shape(480, 400, axes), rectified)
    double = 2 + plan.below(4) + plan.deal((0, 6))
    if flat:
        evals: list[Any] = [again, ((25, 8), double, "F"), again]
    else:
        evals = [(plan.shape(200), double), (plan.deal(((), (0,), (7, 0), (2, 0, 3))),)]
    plan.add(
        rate, "train", *["train"] * flat, again, again, *["eval"] * times,
        "other", again, "eval",
        "other", *evals[: times], *["train"] * times, again,
        "other", *evals[times:], "train", again, at_once=True,
    )


class _Plan:
    """Collects scripts, each a layer or two and what is done with them in order."""

    def __init__(self, rng: random.Random, stage: Stage) -> None:
        self.rng, self.uniform, self.stage = rng, rng.uniform, stage
        self.scripts: list[list[list[Step]]] = []
        self.decks: dict[Any, list[Any]] = {}
        self.layers = itertools.count()

    def below(self, n: int) -> int:
        return int(self.rng.random() * n)

    def pick(self, options: Any) -> Any:
        return options[int(self.rng.random() * len(options))]

    def deal(self, options: Any) -> Any:
        """One of the options; the next times, the others, until all had their turn."""
        deck = self.decks.setdefault(options, [])
        if not deck:
            deck.extend(options)
            self.rng.shuffle(deck)
        return deck.pop()

    def add(
        self, rate: float, phase: str, *steps: Any, how: Any = None, at_once: bool = False
    ) -> None:
        """Add a script: mode names, and the arguments of calls; "other" is for the other layer.

        how: the argument of the constructor. at_once: nothing else comes between its steps.
        """
        rows: list[Step] = []
        known: list[tuple[int, str]] = []
        for step in ("other", *steps):
            if step == "other" and len(known) < 2:
                known.insert(0, (next(self.layers), phase))
                made = ([rate], {"dropout_rate": rate})[self.deal((0, 1))] if how is None else how
                rows.append(Step("new", known[0][0], rate, phase, made, _STATE))
                continue
            if step == "other":
                known.reverse()
                continue
            layer, now = known[0]
            if isinstance(step, str):
                rows.append(Step("mode", layer, rate, now, step, _STATE))
                known[0] = layer, "eval" if step == "eval" else "retrain" if rate else "zero"
            else:
                call = step if isinstance(step, Step) else self.call(*step)
                rows.append(call._replace(layer=layer, rate=rate, phase=now))
        self.scripts.append([rows] if at_once else [[row] for row in rows])

    def interleaved(self) -> list[Step]:
        """The steps of all scripts, each script in its order."""
        order = [index for index, chunks in enumerate(self.scripts) for _ in chunks]
        self.rng.shuffle(order)
        iterators = [iter(chunks) for chunks in self.scripts]
        return [step for index in order for step in next(iterators[index])]

    def shape(self, size: float, at_least: int = 0, axes: int = 0) -> tuple[int, ...]:
        """A shape with about `size` elements and so many axes, or 1 to 7, some of length 1."""
        rest, lengths = int(size), []
        for more in range(axes - 1 if axes else self.deal((0, 1, 2, 3, 4)), 0, -1):
            longest = max(int(1.5 * rest ** (1 / (more + 1))), 2)
            lengths.append(2 + self.below(longest - 1))
            rest = max(rest // lengths[-1], 1)
        lengths += [rest] + [1] * (0 if axes else self.deal((0, 0, 1, 2)))
        self.rng.shuffle(lengths)
        shape = tuple(lengths)
        return shape if math.prod(shape) >= at_least else self.shape(size, at_least, axes)

    def call(self, shape: Any, kind: int | None = None, layout: str | None = None) -> Step:
        """A call on elements of a drawn distribution, dtype and memory layout.

        kind: 0 to 5 for the small distributions in float32, 6 to 11 in float64; 12 and 13 for the
        nearly normal one, which large arrays have.
        """
        size = math.prod(shape)
        if kind is None:
            kind = 12 + self.below(2) if size >= _SMALL / 2 else min(self.below(18), 12)
        layout = layout or self.deal(_LAYOUTS)
        if size > _LARGE / 2:
            layout = "one row"  # the largest cost no more than they must
        copied = layout in ("own memory", "one row")
        dtype, item, begin, count = _DISTRIBUTIONS[kind]
        stride = 2 * item if layout == "every other" else item
        span = max(size if layout != "one row" else size // shape[0], 1) * (stride // item)
        start = begin + item * self.below(count - span + 1)
        inner = shape[:-1] if layout == "F" else shape[:0:-1]
        strides = list(itertools.accumulate(inner, operator.mul, initial=stride))[: len(shape)]
        if layout != "F":
            strides.reverse()
        offset = 0
        if layout == "reversed" and size:
            strides, offset = [-step for step in strides], item * (size - 1)
        if layout == "one row":
            strides[0] = 0
        x = np.ndarray(shape, dtype, _pool(), start + offset, strides)
        memory = "r" if layout == "C" else ""
        if copied or kind == 13:
            memory = "<f8" if kind == 13 else dtype
            x = x.astype(memory, copy=False)
        window = [start, start + span * item, offset, strides]
        argument = [dtype, shape, *window, memory, self.below(len(_CALLERS))]
        has_zeros = kind % 6 == _RECTIFIED and kind < 12
        return Step("call", 0, 0.0, "", argument, x, has_zeros)


# Where the elements of a kind lie in the pool: dtype, bytes of an element, first byte, elements.
_DISTRIBUTIONS = [
    ("<f4", 4, 4 * (_LARGE + kind * _SMALL), _SMALL) for kind in range(6)
] + [
    ("<f8", 8, 4 * _LARGE + 24 * _SMALL + 8 * kind * _SMALL, _SMALL) for kind in range(6)
] + [("<f4", 4, 0, _LARGE)] * 2


@functools.cache
def _pool() -> bytes:
    """Elements of seven distributions, as float32; after them, of all but the first as float64.

    They are the same for every probe, which draws what it makes of them: both sides hold them.
    """
    count = 3 * _LARGE + 6 * _SMALL
    words = np.frombuffer(hashlib.shake_256(b"dropout").digest(2 * count), "<u2")
    uniform = (words + np.float32(0.5)) / np.float32(2**15) - np.float32(1.0)  # in (-1, 1), never 0
    a, b, c = uniform[: 3 * _LARGE].reshape(3, _LARGE)
    u = uniform[3 * _LARGE :].reshape(6, _SMALL)
    large = a + b + c  # nearly normal, variance 1, and not 0: a sum of three odd numbers
    others = [
        u[0],
        np.sign(u[1]),  # integers
        u[2] ** 7 * 1e6,  # heavy tails
        u[3] * 1e-3 + 2.0,  # mean far from zero, hardly any variance
        np.maximum(u[4], 0.0),  # rectified: half of them zero
        np.abs(u[5]),
    ]
    small = np.concatenate(others)
    double = small.astype("<f8")
    double[2 * _SMALL :] *= 1 + 2**-30  # numbers that float32 cannot hold
    return b"".join([large.tobytes(), small.tobytes(), double.tobytes()])


# --- The evidence ---------------------------------------------------------------------------------


class Run(NamedTuple):
    """What came back from the untrusted process: raw frames, and how it ended.

    ending: "done", "timeout", "died" (detail: how), "killed" (from outside) or "worker lost".
    """

    frames: list[tuple[str, memoryview]]
    ending: str
    detail: str


class Outcome(NamedTuple):
    """A step and what came of it: an array of the form of step.x, or a problem (mode, text)."""

    step: Step
    y: np.ndarray[Any, Any] | None
    problem: tuple[str, str] | None


Mask = np.ndarray[Any, np.dtype[np.bool_]]
# By which units the drop rate is looked at in every call; the first are all.
_WHERE = ("", "where x > 0", "where x < 0", "where |x| > 1", "where |x| <= 1",
          "in the first units of arrays", "in the last units of arrays")


class Calls(NamedTuple):
    """What the training calls show that had any units: calls in the order of their rates.

    A unit is an element of x that is not 0; it is dropped if its output is 0, else its factor is
    output / input. dropped: for each call, which units were. units, drops: how many units there
    were and how many were dropped, of shape (len(_WHERE), calls). lowest, highest: the range of
    the factors (highest is inf if an x of 0 came out as something else); squares: the sum of their
    squares.
    """

    numbers: list[int]  # of the steps
    steps: list[Step]
    dropped: list[Mask]
    units: np.ndarray[Any, Any]
    drops: np.ndarray[Any, Any]
    lowest: np.ndarray[Any, Any]
    highest: np.ndarray[Any, Any]
    squares: np.ndarray[Any, Any]


class RateEvidence(NamedTuple):
    """What all training calls at one rate show; mean_square: of the factors.

    keep_rate: 1 - rate if units are dropped at that rate, else the measured fraction.
    """

    rate: float
    survivors: int
    lowest: float
    highest: float
    mean_square: float
    keep_rate: float

    @property
    def variance_ratio(self) -> float:
        """Var(output) / Var(input) for zero-mean input, the mask averaged out.

        For a factor s and keep probability q it is q s^2, as Var(out) = s^2 q E[x^2] for
        E[x] = 0: measured without the sampling noise of the mask.
        """
        return self.keep_rate * self.mean_square


class Evidence(NamedTuple):
    """All that the checks look at. `problem`: why there are no outcomes, as (mode, sentence)."""

    submission: Submission
    stage: Stage
    place: float  # as in Probe
    problem: tuple[str, str] | None
    has_root: bool
    outcomes: list[Outcome]
    calls: Calls | None  # None if there are none
    rates: list[RateEvidence]

    @property
    def measured(self) -> list[RateEvidence]:
        """The rates at which some unit survived, all with finite factors; graded rates first."""
        rates = [r for r in self.rates if r.survivors]
        rates = [r for r in rates if math.isfinite(r.lowest + r.highest + r.mean_square)]
        return sorted(rates, key=lambda r: (r.rate not in GRADED_RATES, r.rate))


def gather_evidence(submission: Submission, probe: Probe, run: Run | None) -> Evidence:
    """Turn raw frames into arrays, and the arrays into evidence by call and by rate."""
    evidence = Evidence(submission, probe.stage, probe.place, None, False, [], None, [])
    if run is None:
        return evidence._replace(problem=("no_submission", f"{submission.problem}."))
    frames = run.frames
    # Written before a line of the submission ran, so it is believed.
    has_root = bool(frames) and frames[0][0] == "A" and bytes(frames[0][1]) == b"\1"
    if found := _problem_with_run(run, submission.source):
        return evidence._replace(problem=found, has_root=has_root)
    outcomes = [_outcome(step, *frame) for step, frame in zip(probe.steps, frames[2:], strict=True)]
    with np.errstate(all="ignore"):  # outputs may be anything
        calls = _training_calls(outcomes)
        rates = _by_rate(calls) if calls else []
    return evidence._replace(has_root=has_root, outcomes=outcomes, calls=calls, rates=rates)


def _problem_with_run(run: Run, source: bytes) -> tuple[str, str] | None:
    """Why a run gave no outcomes to check: the failure mode and a sentence."""
    hint = " It holds a Markdown fence: only the code belongs there." if b"```" in source else ""
    text = [_text(payload) for kind, payload in run.frames[:2] if kind != "A"]
    if run.ending == "timeout":
        return "timeout", f"{SOLUTION_FILE} did not finish within the time limit ({run.detail})."
    if text and len(run.frames) == 1:
        return "syntax_error", f"{SOLUTION_FILE} is not valid Python: {text[0]}.{hint}"
    if text and run.frames[1][0] == "V":
        return "interface", f"{text[0]}."
    if text:
        return "crash", f"{SOLUTION_FILE} cannot be imported: {text[0]}."
    if run.ending != "done":
        where = ("parsed", "imported")[len(run.frames)] if len(run.frames) < 2 else "called"
        return "crash", f"The process ended while {SOLUTION_FILE} was {where}: {run.detail}."
    return None


def _outcome(step: Step, kind: str, payload: memoryview) -> Outcome:
    if kind == "A" and len(payload) == step.x.nbytes:
        return Outcome(step, np.frombuffer(payload, step.x.dtype), None)
    text = _text(payload) if kind != "A" else "a malformed answer"
    mode = "crash" if kind == "X" and step.op == "call" else "interface"
    return Outcome(step, None, (mode, text))


def _text(payload: memoryview) -> str:
    """Text of a submission, made harmless: one line of printable characters."""
    text = bytes(payload).decode("utf-8", "replace")
    return "".join(c if c.isprintable() else " " for c in text)[:300].strip().rstrip(".")


def _training_calls(outcomes: list[Outcome]) -> Calls | None:
    """Measure the training calls, all of one dtype together."""
    several = [_units(*one) for one in enumerate(outcomes) if _is_training_call(one[1])]
    calls = sorted((call for call in several if call.x.size), key=lambda call: call.step.rate)
    masks: dict[int, Mask] = {}
    figures = np.empty((2 * len(_WHERE) + 3, len(calls)))
    for size in (4, 8):
        which = [at for at, call in enumerate(calls) if call.x.itemsize == size]
        if which:
            found, figures[:, which] = _measure([calls[at] for at in which])
            masks |= zip(which, found, strict=True)
    if not calls:
        return None
    numbers, steps = [call.number for call in calls], [call.step for call in calls]
    units, drops, rest = np.split(figures, (len(_WHERE), 2 * len(_WHERE)))
    return Calls(numbers, steps, [masks[at] for at in range(len(calls))], units, drops, *rest)


def _is_training_call(outcome: Outcome) -> bool:
    """A call that is to drop units. One that drops none after train() is for check_eval."""
    step, y, _ = outcome
    if step.op != "call" or y is None:
        return False
    return step.phase == "train" or (step.phase == "retrain" and _drops(outcome))


def _drops(outcome: Outcome) -> bool:
    """Whether fewer elements of the output than of the input are other than 0."""
    assert outcome.y is not None
    return bool(np.count_nonzero(outcome.y) < np.count_nonzero(outcome.step.x))


class _Units(NamedTuple):
    """Input and output of the units of a call; whether an x of 0 came out as something else."""

    number: int
    step: Step
    x: np.ndarray[Any, Any]
    y: np.ndarray[Any, Any]
    something_of_nothing: bool


def _units(number: int, outcome: Outcome) -> _Units:
    step, y, _ = outcome
    x = step.x.ravel()
    assert y is not None
    if not step.has_zeros:
        return _Units(number, step, x, y, False)
    units = x != 0.0
    return _Units(number, step, x[units], y[units], bool(y[~units].any()))


def _measure(calls: list[_Units]) -> tuple[list[Mask], np.ndarray[Any, Any]]:
    """The masks of calls of one dtype, and their figures in the order of `Calls`.

    Everything is measured in one array of the units of all, a reduction a figure.
    """
    x, y = np.concatenate([call.x for call in calls]), np.concatenate([call.y for call in calls])
    sizes = np.array([call.x.size for call in calls])
    ends = np.cumsum(sizes)
    starts = ends - sizes
    dropped = y == 0.0

    def count(units: Mask) -> Any:
        return np.add.reduceat(units.view(np.int8), starts, dtype=np.int32)

    factors = y / x
    away = dropped * np.finfo(x.dtype).max  # a dropped unit is neither lowest nor highest
    lowest = np.minimum.reduceat(factors + away, starts)
    highest = np.maximum.reduceat(factors - away, starts)
    squares = np.add.reduceat(np.square(factors, dtype=np.float64), starts)
    highest[[call.something_of_nothing for call in calls]] = np.inf
    above, large, several = x > 0.0, np.abs(x) > 1.0, sizes > 1
    n, n_above, n_large = sizes, count(above), count(large)
    k, k_above, k_large = count(dropped), count(above & dropped), count(large & dropped)
    units = [n, n_above, n - n_above, n_large, n - n_large, several, several]
    drops = [k, k_above, k - k_above, k_large, k - k_large]
    drops += [several & dropped[starts], several & dropped[ends - 1]]
    masks = [dropped[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    return masks, np.array([*units, *drops, lowest, highest, squares], dtype=np.float64)


def _by_rate(calls: Calls) -> list[RateEvidence]:
    rates, starts = np.unique([step.rate for step in calls.steps], return_index=True)
    n, k = (np.add.reduceat(counts[0], starts) for counts in (calls.units, calls.drops))
    right = _is_plausible(k, n, rates, ALPHA)
    columns = (
        rates,
        n - k,
        np.minimum.reduceat(calls.lowest, starts),
        np.maximum.reduceat(calls.highest, starts),
        np.add.reduceat(calls.squares, starts) / np.maximum(n - k, 1),
        1.0 - np.where(right, rates, k / n),
    )
    return [RateEvidence(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]


def _size_class(size: int) -> str:
    return "one element" if size == 1 else "2 to 63" if size < 64 else "64 or more"


# --- The checks -----------------------------------------------------------------------------------

# The rule of the contract.
VARIANCE_TOLERANCE = 0.10
# Three roundings in float32 are 2e-7; scaling by a statistic of n elements varies by 1/sqrt(n).
FACTOR_TOLERANCE = 1e-5

NOT_REACHED = "Not reached."
NO_WORKSPACE = "no workspace, not looked at"

# Wrong factors by formula of the drop rate p and keep probability q = 1 - p.
WRONG_FACTORS: dict[str, Callable[[float, float], float]] = {
    "1": lambda p, q: 1.0,
    "q": lambda p, q: q,
    "sqrt(q)": lambda p, q: q**0.5,
    "q**2": lambda p, q: q**2,
    "1/q**2": lambda p, q: q**-2,
    "1/q**1.5": lambda p, q: q**-1.5,
    "1/q**0.25": lambda p, q: q**-0.25,
    "1/q**(1/3)": lambda p, q: q ** (-1 / 3),
    "p": lambda p, q: p,
    "1/p": lambda p, q: 1 / p,
    "sqrt(p)": lambda p, q: p**0.5,
    "1/sqrt(p)": lambda p, q: p**-0.5,
    "1+p": lambda p, q: 1 + p,
    "1/(1+p)": lambda p, q: 1 / (1 + p),
    "sqrt(1+p)": lambda p, q: (1 + p) ** 0.5,
    "sqrt(p/q)": lambda p, q: (p / q) ** 0.5,
    "1/sqrt(p*q)": lambda p, q: (p * q) ** -0.5,
}


class Finding(NamedTuple):
    """What a check found: a sentence, and the failure mode or None."""

    detail: str
    failure_mode: str | None = None


def check_test_file(evidence: Evidence) -> Finding:
    """`test_dropout.py` is byte for byte what it was."""
    if evidence.submission.tests_intact is False:
        return Finding(f"{TEST_FILE} is not there as it was: put it back.", "test_file_modified")
    return Finding("intact" if evidence.submission.tests_intact else NO_WORKSPACE)


def check_runs(evidence: Evidence) -> Finding:
    """There is a submission; it can be parsed, imported and called, in time."""
    if evidence.problem:
        mode, sentence = evidence.problem
        return Finding(sentence, mode)
    for step, _, problem in evidence.outcomes:
        if problem and problem[0] == "crash":
            return Finding(f"{_call_text(step)} raised {problem[1]}.", "crash")
    calls = sum(step.op == "call" for step, _, _ in evidence.outcomes)
    return Finding(f"{calls} calls without an exception")


def check_interface(evidence: Evidence) -> Finding:
    """Class, constructor, attributes, methods; type, shape and dtype of results; x unmodified."""
    calls = evidence.calls  # if all factors are finite, then so are the outputs
    all_finite = calls is not None and np.isfinite(calls.lowest + calls.highest).all()
    for step, y, problem in evidence.outcomes:
        if problem and problem[0] == "interface":
            return Finding(f"{_step_text(step)}: {problem[1]}.", "interface")
        if y is None:
            continue
        if step.op == "bad" and not np.all(y == 1.0):
            rate = step.argument[int(np.argmax(y != 1.0))]
            return Finding(
                f"VarianceStabilizedDropout({rate:.4g}) must raise ValueError, and did not.",
                "interface",
            )
        if step.op in ("new", "mode"):
            training = 0.0 if step.argument == "eval" else 1.0
            if y[0] != step.rate or y[1] != training:
                return Finding(
                    f"{_step_text(step)}: expected dropout_rate {step.rate!r} and training "
                    f"{bool(training)}, got {float(y[0])!r} and {bool(y[1])}.",
                    "interface",
                )
        elif not all_finite and step.phase in ("train", "retrain") and not np.isfinite(y).all():
            return Finding(f"{_call_text(step)} returned values that are not finite.", "interface")
    return Finding("class, constructor, attributes, methods, shapes and dtypes as agreed")


def check_mask(evidence: Evidence) -> Finding:
    """Units are dropped independently of each other; every call draws a fresh mask."""
    calls, n, alpha = evidence.calls, evidence.stage.mask_units, evidence.stage.alpha
    assert calls is not None
    steps = zip(calls.steps, calls.dropped, strict=True)
    masks = [(step, mask) for step, mask in steps if mask.size > 1]
    alike: dict[Any, list[tuple[Step, Mask]]] = {}  # by rate and shape
    for step, mask in masks:
        if not step.has_zeros:  # else it is the mask of what was not zero, which has no axes
            alike.setdefault((step.rate, step.x.shape), []).append((step, mask))
    some = [several[0] for several in alike.values() if several[0][1].size >= n]
    heads = [(step, mask[:n]) for step, mask in masks if mask.size >= n]
    short = [(step, mask[:128]) for step, mask in masks if 128 <= mask.size < n]
    large = [one for one in masks if one[1].size >= 2 * n]
    # The place of the other pieces is one for the longest masks, and for all masks of one size.
    longest = [mask.size for _, mask in masks if mask.size >= _LARGE]
    pieces = []
    for step, mask in large:
        at = n + int(evidence.place * (min([mask.size, *longest]) - 2 * n))
        pieces.append((step, mask[at : at + n]))
    problem = (  # first what is wrong within a mask: it shows between masks, too
        next(filter(None, (_shared(several, alpha) for several in alike.values())), None)
        or _structure(some, n, alpha)
        or _repeated(heads + pieces, n, alpha)
        or _repeated(short, 128, alpha)
        or _repeated_small([one for one in masks if one[1].size < n], alpha)
    )
    if problem:
        return Finding(f"{problem}, expected 0.", "mask_not_random")
    drop_rates = {rate.rate: 1 - rate.keep_rate for rate in evidence.rates}
    small = [one for one in masks if 256 <= one[1].size < 2 * n]
    problem = (
        _come_again(large, evidence.place, drop_rates, alpha)
        or _come_again(small, evidence.place, drop_rates, alpha)
        or _too_even(masks, some, drop_rates, alpha)
    )
    if problem:
        return Finding(problem, "mask_not_random")
    return Finding("masks are fresh at every call, and their units independent")


def _repeated(masks: list[tuple[Step, Mask]], n: int, alpha: float) -> str | None:
    """Two large masks, of one layer or of two, or parts of one, that are not independent.

    Looked at are the units that are dropped, or those that survive if they are fewer. Where one
    mask has them is to the other as a sample without replacement; Chernoff's bound holds for that
    (Hoeffding 1963, theorem 4). Of masks of 512 units, it finds those that are the same at rates
    from 0.05 to 0.95.
    """
    if not masks:
        return None
    units = np.array([mask for _, mask in masks])
    units ^= (2 * units.sum(axis=1) > n)[:, None]
    # Counted, not multiplied as matrices, for which NumPy would start threads.
    bits = np.packbits(units, axis=1)
    both = _count_bits(bits[:, None] & bits).sum(axis=2, dtype=np.int64)
    k = both.diagonal()
    fewer, more = np.minimum(k, k[:, None]), np.maximum(k, k[:, None])
    wrong = (fewer > 0) & ~_is_plausible(both, fewer, more / n, alpha / len(k) ** 2)
    for one, other in np.argwhere(np.triu(wrong, 1)):
        steps = masks[one][0], masks[other][0]
        who = "one layer" if steps[0].layer == steps[1].layer else "two layers"
        rates = " and ".join(dict.fromkeys(f"{step.rate:.4g}" for step in steps))
        correlation, _ = _correlation(masks[one][1], masks[other][1], alpha)
        return f"Rate {rates}: the masks of two calls of {who} have correlation {correlation:.3f}"
    return None


def _count_bits(octets: np.ndarray[Any, Any]) -> Any:
    """The bits that are set in each word along the last axis, of 8 bytes (2 before NumPy 2)."""
    if hasattr(np, "bitwise_count"):  # NumPy 2
        return np.bitwise_count(octets.view(np.uint64))
    return _bits_set()[octets.view(np.uint16)]


@functools.cache
def _bits_set() -> np.ndarray[Any, Any]:
    numbers = np.arange(1 << 16, dtype=np.uint16)
    bits = np.unpackbits(numbers.view(np.uint8)).reshape(-1, 16)
    return np.asarray(bits.sum(axis=1, dtype=np.uint8))


def _repeated_small(masks: list[tuple[Step, Mask]], alpha: float) -> str | None:
    """Small masks of one layer and shape: too few units to tell, so pairs are taken together."""
    earlier: dict[Any, Mask] = {}
    pairs: dict[Any, list[tuple[Mask, Mask]]] = {}
    for step, mask in masks:
        key = step.layer, step.x.shape, mask.size
        if key in earlier:
            kind = step.rate, _size_class(mask.size)
            pairs.setdefault(kind, []).append((earlier.pop(key), mask))
        else:
            earlier[key] = mask
    for (rate, size), several in pairs.items():
        one, other = (np.concatenate([pair[k] for pair in several]) for k in (0, 1))
        correlation, is_real = _correlation(one, other, alpha)
        if is_real:
            return (
                f"Rate {rate:.4g}: masks of one shape, of {size} units, have correlation "
                f"{correlation:.3f}"
            )
    return None


def _shared(masks: list[tuple[Step, Mask]], alpha: float) -> str | None:
    """Masks of one shape and themselves, moved by one along an axis, are uncorrelated.

    What is moved over an end meets the next row or mask: it is independent of that, too.
    """
    step = masks[0][0]
    if step.x.size < 200:
        return None
    units = np.concatenate([mask for _, mask in masks])
    for axis, length in enumerate(step.x.shape):
        if length < 2:
            continue
        moved = math.prod(step.x.shape[axis + 1 :])
        correlation, is_real = _correlation(units[:-moved], units[moved:], alpha)
        if is_real:
            return (
                f"Rate {step.rate:.4g}: neighbours along axis {axis} of a mask have correlation "
                f"{correlation:.3f}"
            )
    return None


def _correlation(one: Mask, other: Mask, alpha: float) -> tuple[float, bool]:
    """The correlation of units with others, and whether it is above its limit."""
    n = one.size
    p, q, both = (int(np.count_nonzero(units)) / n for units in (one, other, one & other))
    if not (0 < p < 1 and 0 < q < 1):
        return 0.0, False
    correlation = (both - p * q) / math.sqrt(p * (1 - p) * q * (1 - q))
    # Mostly it is far below the limit, which takes time to compute.
    above = correlation**2 * n > 2 * math.log(2 / alpha)
    return correlation, above and bool(abs(correlation) > correlation_limit((p, q), n, alpha))


def _structure(masks: list[tuple[Step, Mask]], n: int, alpha: float) -> str | None:
    """The beginning of a mask and itself, moved by any number of units, are uncorrelated.

    So are it and its mirror image. That finds masks that are folded or regular.
    """
    if not masks:
        return None
    units = np.array([mask[:n] for _, mask in masks], dtype=np.float32)
    p = units.mean(axis=1)  # of a mask that is all one, z is nan: it is correlated with nothing
    z = (units - p[:, None]) / np.sqrt(n * p * (1 - p))[:, None]
    spectra = np.fft.rfft(z, 2 * n)
    products = {
        "moved": (spectra * spectra.conj(), 1),
        "mirrored and moved": (spectra * spectra, 2),
    }
    for how, (product, sets) in products.items():
        correlations = np.abs(np.fft.irfft(product, 2 * n))
        if how == "moved":
            correlations[:, 0] = 0.0  # a mask and itself
        limits = correlation_limit((p, p), n, alpha, 4 * n * len(p), sets)
        found = correlations.max(axis=1)
        for index in np.flatnonzero(found > limits):
            return (
                f"Rate {masks[index][0].rate:.4g}: a mask and itself, {how} by "
                f"{correlations[index].argmax()} units, have correlation {found[index]:.3f}"
            )
    return None


def correlation_limit(
    rates: tuple[Any, Any], n: int, alpha: float, tests: int = 1, sets: int = 1
) -> Any:
    """How far the correlation of two independent masks of n units may be from 0.

    It is the mean of n products of standardised terms (a - p) / sqrt(pq), of variance 1 and at most
    M, so by Bernstein's inequality at most sqrt(2 L / n) + 2 M L / (3 n), with
    L = log(2 tests / alpha). The products of a mask and itself, moved, are not independent, but
    those of a martingale whose squared terms have the mean 1: the same bound holds (Freedman 1975).
    Of mirrored masks all come twice: n / sets for n.
    As p is taken from the masks themselves (a wrong drop rate is no matter of this check), it
    is moved by the product of the two standardised errors, which is at most 2 L / n.
    """
    level = math.log(2 * tests / alpha)
    largest = math.prod(np.maximum(p, 1 - p) / np.sqrt(p * (1 - p)) for p in rates)
    return np.sqrt(2 * level * sets / n) + 2 * level * (largest * sets / 3 + 1) / n


def _come_again(
    masks: list[tuple[Step, Mask]], place: float, drop_rates: dict[float, float], alpha: float
) -> str | None:
    """The beginning of a mask, and a piece from another place, are once in the masks of its rate.

    Two units are equal with probability r = p^2 + q^2. That m of them, one after another, are those
    s units away, has the probability r^m for s >= m. For s < m they are s chains of units that are
    all equal: p^k + q^k <= r^(k/2) for one of k units, so r^((m + s) / 2) for all. For p = 1/2 the
    same holds for units that are all unequal (antithetic). Of each mask two pieces are compared in
    two ways with the units at all places.
    """
    level = 2 * math.log(alpha / (4 * len(masks) * sum(mask.size for _, mask in masks) + 1))
    complement = bytes(range(255, -1, -1))
    for rate, several in itertools.groupby(masks, key=lambda one: one[0].rate):
        p, of_rate = drop_rates[rate], [mask.view(np.uint8) for _, mask in several]
        log_r = math.log(p**2 + (1 - p) ** 2)
        # Of every unit and the seven after it, one byte: looking for bytes that vary is fast.
        units = np.concatenate(of_rate)
        for moved in (1, 2, 4):
            units[:-moved] |= units[moved:] << moved
        data, start = units[:-7].tobytes(), 0
        for mask in of_rate:
            if log_r * mask.size <= 2 * level:  # in less than 2m units there is little to find
                m = math.ceil(level / log_r)
                for at in (start, start + int(place * (mask.size - m))):
                    piece = data[at : at + m - 7]
                    again = data.find(piece) < at or data.find(piece, at + 1) >= 0
                    if again or (rate == 0.5 and piece.translate(complement) in data):
                        return (
                            f"Rate {rate:.4g}: {m} units of a mask, one after another, come again, "
                            "or their opposites do: they are not independent."
                        )
            start += mask.size
    return None


def _too_even(
    masks: list[tuple[Step, Mask]],
    some: list[tuple[Step, Mask]],
    drop_rates: dict[float, float],
    alpha: float,
) -> str | None:
    """Of independent units, the number dropped varies: between masks, and between rows of one."""
    exponents = {"mask": 0.0, "row of a mask": 0.0}
    if masks:
        dropped = np.array([np.count_nonzero(mask) for _, mask in masks])
        rates = np.array([drop_rates[step.rate] for step, _ in masks])
        sizes = np.array([mask.size for _, mask in masks])
        exponents["mask"] = _evenness(sizes, rates, dropped)
    if some:
        # To sum booleans takes twice as long.
        rows = [mask.view(np.int8).reshape(-1, step.x.shape[-1]) for step, mask in some]
        dropped = np.concatenate([row.sum(axis=1, dtype=np.int32) for row in rows])
        of_some = [(step.x.shape[-1], drop_rates[step.rate]) for step, _ in some]
        sizes, rates = np.repeat(of_some, [len(row) for row in rows], axis=0).T
        exponents["row of a mask"] = _evenness(sizes, rates, dropped)
    for name, exponent in exponents.items():
        if exponent <= math.log(alpha):
            return f"About the same number is dropped in every {name}: units are not independent."
    return None


def _evenness(n: Any, p: Any, dropped: Any) -> float:
    """The logarithm of a bound: how likely numbers of n units dropped vary as little as these.

    For Y = (k - np)^2 / npq of B groups of units, Chernoff's bound is
    P(Y_1 + ... + Y_B <= y) <= exp(3 y) E[exp(-3 Y)]^B. The mean is 1 / sqrt(7) for a normal
    variable, and less than 5 % larger for a binomial one with npq >= 12; others are left out.
    """
    variance = n * p * (1 - p)
    terms = 3 * np.square(dropped - n * p) / variance + math.log(1.05 / math.sqrt(7))
    return float(np.sum(terms, where=variance >= 12))


def check_drop_rate(evidence: Evidence) -> Finding:
    """In training each unit is dropped with probability dropout_rate: in all, by kind of call, and
    by sign and size of the data; at each rate, and at all together."""
    calls = evidence.calls
    assert calls is not None
    kinds = {kind: number for number, kind in enumerate(_WHERE)}
    half = len(evidence.outcomes) // 2
    by_call = [
        [kinds.setdefault(kind, len(kinds)) for kind in _kinds(step, number < half)]
        for step, number in zip(calls.steps, calls.numbers, strict=True)
    ]
    of_calls = np.array(by_call).T
    kind = np.concatenate([np.arange(len(_WHERE))[:, None].repeat(len(by_call), 1), of_calls])
    n, k = (
        np.concatenate([counts, counts[:1].repeat(len(of_calls), 0)])
        for counts in (calls.units, calls.drops)
    )
    rates, at = np.unique([step.rate for step in calls.steps], return_inverse=True)
    # The first group of kinds is for all rates together, then there is one for each rate.
    group = np.array([kind, kind + len(kinds) * (1 + at)]).ravel()
    units, dropped, expected = (
        np.bincount(group, np.array([term, term]).ravel(), len(kinds) * (1 + len(rates)))
        for term in (n, k, n * rates[at])
    )
    alphas = np.full(len(units), evidence.stage.alpha)
    graded = 1 + np.flatnonzero(np.isin(rates, GRADED_RATES))
    alphas[len(kinds) * graded] = evidence.stage.drop_rate_alpha
    some = np.flatnonzero(units)
    p = expected[some] / units[some]
    right = _is_plausible(dropped[some], units[some], p, alphas[some])
    wrong = some[~right]
    for index in (*wrong[wrong >= len(kinds)], *wrong):  # first a rate by itself, and all its units
        which, name = divmod(int(index), len(kinds))
        where = f"Rate {rates[which - 1]:.4g}" if which else "At all rates together"
        return Finding(
            f"{where}: expected a fraction of {expected[index] / units[index]:.4g} of the units to "
            f"be dropped, measured {dropped[index] / units[index]:.4f} of {units[index]:,.0f} "
            f"units {list(kinds)[name].partition(' #')[0]}".rstrip() + ".",
            "wrong_drop_rate",
        )
    return Finding("the fraction of units dropped is dropout_rate")


def _kinds(step: Step, early: bool) -> tuple[str, ...]:
    """The kinds of call in which the drop rate is looked at by itself."""
    return (
        f"in arrays of {_size_class(step.x.size)}",
        f"in arrays with {step.x.ndim} axes",
        f"in arrays of {step.x.itemsize} bytes an element",
        "in contiguous arrays" if step.x.flags.c_contiguous else "in strided arrays",
        "in the first calls" if early else "in the later calls",
        f"in calls of one layer #{step.layer}",  # the number is for us
        "after train()" if step.phase == "retrain" else "before any eval()",
    )


def _is_plausible(k: Any, n: Any, p: Any, alpha: Any) -> Any:
    """Whether k of n units, dropped with probability p on average, is no more unlikely than alpha.

    Chernoff's bound: a fraction as far off as f = k / n has a probability of at most
    2 exp(-n D), with the divergence D = f log(f / p) + (1 - f) log((1 - f) / (1 - p)).
    It holds for units of different probabilities too (Hoeffding 1963, theorem 1).
    """

    def term(k: Any, expected: Any) -> Any:
        return k * np.log(np.maximum(k, 1) / expected)  # 0 for k = 0

    return term(k, n * p) + term(n - k, n * (1 - p)) <= np.log(2 / alpha)


def check_one_factor(evidence: Evidence) -> Finding:
    """At one rate, every survivor of every call is multiplied by the same positive number."""
    for rate in evidence.rates:
        if not rate.survivors:
            continue
        spread = rate.highest - rate.lowest
        if not spread <= FACTOR_TOLERANCE * abs(rate.highest) < math.inf:
            return Finding(
                f"Rate {rate.rate:.4g}: expected one factor for all survivors, measured factors "
                f"from {rate.lowest:.6g} to {rate.highest:.6g}.",
                "data_dependent_scaling",
            )
        if rate.lowest <= 0:
            return Finding(
                f"Rate {rate.rate:.4g}: expected a positive factor, measured {rate.lowest:.6g}.",
                "wrong_factor",
            )
    return Finding("one factor for all survivors at each rate")


def check_variance(evidence: Evidence) -> Finding:
    """For zero-mean input, Var(output) is within 10 % of Var(input) at every rate."""
    ratios = {rate.rate: rate.variance_ratio for rate in evidence.measured}
    shown = ", ".join(
        (_figure(ratios[rate]) if rate in ratios else "nothing measurable") + f" at rate {rate}"
        for rate in GRADED_RATES
    )
    worst = max(ratios, key=lambda rate: abs(ratios[rate] - 1), default=0.0)
    if abs(ratios.get(worst, 1.0) - 1) <= VARIANCE_TOLERANCE:
        # At a rate close to 1, nothing may survive; what did has to be measurable.
        needed = {*GRADED_RATES} | {rate.rate for rate in evidence.rates if rate.survivors}
        if needed <= ratios.keys():
            return Finding(f"Var(output) / Var(input): {shown}")
        return Finding(NOT_REACHED, "not_reached")  # an earlier check says why
    if worst not in GRADED_RATES:
        shown += f", {_figure(ratios[worst])} at rate {worst:.4g}"
    return Finding(
        f"Expected Var(output) / Var(input) within {VARIANCE_TOLERANCE:.0%} of 1 for zero-mean "
        f"input, measured {shown}.",
        _name_factor(evidence),
    )


def _figure(ratio: float) -> str:
    return f"{ratio:.3f}" if abs(ratio) < 1e4 else f"{ratio:.3g}"


def _name_factor(evidence: Evidence) -> str:
    """The failure mode for a wrong factor: which formula fits it at every measured rate."""

    def fits(formula: Callable[[float, float], float]) -> bool:
        return all(abs(r.highest / formula(r.rate, 1 - r.rate) - 1) < 1e-3 for r in measured)

    measured = evidence.measured
    if fits(lambda p, q: 1 / q):
        unchanged = evidence.submission.source == BUGGY_IMPLEMENTATION.encode()
        return "mean_preserving_scaling" + ("_unchanged" if unchanged else "")
    names = (f"wrong_factor: {name}" for name, formula in WRONG_FACTORS.items() if fits(formula))
    return next(names, "wrong_factor")


def check_eval(evidence: Evidence) -> Finding:
    """After eval() the output equals the input; train() switches dropout on again."""
    calls = evidence.calls
    steps = zip(calls.steps, calls.drops[0], strict=True) if calls else ()
    on = {step.rate for step, dropped in steps if dropped}
    for outcome in evidence.outcomes:
        step, y, _ = outcome
        if step.op != "call" or y is None:
            continue
        if step.phase == "eval" and not np.array_equal(y, step.x.ravel()):
            return Finding(
                f"{_call_text(step)}: expected the output of eval mode to equal the input exactly.",
                "eval_mode",
            )
        if step.phase == "retrain" and not _drops(outcome):
            if step.rate not in on:  # nor did it before, as the check of the drop rate says
                return Finding(NOT_REACHED, "not_reached")
            return Finding(
                f"{_call_text(step)}: expected dropout to be on again after train(), got no zeros.",
                "eval_mode",
            )
    return Finding("the output of eval mode equals the input; train() switches dropout on again")


def check_zero_rate(evidence: Evidence) -> Finding:
    """At rate 0, the output equals the input in training, too."""
    for step, y, _ in evidence.outcomes:
        if step.op != "call" or step.phase != "zero" or y is None:
            continue
        if not np.array_equal(y, step.x.ravel()):
            return Finding(
                f"{_call_text(step)} must return exactly its input, and did not.", "zero_rate"
            )
    return Finding("the output equals the input")


def check_root(evidence: Evidence) -> Finding:
    """The source uses a square root or power function, judged on its compiled code."""
    if evidence.has_root:
        return Finding("used")
    return Finding(
        "Expected the code to compute the factor with a square root or power function, found none.",
        "no_sqrt_or_power",
    )


def _needs(what: str, check: Callable[[Evidence], Finding]) -> Callable[[Evidence], Finding]:
    def checked(evidence: Evidence) -> Finding:
        return check(evidence) if getattr(evidence, what) else Finding(NOT_REACHED, "not_reached")

    return checked


# In this order: the first that fails names the failure mode.
CHECKS: tuple[tuple[str, Callable[[Evidence], Finding]], ...] = (
    ("test file", check_test_file),
    ("runs", check_runs),
    ("interface", _needs("outcomes", check_interface)),
    ("mask", _needs("calls", check_mask)),
    ("drop rate", _needs("calls", check_drop_rate)),
    ("one factor", _needs("calls", check_one_factor)),
    ("variance", _needs("calls", check_variance)),
    ("eval mode", _needs("outcomes", check_eval)),
    ("rate zero", _needs("outcomes", check_zero_rate)),
    ("square root or power", _needs("outcomes", check_root)),
)


# The failure modes that a right submission can have, by chance.
STATISTICAL = {"mask_not_random", "wrong_drop_rate"}


def judge(evidence: Evidence) -> list[tuple[str, Finding]]:
    """What the checks find; nothing if they are in doubt, and another stage has to tell.

    A right submission is in doubt once in some hundreds of times, and a wrong one seldom: mostly
    a check fails without any statistics, or even at ALPHA.
    """
    findings = _findings(evidence)
    by_chance = {finding.failure_mode for _, finding in findings} & STATISTICAL
    if by_chance and evidence.stage.alpha > ALPHA:
        stage = evidence.stage._replace(alpha=ALPHA, drop_rate_alpha=ALPHA)
        findings = _findings(evidence._replace(stage=stage))
        if not any(finding.failure_mode for _, finding in findings):
            return []
    return findings


def _findings(evidence: Evidence) -> list[tuple[str, Finding]]:
    with np.errstate(all="ignore"):  # of a mask that is all one there is no correlation
        return [(name, check(evidence)) for name, check in CHECKS]


def _call_text(step: Step) -> str:
    mode = "eval" if step.phase == "eval" else "training"
    return f"A call at rate {step.rate:.4g} in {mode} on {step.x.dtype} of shape {step.x.shape}"


def _step_text(step: Step) -> str:
    if step.op == "call":
        return _call_text(step)
    if step.op == "end":
        return "After all calls"
    if step.op == "mode":
        return f"After {step.argument}()"
    if step.op == "bad":
        return "VarianceStabilizedDropout, with rates outside of [0, 1)"
    argument = "" if step.argument == {} else f"{step.rate:.4g}"
    return f"VarianceStabilizedDropout({argument})"


# --- The worker -----------------------------------------------------------------------------------

_LINUX = sys.platform == "linux"
_START_LIMIT_S = 60.0
# A worker enforces the time limit; it gets this much longer to say so.
_GRACE_S = 5.0
_FRAME_KINDS = {b"A\0\0\0": "A", b"X\0\0\0": "X", b"V\0\0\0": "V"}  # array, exception, violation


class _Worker:
    """The trusted side's handle on a process that runs `_child_program`.

    Protocol: the worker is sent one end of a channel and forks a process that holds it, before
    there is a submission. Source and arrays go over the channel, straight between the trusted side
    and that process. Meanwhile the worker is told the time limit, and the next channel; it waits,
    and answers with how the process ended.
    """

    def __init__(self, sandbox: str) -> None:
        """Start a process; raises GradingError with what it said if it does not get ready."""
        self.sandbox, self.filtered = sandbox, False
        command = _worker_command(sandbox)
        self._control, theirs = socket.socketpair()
        self._channel, its_end = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd="/",
                env=_clean_environment(),
                start_new_session=True,
            )
        except OSError as error:
            self._control.close()
            self._channel.close()
            its_end.close()
            raise GradingError(f"expected to start {command[0]}, got: {error}") from error
        finally:
            theirs.close()
        self._control.settimeout(_START_LIMIT_S)
        try:
            with its_end:
                self._control.sendall(_pool())
                socket.send_fds(self._control, [b"\0"], [its_end.fileno()])
            ready = self._control.recv(1)
        except OSError:
            ready = b""
        if not ready:
            os.killpg(self._process.pid, signal.SIGKILL)
            said = self._process.communicate()[1].decode("utf-8", "replace").strip()[-2000:]
            self.close()
            raise GradingError(f"expected sandbox {sandbox} to start, got: {said or 'nothing'}")
        # Without the system-call filter something may stay behind: then a worker serves once.
        self.filtered = bool(ready[0] & 1)
        self.files_hidden = sandbox == "bubblewrap" or bool(ready[0] & 2)

    def run(
        self, source: bytes, draw: Callable[[], Probe], time_limit: float, rounds: int
    ) -> tuple[Run, Probe]:
        """Run a source on the probe that is drawn while it is parsed, for so many time limits."""
        following, its_end = socket.socketpair()
        channel, self._channel = self._channel, following
        deadline = time.monotonic() + time_limit * rounds + _GRACE_S
        with channel:
            _send(channel, marshal.dumps((zlib.crc32(source), source)), deadline)
            with its_end:
                try:
                    message = struct.pack("=d", time_limit * rounds)
                    socket.send_fds(self._control, [message], [its_end.fileno()])
                except OSError:
                    return Run([], "worker lost", "its parent process was lost"), draw()
            probe = draw()
            sizes = [1, 0, *(step.x.nbytes for step in probe.steps)]
            _send(channel, _encode_steps(probe), deadline)
            with contextlib.suppress(OSError):
                channel.shutdown(socket.SHUT_WR)
            reply = _receive(channel, sum(sizes) + len(sizes) * (16 + _TEXT_LIMIT), deadline)
        self._control.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            answer = self._control.recv(16)
        except OSError:
            answer = b""
        if len(answer) != 16:
            return Run([], "worker lost", "its parent process was lost"), probe
        return _decode_run(reply, len(sizes), answer, time_limit), probe

    def stop(self) -> None:
        """From another thread: have the process end what it runs, and itself."""
        _shut_down(self._control)

    def close(self) -> None:
        """End the process and everything in its session."""
        _shut_down(self._control)
        self._control.close()
        self._channel.close()
        if self._process.stderr is not None:
            self._process.stderr.close()
        if self.filtered:
            # It ends by itself, and leaves nothing: of what is killed, another process would have
            # to collect the remains, which the first one in a container may not do.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_S)
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def _start_worker(sandbox: str) -> _Worker:
    """A worker in the sandbox asked for; "auto" remembers whether bubblewrap works here."""
    global _bubblewrap_works
    if sandbox != "auto":
        return _Worker(sandbox)
    if _bubblewrap_works is not False and shutil.which("bwrap"):
        for last in (False, True):  # twice, as what has failed once may have been killed
            try:
                worker = _Worker("bubblewrap")
            except GradingError:
                if _bubblewrap_works:
                    raise  # it worked before: this is no matter of permissions
                _bubblewrap_works = False if last else None
            else:
                _bubblewrap_works = True
                return worker
    return _Worker("process")


_bubblewrap_works: bool | None = None


def _encode_steps(probe: Probe) -> bytes:
    """Trusted data for the other side, which is the same interpreter: so marshal, for its speed."""
    return marshal.dumps([(step.op, step.layer, step.argument) for step in probe.steps])


def _send(channel: socket.socket, data: bytes, deadline: float) -> None:
    """Send all, or as much as the other side takes until the deadline."""
    channel.settimeout(max(deadline - time.monotonic(), 0.001))
    with contextlib.suppress(OSError):
        channel.sendall(data)


def _receive(channel: socket.socket, limit: int, deadline: float) -> memoryview:
    """Receive until the other side closes, `limit` bytes have come, or the deadline."""
    data = np.empty(limit, np.uint8)  # not a bytearray: it would touch all of its memory
    view, size = memoryview(data), 0  # type: ignore[arg-type]
    with contextlib.suppress(OSError):
        while size < limit:
            channel.settimeout(max(deadline - time.monotonic(), 0.001))
            count = channel.recv_into(view[size:])
            if not count:
                break
            size += count
    return view[:size]


def _decode_run(reply: memoryview, frames_expected: int, answer: bytes, time_limit: float) -> Run:
    """Decode a reply: frames of a kind (A, X, V), a length, a payload, and zeros up to 8 bytes.

    A frame that is cut off, or of no known kind, ends the list: what follows is not believed.
    """
    timed_out, status, peak_kib = struct.unpack("=iiq", answer)
    frames: list[tuple[str, memoryview]] = []
    at = 0
    while at + 8 <= len(reply) and len(frames) < frames_expected:
        kind, size = struct.unpack_from("=4sI", reply, at)
        start, at = at + 8, at + 8 + size + -size % 8
        if kind not in _FRAME_KINDS or at > len(reply):
            break
        frames.append((_FRAME_KINDS[kind], reply[start : start + size]))
    if timed_out:
        return Run(frames, "timeout", f"{time_limit:g} s")
    if len(frames) == frames_expected and at == len(reply):
        return Run(frames, "done", "")
    if len(frames) in (1, 2) and frames[-1][0] != "A":
        return Run(frames, "done", "")
    code = os.waitstatus_to_exitcode(status)
    if code == _NOT_READY and not frames:  # nothing of the submission has run
        return Run(frames, "killed", "it could not take the submission")
    if code == -signal.SIGKILL and peak_kib < MEMORY_LIMIT_BYTES >> 12:
        # It used little memory, and where the filter works it has no way to a signal 9 of its own.
        return Run(frames, "killed", "it was killed (signal 9)")
    how = f"exit code {code}" if code >= 0 else f"signal {-code} ({signal.strsignal(-code)})"
    return Run(frames, "died", how)


# --- The child program ----------------------------------------------------------------------------

_TEXT_LIMIT = 300
_NOT_READY = 71  # the exit code of a child that could not take a submission


def _child_program() -> None:
    """What runs on the untrusted side: a worker that forks a process for every submission.

    Only this function's text goes there, as `python -I -S -c`, so it is self-contained: imports
    inside, no names of this module. Nothing here is secret, and nothing that it returns is believed
    but for the first frame of a reply, which is written before the submission runs.

    It loads NumPy, closes the file system behind it, says on the control socket (standard input)
    which protections it could set up, and then serves: a time limit and the next channel at a time.
    The worker never reads from a channel, so it holds nothing that one submission could leave to
    another.
    """
    import ctypes
    import dis
    import gc
    import itertools
    import json
    import marshal
    import os
    import random
    import resource
    import select
    import signal
    import socket
    import struct
    import sys
    import time
    import types
    from typing import Any, NoReturn  # noqa: F401 - annotations are evaluated on the other side

    (
        packages, readable, filter_hex, memory_limit, text_limit, not_ready, pool_size, callers,
    ) = json.loads(sys.argv[1])
    sys.path.append(packages)
    import numpy as np
    import numpy.random

    sys.path.remove(packages)  # NumPy and the standard library only
    sys.argv[1:] = []
    libc = ctypes.CDLL(None, use_errno=True)
    filter_code = bytes.fromhex(filter_hex)

    def filter_usable() -> bool:
        # Linux answers EFAULT to a filter at address 0, and EINVAL where it knows no filters.
        return bool(filter_code) and libc.prctl(22, 2, None, 0, 0) and ctypes.get_errno() == 14

    def hide_files() -> bool:
        # Landlock (Linux 5.13): from now on these paths can be read, and none be written.
        ruleset = libc.syscall(444, struct.pack("=Q", (1 << 13) - 1), 8, 0)
        for path in readable if ruleset >= 0 else ():
            if os.path.exists(path):
                rights = 0b1100 if os.path.isdir(path) else 0b0100  # read directories, read files
                place = os.open(path, os.O_PATH)
                libc.syscall(445, ruleset, 1, struct.pack("=Qi", rights, place), 0)
                os.close(place)
        return ruleset >= 0 and not libc.prctl(38, 1, 0, 0, 0) and not libc.syscall(446, ruleset, 0)

    program = ctypes.create_string_buffer(filter_code, len(filter_code))
    count = struct.pack("HxxxxxxP", len(filter_code) // 8, ctypes.addressof(program))

    def forbid_system_calls() -> None:
        if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, count, 0, 0):
            os._exit(not_ready)

    def serve() -> None:
        control = socket.socket(fileno=0)
        pool, read = memoryview(bytearray(pool_size)), 0
        while read < pool_size:
            count = control.recv_into(pool[read:])
            if not count:
                os._exit(0)
            read += count
        _, (channel,), _, _ = socket.recv_fds(control, 1, 1)
        calls = [caller(*names) for names in callers]
        filtered = filter_usable()
        wake, woken = os.pipe()
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])  # the caller may block SIGCHLD
        signal.signal(signal.SIGCHLD, lambda *_: None)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 2)
        hidden = bool(readable) and hide_files()
        patch_generators()
        gc.collect()
        gc.freeze()
        np.empty(16 << 20, np.uint8)  # freed at once: malloc then keeps freed pages (mallopt(3))
        control.sendall(bytes([filtered + 2 * hidden]))
        while True:
            # Forked ahead, while the trusted side looks at the arrays of the submission before.
            to_child, from_worker = socket.socketpair()
            child = os.fork()
            if child == 0:
                try:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    os.dup2(null, 0)  # closes the control socket
                    to_child.close()
                    if sys.platform == "linux":  # it ends with the worker: PR_SET_PDEATHSIG
                        libc.prctl(1, signal.SIGKILL, 0, 0, 0)
                    limit_resources(filtered)
                    say = os.dup(from_worker.fileno())
                    os.dup2(channel, 3)
                    os.dup2(say, 4)
                    os.closerange(5, 4096)
                    if filtered:
                        forbid_system_calls()
                except BaseException:
                    os._exit(not_ready)
                try:
                    grade(3, pool, calls)
                finally:
                    os._exit(72)
            from_worker.close()
            os.close(channel)
            message, descriptors, _, _ = socket.recv_fds(control, 8, 1)
            if not message:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                os._exit(0)
            deadline, channel = time.monotonic() + struct.unpack("=d", message)[0], descriptors[0]
            with to_child:
                wait_for(child, control, wake, to_child, deadline)

    def wait_for(child: int, control: Any, wake: int, to_child: Any, deadline: float) -> None:
        # Answers how the child ended: by itself, at the time limit, or having said that it has.
        timed_out, watched = False, [control, wake, to_child]
        while True:
            pid, status, usage = os.wait4(child, 0 if timed_out else os.WNOHANG)
            if pid:
                control.sendall(struct.pack("=iiq", timed_out, status, usage.ru_maxrss))
                return
            left = deadline - time.monotonic()
            if left <= 0:
                timed_out = True
                os.kill(child, signal.SIGKILL)
                continue
            ready, _, _ = select.select(watched, [], [], left)
            if wake in ready:
                os.read(wake, 64)
            if control in ready:  # the trusted side is gone
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                os._exit(0)
            if to_child in ready:
                try:
                    said = to_child.recv(1)
                except OSError:
                    said = b""
                if said:  # all is sent: to take it down lasts as long as to start the next one
                    try:
                        control.sendall(struct.pack("=iiq", 0, 0, 0))
                    finally:
                        os.kill(child, signal.SIGKILL)
                        os.waitpid(child, 0)
                    return
                watched.remove(to_child)

    def limit_resources(filtered: bool) -> None:
        limits = {
            resource.RLIMIT_AS: memory_limit,
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_FSIZE: 0,
        }
        if not filtered:
            limits[resource.RLIMIT_NPROC] = 0
        for which, value in limits.items():
            try:
                resource.setrlimit(which, (value, value))
            except (ValueError, OSError):
                pass  # not every system has every limit

    stream = random.Random()

    def patch_generators() -> None:
        for module, name in ((os, "urandom"), (random, "_urandom")):
            setattr(module, name, stream.randbytes)
        setattr(np.random.bit_generator, "randbits", stream.getrandbits)  # noqa: B010
        os.getpid = lambda: 3  # the filter hides the real one, which would differ every time
        if hasattr(os, "sched_getaffinity"):  # nor does it tell which core this is
            os.sched_getaffinity = lambda _: {0}

    def seed_generators(seed: int) -> None:
        # The same code meets the same numbers, whichever generator it uses.
        np.random.seed(seed)
        random.seed(seed)
        stream.seed(seed + 1)  # another stream than that of `random`

    def grade(channel: int, pool: memoryview, calls: list[Any]) -> None:
        # Held in local variables: a submission may replace what the modules hold.
        write, exit_now, close = os.write, os._exit, os.close
        ndarray, zeros = np.ndarray, np.zeros
        dtypes = {"<f4": np.dtype("<f4"), "<f8": np.dtype("<f8")}
        scalars = {"<f4": np.float32, "<f8": np.float64}
        contiguous: Any = np.ascontiguousarray
        given: list[Any] = []
        returned: list[Any] = []

        outbox = bytearray()

        def send(kind: bytes, payload: Any) -> None:
            size = len(payload)
            outbox.extend(kind + b"\0\0\0" + size.to_bytes(4, "little"))
            if size < 1 << 15:
                outbox.extend(payload)
            else:
                flush()
                write_all(payload)
            outbox.extend(bytes(-size % 8))  # so that arrays are aligned on the other side
            if len(outbox) > 1 << 16:
                flush()

        def flush() -> None:
            write_all(outbox)
            outbox.clear()

        def finish() -> NoReturn:
            flush()
            close(channel)
            write(channel + 1, b"\1")  # the worker need not wait until this process is taken down
            exit_now(0)

        def write_all(data: Any) -> None:
            with memoryview(data) as view:
                sent = 0
                while sent < len(view):
                    sent += write(channel, view[sent:])

        def send_text(kind: bytes, text: str) -> None:
            send(kind, text.encode("utf-8", "replace")[:text_limit])

        def describe(error: BaseException) -> str:
            lines, trace = [], error.__traceback__
            while trace:
                if trace.tb_frame.f_code.co_filename == "dropout.py":
                    lines.append(trace.tb_lineno)
                trace = trace.tb_next
            where = f" (dropout.py, line {lines[-1]})" if lines else ""
            return f"{type(error).__name__}: {error}"[:200] + where

        request = open(channel, "rb", closefd=False)  # noqa: SIM115 - as long as it lives
        try:
            seed, source = marshal.load(request)
        except BaseException:
            exit_now(not_ready)
        try:
            code = compile(source, "dropout.py", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, LookupError, RecursionError, MemoryError) as error:
            send_text(b"X", describe(error))
            finish()
        send(b"A", b"\1" if uses_root(code) else b"\0")
        flush()  # before the submission runs: this frame is believed
        steps = marshal.loads(request.read())
        seed_generators(seed)

        module = types.ModuleType("dropout")
        module.__file__ = "dropout.py"
        sys.modules["dropout"] = module
        try:
            exec(code, module.__dict__)
        except BaseException as error:
            send_text(b"X", describe(error))
            finish()
        layer_class = module.__dict__.get("VarianceStabilizedDropout")
        if not isinstance(layer_class, type):
            send_text(b"V", "dropout.py defines no class VarianceStabilizedDropout")
            finish()
        send(b"A", b"")
        flush()
        layers: dict[int, Any] = {}
        latest: list[Any] = [None, None]

        def run(op: str, index: int, argument: Any) -> tuple[bytes, Any]:
            if op == "bad":
                refused = zeros(len(argument))
                for at, rate in enumerate(argument):
                    try:
                        layer_class(rate)
                    except ValueError:
                        refused[at] = 1.0
                return b"A", refused.tobytes()
            if op == "end":
                if any(modified(*one) for one in given):
                    return b"V", b"an input was modified"
                if any(y.tobytes() != before for y, before in returned):
                    return b"V", b"an array that was returned has changed"
                return b"A", b""
            if op == "new":
                kind = type(argument)
                layers[index] = layer_class(*argument) if kind is list else layer_class(**argument)
            elif index not in layers:
                return b"V", b"the layer could not be made"
            elif op == "call":
                if argument != latest[0]:  # the same data come as the same object
                    latest[:] = argument, make_input(*argument)
                return call(layers[index], *latest[1])
            elif argument == "eval":
                layers[index].eval()
            else:
                layers[index].train()
            state = zeros(2)
            state += (layers[index].dropout_rate + 0.0, layers[index].training + 0.0)
            return b"A", state.tobytes()

        def make_input(
            dtype: str, axes: Any, start: int, stop: int, offset: int, strides: Any, memory: str,
            who: int,
        ) -> tuple[Any, ...]:
            shape: Any = tuple(axes)
            if memory in dtypes:  # a copy, which is compared with what was copied
                before: Any = ndarray(shape, dtype, pool, start + offset, strides)
                return calls[who], memory, False, before.astype(memory, "C"), shape, pool, before
            data = bytearray(pool[start:stop])  # a view: what lies below it is compared
            x: Any = ndarray(shape, dtype, data, offset, strides)
            x.flags.writeable = memory != "r"
            return calls[who], dtype, memory == "r", x, shape, data, pool[start:stop]

        def call(
            layer: Any, calling: Any, dtype: str, read_only: bool, x: Any, shape: Any, data: Any,
            before: Any,
        ) -> tuple[bytes, Any]:
            try:
                y: Any = calling(layer, x)
            except ValueError as error:
                if read_only and "read-only" in str(error):
                    return b"V", b"x, which was read-only, was written to"
                raise
            if modified(x, shape, data, before):
                return b"V", b"x was modified"
            if x.nbytes < 1 << 14:  # the same holds in the end; memory is what takes time here
                given.append((x, shape, data, before))
            kind: Any = type(y)
            if kind is not ndarray and not (shape == () and kind is scalars[dtype]):
                wanted = "a plain ndarray" if shape else f"an ndarray or a {dtypes[dtype]}"
                return b"V", f"expected {wanted}, got {kind.__name__}".encode()
            if y.shape != shape or y.dtype != dtypes[dtype]:
                wanted = f"expected {dtypes[dtype]} of shape {shape}"
                return b"V", f"{wanted}, got {y.dtype} of shape {y.shape}".encode()
            if y.nbytes < 1 << 14:
                returned.append((y, y.tobytes()))
                return b"A", returned[-1][1]
            return b"A", memoryview(contiguous(y)).cast("B")  # no copy of a large result

        def modified(x: Any, shape: Any, data: Any, before: Any) -> bool:
            if x.shape != shape:
                return True
            return bool((x != before).any() if type(before) is ndarray else data != before)

        for step in steps:
            try:
                kind, payload = run(*step)
            except BaseException as error:
                send_text(b"X", describe(error))
            else:
                send(kind, payload)
        finish()

    def caller(file: str, name: str) -> Any:
        # A function of that name and file, which calls the layer.
        code = compile("lambda layer, x: layer(x)", file, "eval")
        function = eval(code)
        return types.FunctionType(function.__code__.replace(co_name=name), {}, name)

    names = {"sqrt", "isqrt", "cbrt", "pow", "power", "float_power", "ipow", "exp2"}
    names |= {"__pow__", "__rpow__", "__ipow__"}

    def operations(code: types.CodeType) -> set[tuple[int, int]]:
        return set(zip(code.co_code[::2], code.co_code[1::2], strict=True))

    powers = operations(compile("a ** b; a **= b", "", "exec"))
    powers -= operations(compile("a * b; a *= b", "", "exec"))
    extended, named = dis.opmap["EXTENDED_ARG"], {dis.opname[code] for code in dis.hasname}
    loading = {"LOAD_GLOBAL", "LOAD_NAME"}
    attributes = {"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "LOAD_SUPER_METHOD"}
    binding = {dis.opmap[name] for name in named if name.startswith(("STORE", "DELETE", "IMPORT"))}

    def uses_root(code: types.CodeType) -> bool:
        # By what the compiled code does: no comment and no string is left in it.
        codes = [code]
        for one in codes:
            if not powers.isdisjoint(operations(one)):
                return True
            codes += [inner for inner in one.co_consts if isinstance(inner, types.CodeType)]
        # To look at every instruction takes a tenth of a grade. Mostly a name will do: what the
        # code has a name for, and neither it nor the module binds, it takes from elsewhere. (An
        # attribute counts, whosever it is.)
        own = names_bound(code)
        for one in codes:
            found = names.intersection(one.co_names) - own
            if found and found - names_bound(one):
                return True
        called: set[str] = set()
        for one in codes:
            if names.isdisjoint(one.co_names):
                continue
            steps = (step for step in dis.get_instructions(one) if step.opcode != extended)
            for step, after in itertools.pairwise(steps):
                if step.argval not in names:
                    continue
                if step.opname in attributes or (step.opname in loading and step.argval not in own):
                    return True
                if step.opname == "IMPORT_FROM":
                    called.add(after.argval)
        return any(loads(one, called) for one in codes)

    def names_bound(code: types.CodeType) -> set[str]:
        if len(code.co_names) > 255:
            return {step.argval for step in dis.get_instructions(code) if step.opcode in binding}
        return {code.co_names[name] for binds, name in operations(code) if binds in binding}

    def loads(code: types.CodeType, called: set[str]) -> bool:
        known = {*code.co_names, *code.co_varnames, *code.co_freevars, *code.co_cellvars}
        if called.isdisjoint(known):
            return False
        for step in dis.get_instructions(code):
            of = step.argval if isinstance(step.argval, tuple) else (step.argval,)
            if "LOAD" in step.opname and "CONST" not in step.opname and not called.isdisjoint(of):
                return True
        return False

    serve()


# With builtins of its own: a submission that replaces what the module holds replaces it for itself.
_CHILD_SOURCE = f"""\
import builtins
scope = {{"__builtins__": vars(builtins).copy()}}
exec({inspect.getsource(_child_program)!r}, scope)
scope["_child_program"]()
"""

# --- The sandbox ----------------------------------------------------------------------------------

# What a submission may ask of the kernel once NumPy is loaded; all else fails with ENOSYS. So it
# can start no process, send no signal, open no file for writing, no socket and no other channel,
# and trace nothing: nothing is left behind for the next submission. Process ids are not told: they
# count the submissions of a worker.
_SYSTEM_CALLS = {  # number on x86-64, number on AArch64; None where there is no such call
    # memory, time, randomness
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "mremap": (25, 216),
    "madvise": (28, 233), "brk": (12, 214), "futex": (202, 98),
    "set_robust_list": (273, 99), "rseq": (334, 293), "sched_yield": (24, 124),
    "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153),
    "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "getrusage": (98, 165),
    "getrandom": (318, 278),
    # files, for reading
    "openat": (257, 56), "read": (0, 63), "pread64": (17, 67), "write": (1, 64), "writev": (20, 66),
    "lseek": (8, 62), "close": (3, 57), "fstat": (5, 80), "stat": (4, None),
    "lstat": (6, None), "newfstatat": (262, 79), "statx": (332, 291), "access": (21, None),
    "faccessat": (269, 48), "getdents64": (217, 61), "getcwd": (79, 17),
    "ioctl": (16, 29), "fcntl": (72, 25),
    "poll": (7, None), "ppoll": (271, 73), "select": (23, None), "pselect6": (270, 72),
    # the process itself
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132), "restart_syscall": (219, 128),
    "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176),
    "getegid": (108, 177), "uname": (63, 160), "sysinfo": (99, 179),
    "exit": (60, 93), "exit_group": (231, 94),
}
_CONDITIONS = {  # argument & mask == value, as (argument, mask, value)
    "mmap": (3, 1, 0),  # not MAP_SHARED: such memory can be kept and not be counted
    "madvise": (2, 0xFFFFFFC0, 0),  # advice below 64: above are MADV_HWPOISON and its like
    "openat": (2, 0o1103, 0),  # for reading: neither O_WRONLY, O_RDWR, O_CREAT nor O_TRUNC
    "ioctl": (1, 0xFFFFFFFF, 0x5401),  # TCGETS, as isatty() asks
    "fcntl": (1, 0xFFFFFFFC, 0),  # the descriptor's flags; not F_SETOWN, which sends signals
}
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}


def _system_call_filter() -> bytes:
    """The filter as classic BPF (Linux: seccomp(2)), empty on an architecture without a table."""
    if not _LINUX or platform.machine() not in _ARCHITECTURES or struct.calcsize("P") != 8:
        return b""
    column, architecture = _ARCHITECTURES[platform.machine()]
    names = {numbers[column]: name for name, numbers in _SYSTEM_CALLS.items()}
    # BPF_LD, JMP|JEQ, JMP|JGE, ALU|AND, RET
    load, equal, at_least, mask, leave = 0x20, 0x15, 0x35, 0x54, 0x06
    allow, deny = 0x7FFF0000, 0x00050000 | 38  # ERRNO(ENOSYS): libraries then try another way

    def search(numbers: list[int]) -> list[tuple[int, int, int, int]]:
        """A binary search: the kernel runs the filter for all numbers when a child sets it up."""
        if len(numbers) > 1:
            middle = len(numbers) // 2
            below, above = search(numbers[:middle]), search(numbers[middle:])
            return [(at_least, len(below), 0, numbers[middle]), *below, *above]
        code = [(equal, 1, 0, numbers[0]), (leave, 0, 0, deny)]
        if condition := _CONDITIONS.get(names[numbers[0]]):
            argument, bits, value = condition
            code += [(load, 0, 0, 16 + 8 * argument), (mask, 0, 0, bits), (equal, 1, 0, value)]
            code += [(leave, 0, 0, deny)]
        return [*code, (leave, 0, 0, allow)]

    code = [(load, 0, 0, 4), (equal, 1, 0, architecture), (leave, 0, 0, deny), (load, 0, 0, 0)]
    code += search(sorted(number for number in names if number is not None))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _clean_environment() -> dict[str, str]:
    """An environment without keys or settings; one BLAS thread."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    threads = ("OMP", "OPENBLAS", "MKL", "VECLIB", "BLIS")
    return kept | {f"{name}_NUM_THREADS": "1" for name in threads} | {"LC_ALL": "C.UTF-8"}


def _interpreter() -> str:
    """The real interpreter, which needs no virtual environment around it."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def _packages() -> Path:
    """The directory that NumPy was imported from."""
    return Path(np.__path__[0]).resolve().parent


def _interpreter_paths() -> list[str]:
    """All that the interpreter reads."""
    paths = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/nix/store"]
    paths += [f"{sys.base_prefix}/lib", sysconfig.get_path("stdlib"), _interpreter()]
    return list(dict.fromkeys(paths))


def _paths_beside(path: Path, hidden: Path) -> list[str]:
    """`path`; or, if `hidden` lies in it, all that lies beside the way from one to the other.

    This module may be installed among the interpreter's own packages.
    """
    path = path.resolve()
    if not hidden.is_relative_to(path):
        return [str(path)]
    children = [] if path == hidden else sorted(path.iterdir())
    return [found for child in children for found in _paths_beside(child, hidden)]


def _numpy_paths() -> list[str]:
    return [str(_packages() / name) for name in ("numpy", "numpy.libs")]


def _worker_command(sandbox: str) -> list[str]:
    walls = _bubblewrap() if sandbox == "bubblewrap" else []
    if walls:
        walls += ["--remount-ro", "/", "--chdir", "/", "--as-pid-1"]
    readable: list[str] = []
    if not walls:
        project = Path(__file__).resolve().parent
        readable = [p for path in _interpreter_paths() for p in _paths_beside(Path(path), project)]
        readable += [*_numpy_paths(), "/dev/urandom"]
    limits = [_system_call_filter().hex(), MEMORY_LIMIT_BYTES, _TEXT_LIMIT, _NOT_READY]
    settings = json.dumps([str(_packages()), readable, *limits, len(_pool()), _CALLERS])
    return [*walls, _interpreter(), "-I", "-S", "-c", _CHILD_SOURCE, settings]


def _bubblewrap() -> list[str]:
    """bubblewrap: no network, its own processes, a read-only view of interpreter and NumPy."""
    program = shutil.which("bwrap")
    if not program:
        raise GradingError("expected bwrap on PATH, found none: install bubblewrap")
    command = [program, "--unshare-all", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"]
    for path in _interpreter_paths():
        command += ["--ro-bind-try", path, path]
    project = Path(__file__).resolve().parent
    if any(project.is_relative_to(path) for path in _interpreter_paths()):
        command += ["--tmpfs", str(project)]
    for path in _numpy_paths():
        command += ["--ro-bind-try", path, path]
    for path in ("/dev/null", "/dev/urandom"):
        command += ["--dev-bind", path, path]
    return command


def available_sandbox() -> str:
    """What "auto" means on this machine: "bubblewrap" where it is usable, else "process"."""
    if _bubblewrap_works is None and shutil.which("bwrap"):
        _start_worker("auto").close()
    return "bubblewrap" if _bubblewrap_works else "process"


class Execution(NamedTuple):
    """What `run_sandboxed` returns. exit_code: None if the time limit ended it."""

    output: str
    exit_code: int | None
    timed_out: bool
    sandbox: str


def run_sandboxed(
    code: str,
    workspace: str | Path,
    *,
    time_limit: float = 30.0,
    output_limit: int = 20_000,
    sandbox: str = "auto",
) -> Execution:
    """Run Python code in `workspace`, as an `execute_code` tool does for a model.

    The code finds NumPy, the standard library and the modules of the workspace, the one place
    where it can write; no network, no environment, no file of this project. output: standard
    output and error as text, cut in the middle to output_limit characters. Raises GradingError if
    it cannot be started. With sandbox "process" there are limits, but no walls: see FAQ.md.
    """
    _check_arguments(time_limit, sandbox)
    directory = _workspace(workspace).resolve()
    sandbox = available_sandbox() if sandbox == "auto" else sandbox
    with tempfile.TemporaryFile() as program:
        program.write(code.encode("utf-8", "replace"))
        program.seek(0)
        try:
            process = subprocess.Popen(
                _tool_command(sandbox, str(directory), time_limit),
                stdin=program,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env=_clean_environment() | _tool_environment(str(directory)),
                start_new_session=True,
            )
        except OSError as error:
            raise GradingError(f"expected to start {sandbox}, got: {error}") from error
    with process:
        try:
            output, timed_out = _collect(process, output_limit, time.monotonic() + time_limit)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
    return Execution(output, None if timed_out else process.returncode, timed_out, sandbox)


def _collect(process: subprocess.Popen[bytes], limit: int, deadline: float) -> tuple[str, bool]:
    """Read the output of a process until it ends or the deadline; keep its head and its tail."""
    assert process.stdout is not None
    head, tail, size, half = b"", b"", 0, max(limit // 2, 1)
    ended, poll = False, select.poll()
    poll.register(process.stdout, select.POLLIN | select.POLLHUP)
    while (left := deadline - time.monotonic()) > 0:
        if poll.poll(0 if ended else min(1000 * left, 50)):
            if not (piece := os.read(process.stdout.fileno(), 65536)):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(left)
                break
            size += len(piece)
            room = half - len(head)
            head, tail = head + piece[:room], (tail + piece[room:])[-half:]
        elif ended:
            break  # the process is gone, and so is all that it wrote
        ended = process.poll() is not None
    cut = size - len(head) - len(tail)
    middle = f"\n[... {cut} bytes cut ...]\n".encode() if cut else b""
    return (head + middle + tail).decode("utf-8", "replace"), process.poll() is None


def _tool_program() -> None:
    """Runs `python -` for run_sandboxed; as process 1 of a sandbox, it also ends fork bombs.

    Self-contained, like _child_program.
    """
    import ctypes
    import os
    import resource
    import signal
    import sys
    import time

    interpreter, memory_limit, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    limits = [(resource.RLIMIT_AS, memory_limit), (resource.RLIMIT_FSIZE, 16 << 20)]
    for which, value in [*limits, (resource.RLIMIT_CORE, 0)]:
        try:
            resource.setrlimit(which, (value, value))
        except (ValueError, OSError):
            pass  # not every system has every limit
    signal.alarm(seconds)  # should the trusted side be killed, this still ends
    if os.getpid() != 1:
        os.execv(interpreter, [interpreter, "-"])
    signal.signal(signal.SIGALRM, lambda *_: os._exit(1))  # process 1 has no default action
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: the code cannot trace this process
    child = os.fork()
    if child == 0:
        os.execv(interpreter, [interpreter, "-"])
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == child:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
        if sum(name.isdigit() for name in os.listdir("/proc")) > 64:
            os.write(2, b"\nMore than 64 processes: stopped.\n")
            os.kill(-1, signal.SIGKILL)
        if pid == 0:
            time.sleep(0.005)


def _tool_command(sandbox: str, directory: str, time_limit: float) -> list[str]:
    program = inspect.getsource(_tool_program) + "\n_tool_program()\n"
    arguments = [_interpreter(), str(MEMORY_LIMIT_BYTES), str(int(time_limit + _GRACE_S))]
    command = [_interpreter(), "-I", "-S", "-c", program, *arguments]
    if sandbox == "process":
        return command
    view = ["--die-with-parent", "--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    for name in ("python", "python3"):
        view += ["--symlink", _interpreter(), f"/python/{name}"]
    view += ["--bind", directory, directory, "--remount-ro", "/", "--chdir", directory]
    return [*_bubblewrap(), *view, "--as-pid-1", *command]


def _tool_environment(directory: str) -> dict[str, str]:
    return {
        "HOME": directory,
        "PATH": f"/python:{Path(sys.executable).parent}",
        "PYTHONPATH": str(_packages()),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }


# --- The command line -----------------------------------------------------------------------------

_MANUAL = """\
Variance-Stabilized Dropout: a task for language models, and its judge.

Without a command, it shows the task: the starting layer failing, the reference
passing, and what the two do to a deep network.
"""

_EXAMPLES = """\
examples:
  python variance_dropout_task.py                    the demo
  python variance_dropout_task.py setup work         make a workspace
  python variance_dropout_task.py prompt             what the model is told
  python variance_dropout_task.py grade work         judge work/dropout.py
  python variance_dropout_task.py grade work --json  the verdict, for programs

exit status: 0 passed (or done), 1 failed, 2 could not be graded or wrong usage,
130 interrupted
"""


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=_MANUAL, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    setup = commands.add_parser("setup", help="write the starting files into a directory")
    setup.add_argument("directory", metavar="DIR")
    setup.add_argument("--force", action="store_true", help="replace work that is there")
    grade = commands.add_parser("grade", help="judge the dropout.py in a directory")
    grade.add_argument("directory", metavar="DIR")
    grade.add_argument("--json", action="store_true", help="print the verdict as JSON")
    grade.add_argument(
        "--time-limit", type=float, default=TIME_LIMIT_S, metavar="S", help="seconds (default: 10)"
    )
    grade.add_argument(
        "--sandbox",
        choices=("auto", "bubblewrap", "process"),
        default="auto",
        help="default: auto, which is bubblewrap where it is usable",
    )
    commands.add_parser("prompt", help="print the prompt of the task")
    options = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a submission's error has any letters
    try:
        return _run_command(options)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "  # else: what is written to
        print(f"error: {where}{error.strerror}", file=sys.stderr)
        return 2
    except (GradingError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run_command(options: argparse.Namespace) -> int:
    if options.command == "setup":
        solution = Path(options.directory) / SOLUTION_FILE
        fresh = not solution.exists() or solution.read_bytes() == BUGGY_IMPLEMENTATION.encode()
        if not (fresh or options.force):
            raise ValueError(f"{solution} holds work; --force replaces it by the starting file")
        directory = setup_task_files(options.directory)
        print(f"Wrote {directory / SOLUTION_FILE} and {directory / TEST_FILE}.")
        return 0
    if options.command == "prompt":
        print(TASK_PROMPT, end="")
        return 0
    if options.command is None:
        print(_demo(), flush=True)
        return 0
    verdict = grade_solution(
        options.directory, time_limit=options.time_limit, sandbox=options.sandbox
    )
    if not any((Path(options.directory) / name).exists() for name in (SOLUTION_FILE, TEST_FILE)):
        print("note: there is neither file of the task here; see setup", file=sys.stderr)
    print(json.dumps(verdict, indent=2) if options.json else _render(verdict), flush=True)
    return 0 if verdict["passed"] else 1


def _paint(text: str, colour: int) -> str:
    """Text in an ANSI colour, on a terminal and where NO_COLOR is not set."""
    if sys.stdout and sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        return f"\033[{colour}m{text}\033[0m"
    return text


_RED, _GREEN, _BOLD = 31, 32, 1


def _render(verdict: Verdict) -> str:
    """A verdict for a person, in 80 columns."""
    lines = []
    reached = [check for check in verdict["checks"] if check["detail"] != NOT_REACHED]
    for check in reached:
        mark = _paint("PASS", _GREEN) if check["passed"] else _paint("FAIL", _RED)
        mark = "--  " if check["detail"] == NO_WORKSPACE else mark
        detail = textwrap.wrap(check["detail"], 50)
        lines.append(f"  {mark}  {check['name']:<21} {detail[0]}")
        lines += [" " * 30 + line for line in detail[1:]]
    if len(reached) < len(verdict["checks"]):
        lines.append(f"  --    {len(verdict['checks']) - len(reached)} other checks: not reached")
    result = _paint("PASSED", _GREEN) if verdict["passed"] else _paint("FAILED", _RED)
    mode = f" ({verdict['failure_mode']})" if verdict["failure_mode"] else ""
    how = f"{verdict['sandbox']}, {verdict['duration_s']:.2f} s"
    return "\n".join([*lines, f"  {result}{mode}, reward {verdict['reward']:.1f} [{how}]"])


def _demo() -> str:
    """The demo: both layers judged, and what they do to a deep network."""
    with Grader(workers=1) as grader:
        buggy, reference = grader.map([BUGGY_IMPLEMENTATION, REFERENCE_IMPLEMENTATION])
    depth = 30
    chart = [f"  layers  {'1/keep_prob':<37}1/sqrt(keep_prob)"]
    curves = [variance_by_depth(s, depth) for s in (BUGGY_IMPLEMENTATION, REFERENCE_IMPLEMENTATION)]
    for layers in range(0, depth + 1, 5):
        cells = []
        for variances, colour in zip(curves, (_RED, _GREEN), strict=True):
            variance = variances[layers]
            number = f"{variance:.2f}" if variance < 100 else f"{variance:,.0f}"
            bar = "#" * (1 + max(0, round(2 * math.log10(variance))))
            cells.append(f"{number:>13} {_paint(bar, colour)}{' ' * (20 - len(bar))}")
        chart.append(f"  {layers:>6} {cells[0]}  {cells[1]}".rstrip())
    return "\n".join(
        [
            _paint("Variance-Stabilized Dropout", _BOLD),
            "",
            "The starting file scales survivors by 1/keep_prob, which keeps the mean:",
            _render(buggy),
            "",
            "The reference scales them by 1/sqrt(keep_prob), which keeps the variance of",
            "zero-mean activations:",
            _render(reference),
            "",
            f"Why it matters: the variance of activations in a network of {depth} random linear",
            "layers with dropout at rate 0.5 (bars: logarithmic):",
            *chart,
            "",
            "Next, a workspace of your own, and its verdict:",
            "  python variance_dropout_task.py setup work",
            "  python variance_dropout_task.py grade work",
        ]
    )


def variance_by_depth(source: str, depth: int, *, rate: float = 0.5, seed: int = 0) -> list[float]:
    """The variance of activations after 0, 1, ..., `depth` linear layers, each with dropout.

    source: a trusted implementation of the layer, run in this process. The weights are drawn from
    N(0, 1/width), so that without dropout the variance stays 1; 256 units, a batch of 256.
    """
    namespace: dict[str, Any] = {}
    exec(compile(source, "dropout.py", "exec"), namespace)
    layer = namespace["VarianceStabilizedDropout"](rate)
    rng, width = np.random.default_rng(seed), 256
    state = np.random.get_state()
    np.random.seed(seed)  # what the two implementations draw their masks from
    try:
        x = rng.standard_normal((256, width))
        variances = [float(np.var(x))]
        for _ in range(depth):
            x = layer(x) @ rng.normal(0.0, width**-0.5, (width, width))
            variances.append(float(np.var(x)))
    finally:
        np.random.set_state(state)
    return variances


if __name__ == "__main__":
    sys.exit(main())
