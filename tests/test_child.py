"""The untrusted side: the program that runs there, what it may do, what it can leave behind.

Submissions here report what they could do as the text of the error that they raise.
"""

from __future__ import annotations

import builtins
import dis
import inspect
import os
import platform
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import worker_of

import variance_dropout_task as task

Graders = Callable[..., task.Grader]
REFERENCE = task.REFERENCE_IMPLEMENTATION


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)


@pytest.mark.parametrize("function", [task._child_program, task._tool_program])
def test_child_programs_are_self_contained(function: Callable[[], None]) -> None:
    """The code that travels loads no global name but builtins."""
    loaded = {
        instruction.argval
        for code in codes(function.__code__)
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    assert loaded, "nothing was looked at"
    assert not {name for name in loaded if not hasattr(builtins, name)}


@pytest.mark.parametrize("function", [task._child_program, task._tool_program])
def test_child_programs_lint_by_themselves(function: Callable[[], None], tmp_path: Path) -> None:
    """The text that travels has no undefined name when it stands alone."""
    path = tmp_path / "child.py"
    path.write_text(inspect.getsource(function))
    lint = [sys.executable, "-m", "ruff", "check", "--isolated", "--select=F", str(path)]
    done = subprocess.run(lint, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_nothing_of_the_answer_travels() -> None:
    """Neither the reference nor a tolerance nor a check is in what the child is given."""
    probe = task.draw_probe(b"\0" * 32)
    given = task._CHILD_SOURCE.encode() + task._encode_steps(probe)
    for secret in (b"sqrt(keep", b"TOLERANCE", b"passed", b"mean_preserving", b"reference"):
        assert secret not in given
    assert b"def grade(" in given


def test_the_filter_is_in_force_here(graders: Graders, sandbox: str) -> None:
    """On x86-64 and AArch64 Linux the system-call filter works; the tests below rest on it."""
    grader = graders(sandbox)
    assert grader.grade_source(REFERENCE)["passed"]
    assert worker_of(grader).filtered


OPERATIONS = {
    "fork": "os.fork()",
    "exec": "os.execv('/bin/true', ['true'])",
    "subprocess": "__import__('subprocess').run(['true'])",
    "kill the parent": "os.kill(os.getppid(), 9)",
    "stop the parent": "os.kill(os.getppid(), 19)",
    "kill itself": "os.kill(os.getpid(), 9)",
    "kill everything": "os.kill(-1, 9)",
    "socket": "__import__('socket').socket()",
    "socket pair": "__import__('socket').socketpair()",
    "write a file": "open('/tmp/flag', 'w')",
    "append to a file": "open('/dev/null', 'a')",
    "make a directory": "os.mkdir('/tmp/flag')",
    "make a link": "os.symlink('/', '/tmp/flag')",
    "remove": "os.unlink('/tmp/nothing')",
    "rename": "os.rename('/tmp/nothing', '/tmp/other')",
    "memory of the parent": "open(f'/proc/{os.getppid()}/mem', 'r+b')",
    "memory file": "os.memfd_create('flag')",
    "pipe": "os.pipe()",
    "named pipe": "os.mkfifo('/tmp/flag')",
    "new session": "os.setsid()",
    "priority": "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
    "signals by descriptor": "fcntl.fcntl(3, fcntl.F_SETOWN, os.getppid())",
    "asynchronous signals": "fcntl.fcntl(3, fcntl.F_SETFL, os.O_ASYNC)",
    "terminal input": "fcntl.ioctl(0, 0x5412, b'x')",
    "memory that is not counted": "__import__('mmap').mmap(-1, 4096)",
    "its real number": "os.readlink('/proc/self')",
    "limits": "resource.setrlimit(resource.RLIMIT_CPU, (0, 0))",
}
ADD_KEY = 248 if platform.machine() == "x86_64" else 217
LIBC = {  # system calls for which Python has no name
    "trace the parent": "ptrace(16, os.getppid(), 0, 0)",
    "write into the parent": "process_vm_writev(os.getppid(), 0, 0, 0, 0, 0)",
    "shared memory": "shmget(4711, 4096, 0o1666)",
    "semaphore": "semget(4711, 1, 0o1666)",
    "message queue": "msgget(4711, 0o1666)",
    "key": f"syscall({ADD_KEY}, b'user', b'flag', b'x', 1, -3)",
    "user namespace": "unshare(0x10000000)",
    "drop the filter": "prctl(22, 0, 0)",
    "32-bit numbers": "syscall(0x40000000 + 39)",
    "poisoned memory": "madvise(0, 0, 100)",
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_forbidden_operation(operation: str, graders: Graders, sandbox: str) -> None:
    """What could reach out of the process fails, in both sandboxes."""
    source = f"""
import fcntl, os, resource
try:
    result = {operation}
except OSError as error:
    raise RuntimeError(f"<refused {{error.errno}}>")
raise RuntimeError(f"<done {{result}}>")
"""
    feedback = graders(sandbox).grade_source(source)["feedback"]
    assert "<refused 38>" in feedback, feedback  # ENOSYS: it was the filter that refused


def test_a_submission_holds_no_descriptor_of_the_worker(graders: Graders, sandbox: str) -> None:
    """It has its channel, and one to say on that it has finished, of which one byte is read."""
    source = """
import os
held = []
for number in range(1024):
    try:
        os.fstat(number)
    except OSError:
        continue
    held.append(number)
raise RuntimeError(f"<{held}>")
"""
    assert "<[0, 1, 2, 3, 4]>" in graders(sandbox).grade_source(source)["feedback"]


def test_two_sources_of_random_numbers_are_two_streams(graders: Graders, sandbox: str) -> None:
    """Masks of one layer that uses both would be related."""
    source = """
import os, random
raise RuntimeError(f"<{random.getrandbits(64).to_bytes(8, 'little') == os.urandom(8)}>")
"""
    assert "<False>" in graders(sandbox).grade_source(source)["feedback"]


def test_without_the_filter_a_worker_serves_once(
    monkeypatch: pytest.MonkeyPatch, sandbox: str
) -> None:
    """What may stay behind there, stays in a process that is ended."""
    monkeypatch.setattr(task, "_system_call_filter", lambda: b"")
    with task.Grader(1, sandbox=sandbox) as grader:
        for _ in range(2):
            assert grader.grade_source(REFERENCE)["passed"]
            assert worker_of(grader) is None


def test_no_thread_starts(graders: Graders, sandbox: str) -> None:
    """Threads could slow what runs beside them; Python has an error of its own for that."""
    source = """
import threading
try:
    threading.Thread(target=print).start()
except RuntimeError as error:
    raise ValueError(f"<{error}>")
"""
    assert "<can't start new thread>" in graders(sandbox).grade_source(source)["feedback"]


@pytest.mark.parametrize("operation", LIBC.values(), ids=LIBC)
def test_forbidden_system_call(operation: str, graders: Graders, sandbox: str) -> None:
    """The same for what only C reaches."""
    source = f"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
result = libc.{operation}
raise RuntimeError(f"<{{result}} {{ctypes.get_errno()}}>")
"""
    feedback = graders(sandbox).grade_source(source)["feedback"]
    assert "<-1 38>" in feedback, feedback


ALLOWED = {
    "time": "__import__('time').time() > 0",
    "sleep": "__import__('time').sleep(0.001) is None",
    "read a file": "len(open(os.__file__).read()) > 0",
    "list a directory": "len(os.listdir(os.path.dirname(os.__file__))) > 0",
    "stat": "os.stat(os.__file__).st_size > 0",
    "late import": "__import__('decimal').Decimal(2).sqrt() > 1",
    "random bytes": "len(os.urandom(8)) == 8",
    "process id": "os.getpid() == 3",  # not told, and no error
    "memory": "len(bytearray(200 << 20)) > 0",
    "cores": "os.sched_getaffinity(0) == {0}",  # not told either
    "idle executor": "__import__('concurrent.futures').futures.ThreadPoolExecutor() is not None",
    "private memory": "len(__import__('mmap').mmap(-1, 4096, flags=0x22)) == 4096",
    "real path": "os.path.isfile(os.path.realpath(os.__file__))",
    "absolute path": "len(__import__('pathlib').Path('.').resolve().parts) == 1",
    "linear algebra": "np.linalg.norm(np.ones((300, 300)) @ np.ones((300, 300))) > 0",
    "print": "print('x' * 100000) is None",
    "platform": "len(__import__('platform').machine()) > 0",
}


@pytest.mark.parametrize("operation", ALLOWED.values(), ids=ALLOWED)
def test_allowed_operation(operation: str, graders: Graders, sandbox: str) -> None:
    """What a right layer may want works: the filter is no trap."""
    source = f"{REFERENCE}\nimport os\nassert {operation}\n"
    assert graders(sandbox).grade_source(source)["passed"]


def test_memory_is_limited(graders: Graders, sandbox: str) -> None:
    """2 GiB, and not much less."""
    grader = graders(sandbox)
    assert grader.grade_source(REFERENCE + "big = bytearray(1 << 30)\n")["passed"]
    verdict = grader.grade_source(REFERENCE + "big = bytearray(2 << 30)\n")
    assert verdict["failure_mode"] == "crash"
    assert "MemoryError" in verdict["feedback"]


def test_environment_holds_no_key(graders: Graders, sandbox: str) -> None:
    """No variable of the trusted side arrives but LD_LIBRARY_PATH."""
    source = "import os\nraise RuntimeError('<' + ' '.join(sorted(os.environ)) + '>')\n"
    feedback = graders(sandbox).grade_source(source)["feedback"]
    names = set(feedback.split("<")[1].split(">")[0].split()) - {"LD_LIBRARY_PATH", "PWD"}
    assert "ANTHROPIC_API_KEY" not in names
    assert all(name.endswith("_NUM_THREADS") or name == "LC_ALL" for name in names), names


def test_no_file_but_the_interpreters_can_be_read(graders: Graders, sandbox: str) -> None:
    """In a plain process too, where the kernel has Landlock; the grader's memory is a file."""
    grader = graders(sandbox)
    assert grader.grade_source(REFERENCE)["passed"]
    if not worker_of(grader).files_hidden:
        pytest.skip("a kernel without Landlock")
    paths = [task.__file__, "/etc/passwd", "/proc/self/maps", f"/proc/{os.getpid()}/environ"]
    assert all(os.access(path, os.R_OK) for path in paths)
    source = f"""
import os
read = []
for path in {paths!r}:
    try:
        read.append(open(path, "rb").read(1))
    except OSError:
        pass
raise RuntimeError(f"<{{read}}>")
"""
    assert "<[]>" in grader.grade_source(source)["feedback"]


def test_packages_beside_numpy_are_not_on_the_path(graders: Graders, sandbox: str) -> None:
    """NumPy is loaded by then, and its directory gone from sys.path: also without Landlock."""
    there = f"{str(task._packages())!r} in sys.path"
    source = f"import sys\nraise RuntimeError('<' + str({there}) + '>')\n"
    assert "<False>" in graders(sandbox).grade_source(source)["feedback"]


def test_a_project_beside_the_interpreter_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the project lies in a directory that the sandbox shows, bubblewrap covers it."""
    if not shutil.which("bwrap"):
        pytest.skip("no bubblewrap here")
    assert "--tmpfs" not in task._bubblewrap()
    inside = Path(task._interpreter_paths()[-2]) / "project"
    monkeypatch.setattr(task, "__file__", str(inside / "variance_dropout_task.py"))
    command = task._bubblewrap()
    assert command[command.index("--tmpfs") + 1] == str(inside)


def test_a_project_among_the_interpreters_packages_is_hidden(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A plain process reads what lies beside the project, and not the project."""
    shown, project = tmp_path / "lib" / "python" / "json", tmp_path / "lib/python/site-packages"
    for directory in (shown, project):
        directory.mkdir(parents=True)
        (directory / "variance_dropout_task.py").write_text("secret")
    (tmp_path / "link").symlink_to(tmp_path / "lib")
    paths = [*task._interpreter_paths(), str(tmp_path / "link")]
    monkeypatch.setattr(task, "_interpreter_paths", lambda: paths)
    monkeypatch.setattr(task, "__file__", str(project / "variance_dropout_task.py"))
    with task.Grader(1, sandbox="process") as grader:
        told = []
        for directory in (shown, project):
            place = str(directory / "variance_dropout_task.py")
            source = f"raise RuntimeError('<' + open({place!r}).read() + '>')"
            told.append("<secret>" in grader.grade_source(source)["feedback"])
        if not worker_of(grader).files_hidden:
            pytest.skip("a kernel without Landlock")
    assert told == [True, False]


def test_bubblewrap_shows_nothing_of_the_project(graders: Graders) -> None:
    """Neither this project nor home nor /proc is in the view of the sandbox."""
    if task.available_sandbox() != "bubblewrap":
        pytest.skip("bubblewrap is not usable here")
    source = f"""
import os
seen = [p for p in ({task.__file__!r}, '/proc/self', '/home', '/etc/passwd') if os.path.exists(p)]
names = {{n for _, _, files in os.walk('/') for n in files if 'variance_dropout' in n}}
raise RuntimeError(f"<{{seen}} {{names}} {{os.getuid()}}>")
"""
    assert "<[] set() 65534>" in graders("bubblewrap").grade_source(source)["feedback"]
    names = {path.name for path in Path(task.__file__).parent.iterdir()}
    assert "variance_dropout_task.py" in names  # the search would find it


FLAGS = {
    "file": ("open('/tmp/vdt_flag', 'w').close()", "os.path.exists('/tmp/vdt_flag')"),
    "shared memory file": ("open('/dev/shm/vdt', 'w')", "os.path.exists('/dev/shm/vdt')"),
    "environment": ("os.environ.__setitem__('VDT', '1')", "'VDT' in os.environ"),
    "C environment": ("libc.setenv(b'VDT', b'1', 1)", "libc.getenv(b'VDT')"),
    "module": ("setattr(np, 'vdt', 1)", "hasattr(np, 'vdt')"),
    "working directory": ("os.chdir('/usr')", "os.getcwd() == '/usr'"),
    "shared memory": ("libc.shmget(4711, 4096, 0o1666)", "libc.shmget(4711, 4096, 0o666) >= 0"),
    "semaphore": ("libc.semget(4711, 1, 0o1666)", "libc.semget(4711, 1, 0o666) >= 0"),
    "message queue": ("libc.msgget(4711, 0o1666)", "libc.msgget(4711, 0o666) >= 0"),
    "key": (
        f"libc.syscall({ADD_KEY}, b'user', b'vdt', b'x', 1, -4)",
        f"libc.syscall({ADD_KEY + 1}, b'user', b'vdt', None, 0) > 0",
    ),
    "file position": ("os.lseek(0, 7, 0)", "os.lseek(0, 0, 1) == 7"),
    "generator": ("np.random.seed(7)", "np.random.random() == np.random.RandomState(7).random()"),
}


@pytest.mark.parametrize(("leave", "find"), FLAGS.values(), ids=FLAGS)
def test_no_flag_passes(leave: str, find: str, graders: Graders, sandbox: str) -> None:
    """What one submission leaves, by whatever channel, the next does not find."""
    head = REFERENCE + "import ctypes, os\nlibc = ctypes.CDLL(None)\n"
    leaving = f"{head}try:\n    {leave}\nexcept OSError:\n    pass\n"
    finding = f"{head}if {find}:\n    raise RuntimeError('found')\n"
    grader = graders(sandbox)
    grader.grade_source(leaving)
    worker = worker_of(grader)
    assert grader.grade_source(finding)["passed"]
    assert worker_of(grader) is worker  # it was the same one, where one serves several
