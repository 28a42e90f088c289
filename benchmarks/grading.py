"""What grading costs: cold, warm and in parallel, against what it cannot do without.

    python benchmarks/grading.py            a table
    python benchmarks/grading.py --json     the same for machines

Everything is measured side by side, in turns of one run, so that a noisy machine is noisy for all
of it; quote the ratios, not the milliseconds. The rows:

    import      `python -I -c "import numpy, numpy.random"`: what any cold grade has to do
    cold        grade_source: a fresh worker for one submission
    warm        Grader with one worker, one submission after another
    one core    the same, with all of its processes on one core
    parallel    Grader.map with one worker a core: seconds a submission
    floor       the same probe, layer and checks in this process, with no isolation at all
    floors      the same in one process a core, which share nothing: seconds a submission

One worker uses more than one core: the next process is started while the arrays of the last are
looked at. So what cores gain is one core / parallel; floor / floors is what they gain at best here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

import variance_dropout_task as task

T = TypeVar("T")

SUBMISSIONS = {"right": task.REFERENCE_IMPLEMENTATION, "wrong": task.BUGGY_IMPLEMENTATION}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=positive, default=15, help="turns (default: 15)")
    parser.add_argument("--warm", type=positive, default=20, help="grades a turn (default: 20)")
    parser.add_argument("--sandbox", choices=("auto", "bubblewrap", "process"), default="auto")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    results = {
        name: measure(source, options.rounds, options.warm, options.sandbox)
        for name, source in SUBMISSIONS.items()
    }
    report = {"machine": machine(options.sandbox), "submissions": results}
    print(json.dumps(report, indent=2) if options.json else table(report))


def positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


def measure(source: str, rounds: int, warm: int, sandbox: str) -> dict[str, Any]:
    """Medians over the rounds: seconds a grade, and ratios of times of one round."""
    cores = len(os.sched_getaffinity(0))
    rows: list[dict[str, float]] = []
    latencies: list[float] = []
    with (
        task.Grader(1, sandbox=sandbox) as one,
        task.Grader(1, sandbox=sandbox) as pinned,
        task.Grader(cores, sandbox=sandbox) as all_cores,
    ):

        def measure_all(variants: list[str]) -> dict[str, float]:
            several = [timed(lambda v=v: one.grade_source(v)) for v in variants]
            latencies.extend(several)
            at_once_s = timed(lambda: at_once(cores, lambda: grade_all_here(variants)))
            one_core_s = on_one_core(lambda: timed(lambda: grade_all(pinned, variants)))
            return {
                "import": timed(import_numpy),
                "cold": timed(lambda: task.grade_source(source, sandbox=sandbox)),
                "warm": statistics.mean(several),
                "one core": one_core_s / len(variants),
                "parallel": timed(lambda: list(all_cores.map(variants))) / len(variants),
                "floor": timed(lambda: grade_all_here(variants)) / len(variants),
                "floors": at_once_s / (cores * len(variants)),
            }

        one.grade_source(source)
        on_one_core(lambda: pinned.grade_source(source))
        list(all_cores.map([source] * 2 * cores))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for turn in range(rounds):  # with other probes each, as one in hundreds is looked at twice
            numbers = range(max(warm, 2 * cores))
            rows.append(measure_all([f"{source}# {turn} {number}\n" for number in numbers]))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    latencies.sort()
    ratios = {
        "cold / import": ("cold", "import"),
        "cold / warm": ("cold", "warm"),
        "warm / floor": ("warm", "floor"),
        f"warm / parallel ({cores} cores)": ("warm", "parallel"),
        f"one core / parallel ({cores} cores)": ("one core", "parallel"),
        f"floor / floors ({cores} cores)": ("floor", "floors"),
    }
    return {
        "seconds": {name: statistics.median(row[name] for row in rows) for name in rows[0]},
        "ratios": {
            name: statistics.median(row[a] / row[b] for row in rows)
            for name, (a, b) in ratios.items()
        }
        | {"warm p99 / median": latencies[int(0.99 * len(latencies))] / np.median(latencies)},
        "parent_grew_kib": grown,
    }


def timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def on_one_core(action: Callable[[], T]) -> T:
    """Do it on one core, where the processes stay that it starts; of this one, one thread does."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        return action()
    finally:
        os.sched_setaffinity(0, cores)


def import_numpy() -> None:
    subprocess.run([sys.executable, "-I", "-c", "import numpy, numpy.random"], check=True)


def at_once(count: int, action: Callable[[], object]) -> None:
    """Do the same in `count` processes."""
    children = []
    for _ in range(count):
        child = os.fork()
        if child == 0:
            action()
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


def grade_all(grader: task.Grader, sources: list[str]) -> list[task.Verdict]:
    return [grader.grade_source(source) for source in sources]


def grade_all_here(sources: list[str]) -> list[bool]:
    return [grade_here(source) for source in sources]


def grade_here(source: str) -> bool:
    """The first probe, the layer and the checks in this process: for trusted sources alone."""
    data = source.encode()
    probe = task.draw_probe(hashlib.sha256(data).digest())
    namespace: dict[str, Any] = {}
    exec(compile(source, "dropout.py", "exec"), namespace)
    layer_class, layers, frames = namespace["VarianceStabilizedDropout"], {}, []
    for step in probe.steps:
        answer = np.zeros(0)
        if step.op == "bad":
            answer = np.ones(step.x.size)
        elif step.op == "new":
            positional = isinstance(step.argument, list)
            made = layer_class(*step.argument) if positional else layer_class(**step.argument)
            layers[step.layer] = made
        elif step.op == "mode":
            getattr(layers[step.layer], step.argument)()
        elif step.op == "call":
            answer = layers[step.layer](step.x)
        if step.op in ("new", "mode"):
            answer = np.array([step.rate, layers[step.layer].training], dtype=float)
        frames.append(("A", memoryview(answer.tobytes())))
    run = task.Run([("A", memoryview(b"\1")), ("A", memoryview(b"")), *frames], "done", "")
    evidence = task.gather_evidence(task.Submission(data, None, None), probe, run)
    return all(finding.failure_mode is None for _, finding in task.judge(evidence))


def machine(sandbox: str) -> dict[str, Any]:
    return {
        "sandbox": task.available_sandbox() if sandbox == "auto" else sandbox,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "parent_peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def table(report: dict[str, Any]) -> str:
    lines = [" ".join(f"{key}={value}" for key, value in report["machine"].items()), ""]
    names = list(report["submissions"])
    results = report["submissions"].values()
    lines.append(f"{'':<28}" + "".join(f"{name:>10}" for name in names))
    for kind, unit in (("seconds", "ms"), ("ratios", "x")):
        for row in next(iter(results))[kind]:
            scale = 1e3 if kind == "seconds" else 1
            values = "".join(f"{result[kind][row] * scale:>8.2f}{unit:>2}" for result in results)
            lines.append(f"{row:<28}{values}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
