"""Grading on a Ray cluster: texts of submissions in, verdicts out, in order.

    python integrations/ray_grading.py attempts/*.py                          # this machine
    python integrations/ray_grading.py --address auto < in.jsonl > out.jsonl  # a running cluster

    ray.init("auto", runtime_env=RUNTIME_ENV)        # in a training loop
    rewards = [verdict["reward"] for verdict in grade_map(sources)]

Every grade is a Ray task of one core, and every worker process keeps one grader warm. Tasks, not
a pool of actors: Ray gives a task to whatever node is alive and has a core free, also one that
joins later, while the actor of a dead node waits for a core of its own, and what it was given
waits with it. Ray repeats the grades of a node or process that dies, and those that end in a
GradingError, three times each; after that the error is raised here, and is never a reward of 0.

Every node needs NumPy, the Python and the Ray of the driver, and bubblewrap if the strong sandbox
is to be used; the two modules travel with the job. Not protected: the cluster itself (whoever
reaches its ports runs code on it), and the driver, whose death ends the job.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

try:
    import ray
except ModuleNotFoundError as error:
    if __name__ != "__main__":
        raise
    sys.exit(f"expected Ray, got: {error}; pip install -r integrations/requirements/ray.txt")

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import variance_dropout_task as core

RUNTIME_ENV: dict[str, Any] = {
    "py_modules": [str(Path(__file__).resolve()), str(Path(core.__file__).resolve())],
    "env_vars": {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
}
"""For `ray.init`: takes both modules to every node. Ray uploads local files for a job only."""

# Verdicts come in order. A submission that runs into its time limit takes as long as a hundred
# others; so many behind it are graded meanwhile, for each core of the cluster.
AHEAD = 16


def grade_map(
    sources: Iterable[str | bytes], in_flight: int | None = None, sandbox: str = "auto"
) -> Iterator[core.Verdict]:
    """Yield the verdicts of sources in order, graded on the cluster that `ray` is connected to.

    Takes endless iterables: it reads `in_flight` sources ahead (default: 16 for each core that
    the cluster has at the start). Raises GradingError if a source cannot be graded. What is
    still under way is cancelled when the iterator is closed.
    """
    if in_flight is not None and in_flight < 1:
        raise ValueError(f"in_flight must be at least 1, got {in_flight!r}")
    if not ray.is_initialized():
        connect()
    in_flight = in_flight or max(1, int(AHEAD * ray.cluster_resources().get("CPU", 1)))
    pending: deque[ray.ObjectRef] = deque()
    try:
        for source in sources:
            pending.append(_grade.remote(source, sandbox))
            if len(pending) >= in_flight:
                yield ray.get(pending.popleft())
        while pending:
            yield ray.get(pending.popleft())
    finally:
        if ray.is_initialized():  # it may be closed after a shutdown
            for reference in pending:
                ray.cancel(reference)


def connect(address: str | None = None) -> None:
    """Join the cluster at `address`; None is Ray's own rule: a running one, else a local one."""
    ray.init(address, runtime_env=RUNTIME_ENV, include_dashboard=False, log_to_driver=False)


@ray.remote(num_cpus=1, max_retries=3, retry_exceptions=[core.GradingError])
def _grade(source: str | bytes, sandbox: str) -> core.Verdict:
    return _grader(sandbox).grade_source(source)


@functools.cache
def _grader(sandbox: str) -> core.Grader:
    """One warm grader a worker process; Ray gives a process one task at a time."""
    return core.Grader(workers=1, sandbox=sandbox)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns 0, or 2 if something was not graded."""
    parser = argparse.ArgumentParser(
        description="Grade submissions on a Ray cluster. Prints one verdict a line, as JSON, in "
        "the order of the submissions."
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE",
                        help="a dropout.py under any name; without files, standard input has "
                        'lines of JSON, {"source": "..."}')
    parser.add_argument("--address", help="of a cluster (default: as ray.init, a running one or "
                        "this machine)")
    parser.add_argument("--sandbox", choices=["auto", "bubblewrap", "process"], default="auto")
    options = parser.parse_args(arguments)
    for path in options.files:
        if not path.is_file():
            parser.error(f"{path}: expected a file")
    # Ray prints messages of its own to standard output, up to the end of the process.
    output, sys.stdout = sys.stdout, sys.stderr
    try:
        connect(options.address)
        sources = _read_files(options.files) if options.files else _read_lines()
        for verdict in grade_map(sources, sandbox=options.sandbox):
            print(json.dumps(verdict), file=output, flush=True)
    except (ray.exceptions.RayError, OSError, ValueError) as error:
        print(f"not graded: {getattr(error, 'cause', None) or error}", file=sys.stderr)
        return 2
    return 0


def _read_files(files: list[Path]) -> Iterator[bytes]:
    for path in files:
        with path.open("rb") as file:
            yield file.read(core.SOURCE_LIMIT_BYTES + 1)  # one more is too large already


def _read_lines() -> Iterator[str]:
    for number, line in enumerate(sys.stdin, start=1):
        try:
            yield json.loads(line)["source"]
        except (ValueError, TypeError, KeyError):
            raise ValueError(f'line {number}: expected {{"source": "..."}}, got '
                             f"{line[:60]!r}") from None


if __name__ == "__main__":
    # By its name, since the nodes have this module under its name and not as __main__.
    from ray_grading import main as named_main

    sys.exit(named_main())
