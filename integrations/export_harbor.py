"""Writes the task as a Harbor task directory, for Harbor and for what else reads its format.

    python integrations/export_harbor.py OUT
    harbor run -p OUT -a oracle        # reward 1; with -a nop, 0

The verifier is a container of its own, without network, which gets dropout.py and test_dropout.py
from the agent's and nothing else. The reward is that of variance_dropout_task.py, copied into
tests/ as it is at export; a submission runs in that module's sandbox. A container in which that
sandbox would leave tests or reward within reach of a submission grades nothing: there is no reward.

Some consumers grade in the agent's own box (shared mode; inspect-harbor and TRL always do). There
too a submission is shut in, and what lies in wait for the grader is passed by: reward files,
sitecustomize, .pth files, commands in /usr/local/bin, modules and bytecode in /tests. But an agent
that was root in that box owns it: it can replace the interpreter, NumPy or bash, leave a process
running that reads the tests when they arrive or writes the reward after the grader did, or break
the box so that nothing is graded.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import variance_dropout_task as task

INSTRUCTION_END = """
Your workspace is the directory /app; `python` there has NumPy.
"""

# bubblewrap is the better sandbox where the container may use it; most offer seccomp and Landlock.
IMAGE = """\
FROM python:3.12.11-slim-bookworm
RUN apt-get update && apt-get install -y --no-install-recommends bubblewrap \\
    && rm -rf /var/lib/apt/lists/* \\
    && pip install --no-cache-dir numpy==2.5.5
WORKDIR /app
"""
AGENT_IMAGE = IMAGE + 'COPY dropout.py test_dropout.py /app/\nCMD ["bash"]\n'
VERIFIER_IMAGE = IMAGE + 'COPY . /tests/\nCMD ["bash"]\n'

# The verifier has twice the memory that a submission may use, so that it never is what runs out.
TASK_TOML = """\
schema_version = "1.4"
artifacts = ["/app/dropout.py", "/app/test_dropout.py"]

[task]
name = "variance-stabilized-dropout/repair"
version = "1.0.0"
description = "Find out why a dropout layer changes the variance of activations, and repair it"
keywords = ["numpy", "machine-learning", "debugging"]

[metadata]
category = "machine-learning"

[agent]
timeout_sec = 900.0

[verifier]
timeout_sec = 180.0
environment_mode = "separate"

[verifier.environment]
network_mode = "no-network"
cpus = 1
memory_mb = 4096

[environment]
cpus = 1
memory_mb = 2048
"""

TEST_SH = """\
#!/bin/bash -p
# Grades /app, as root: {"reward": 0} or {"reward": 1} in reward.json, the verdict beside it.
# Not graded: no reward, and an exit status other than 0.
set -eu
umask 022
PATH=/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /logs/verifier
# In a shared box the agent may have left these.
rm -rf /logs/verifier/.reward* /logs/verifier/reward* /tests/__pycache__
chmod 700 /logs/verifier /tests
trap 'chmod 755 /logs/verifier' EXIT
env -i PATH="$PATH" /usr/local/bin/python3 -I -S -B /tests/grade.py
"""

GRADE_PY = '''\
"""Turns the verdict of variance_dropout_task.py on /app into a reward; test.sh runs it."""

import json
import os
import sys
import sysconfig
from pathlib import Path

# `python -S` has run nothing of site-packages (.pth files, sitecustomize), and does not know where
# NumPy is. Behind the standard library: a json.py in these directories is not found.
sys.path += ["/tests", sysconfig.get_path("platlib")]

import variance_dropout_task as task

# A rehearsal, with the right layer behind it, passes where the sandbox keeps tests, reward and
# grader out of reach, and a right layer can pass.
REHEARSAL = """
import os

def refused(action, *arguments):
    try:
        action(*arguments)
    except OSError:
        return True
    return False

assert refused(open, "/tests/grade.py"), "the tests can be read"
assert refused(open, "/logs/verifier/escaped", "w"), "the reward can be written"
assert refused(os.kill, GRADER, 0), "the grader can be killed"
"""


def write(name: str, content: object) -> None:
    scratch = Path("/logs/verifier") / f".{name}"
    scratch.write_text(json.dumps(content) + "\\n")
    scratch.replace(scratch.with_name(name))


with task.Grader(workers=1) as grader:
    source = f"GRADER = {os.getpid()}\\n{REHEARSAL}\\n{task.REFERENCE_IMPLEMENTATION}"
    rehearsal = grader.grade_source(source)
    if not rehearsal["passed"]:
        sys.exit("Not graded: expected the reference to pass in a sandbox that shuts it in, got: "
                 f"{rehearsal['feedback']} The container has to allow user namespaces "
                 "(bubblewrap), or seccomp and Landlock (Linux 5.13).")
    verdict = grader.grade_solution("/app")
print(verdict["output"])
write("reward-details.json", verdict)
write("reward.json", {"reward": int(verdict["reward"])})
'''

SOLVE_SH = """\
#!/bin/bash
cp "$(dirname "$0")/dropout.py" /app/dropout.py
"""

README = f"""\
# Variance-stabilized dropout

A Harbor task: repair a NumPy dropout layer. Written by export_harbor.py, whose text on it follows;
export it again rather than edit it. `tests/` and `solution/` give the answer away.

{__doc__}"""

FILES = {
    "README.md": README,
    "instruction.md": task.TASK_PROMPT + INSTRUCTION_END,
    "task.toml": TASK_TOML,
    "environment/Dockerfile": AGENT_IMAGE,
    "tests/Dockerfile": VERIFIER_IMAGE,
    "tests/test.sh": TEST_SH,
    "tests/grade.py": GRADE_PY,
    "solution/solve.sh": SOLVE_SH,
    "solution/dropout.py": task.REFERENCE_IMPLEMENTATION,
}


def export(out: Path) -> Path:
    """Write the task directory `out`, which must be new or empty; returns it."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out}: expected a new or an empty directory; name another one")
    task.setup_task_files(out / "environment")
    for path, text in FILES.items():
        (out / path).parent.mkdir(exist_ok=True)
        (out / path).write_bytes(text.encode())
        (out / path).chmod(0o755 if path.endswith(".sh") else 0o644)
    shutil.copyfile(task.__file__, out / "tests" / "variance_dropout_task.py")
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the task as a Harbor task directory.")
    parser.add_argument("out", metavar="OUT", type=Path, help="a new or an empty directory")
    try:
        out = export(parser.parse_args().out)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"Wrote {out}. Next: harbor run -p {out} -a oracle")
    return 0


if __name__ == "__main__":
    sys.exit(main())
