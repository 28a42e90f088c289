"""A Harbor environment for machines without a container engine: bubblewrap around this host.

    PYTHONPATH=tests harbor run -p TASK -a oracle --env harbor_environment:LocalEnvironment

Of a Dockerfile it honours WORKDIR and COPY. FROM and RUN are ignored: in their place the box shows
this host's /usr read-only, the interpreter that runs Harbor as `python` and `python3` in
/usr/local/bin, and the NumPy of that interpreter in a site-packages directory of the box's own.
All else of the file tree is new, writable and gone with the box. Processes live on between two
commands, as in a container; the network is the host's or none. `--ek bwrap=false` takes bubblewrap
away from what runs in the box.

It is for tests: it has no limits on memory, CPU and disk. Inside, one is root of a user namespace.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
from harbor.environments.base import BaseEnvironment, ExecResult, transfer_tar_filter
from harbor.environments.capabilities import EnvironmentCapabilities

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Box:
    """A file tree with namespaces of its own, in which commands run one after the other."""

    def __init__(self, *, network: bool = False, bwrap: bool = True) -> None:
        for program in ("bwrap", "nsenter"):
            if not shutil.which(program):
                raise FileNotFoundError(f"expected {program} on PATH, found none: install it")
        self.directory = Path(tempfile.mkdtemp(prefix="harbor-box-"))
        self.root = self.directory / "root"
        told, tell = os.pipe()
        self._init = subprocess.Popen(
            [*self._walls(network, bwrap), "--info-fd", str(tell),
             "bash", "-c", "echo ready; exec sleep infinity"],
            pass_fds=[tell], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )
        os.close(tell)
        with open(told) as info:
            text = info.read()
        assert self._init.stdout is not None
        with self._init.stdout as output:
            ready = output.readline()
        if not ready:
            self.close()
            raise RuntimeError("expected bwrap to start a box; it said why on standard error")
        self._network = network
        self._pid = str(json.loads(text)["child-pid"])

    def _walls(self, network: bool, bwrap: bool) -> list[str]:
        for name in ("tmp", "root", "etc", "usr"):
            (self.root / name).mkdir(parents=True)
        command = ["bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
        command += ["--uid", "0", "--gid", "0", "--cap-add", "ALL", "--die-with-parent"]
        command += [] if network else ["--unshare-net"]
        command += ["--bind", str(self.root), "/", "--ro-bind", "/usr", "/usr"]
        for path in ("/bin", "/sbin", "/lib", "/lib64"):
            if os.path.islink(path):
                (self.root / path[1:]).symlink_to(os.readlink(path))
            elif os.path.isdir(path):
                command += ["--ro-bind", path, path]
        for path in ("/etc/ld.so.cache", "/etc/alternatives", "/etc/passwd", "/etc/group"):
            command += ["--ro-bind-try", path, path]
        if not bwrap:
            command += ["--ro-bind", "/dev/null", os.path.realpath(shutil.which("bwrap") or "")]
        return [*command, *self._python(), "--proc", "/proc", "--dev", "/dev"]

    def _python(self) -> list[str]:
        """What stands for `FROM python` and `RUN pip install numpy`."""
        interpreter = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
        base = Path(sys.base_prefix)
        where = "import sysconfig; print(sysconfig.get_path('platlib'))"
        packages = subprocess.check_output([interpreter, "-I", "-S", "-c", where], text=True)
        local, site = self.directory / "local", self.directory / "site-packages"
        (local / "bin").mkdir(parents=True)
        site.mkdir()
        walls = [] if base.is_relative_to("/usr") else ["--ro-bind", str(base), str(base)]
        if os.path.realpath("/usr/local/bin/python3") != interpreter:
            for name in ("python", "python3"):
                (local / "bin" / name).symlink_to(interpreter)
            walls += ["--bind", str(local), "/usr/local"]
        walls += ["--bind", str(site), packages.strip()]
        for path in (Path(np.__path__[0]), Path(np.__path__[0]).with_name("numpy.libs")):
            walls += ["--ro-bind-try", str(path.resolve()), f"{packages.strip()}/{path.name}"]
        return walls

    def run(
        self,
        command: str,
        *,
        cwd: str = "/",
        env: dict[str, str] | None = None,
        timeout: float | None = None,
        stdin: IO[bytes] | int = subprocess.DEVNULL,
        stdout: IO[bytes] | None = None,
    ) -> ExecResult:
        """Run a shell command; what it leaves running stays, and is not waited for."""
        enter = ["nsenter", "--target", self._pid, "--user", "--mount", "--pid", "--ipc", "--uts"]
        enter += [] if self._network else ["--net"]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
            try:
                done = subprocess.run(
                    [*enter, "--preserve-credentials", "/usr/bin/timeout", "--signal=KILL",
                     str(timeout or 0), "/bin/bash", "-c",
                     f"cd {shlex.quote(cwd)} || exit 125\n{command}"],
                    env={"PATH": SEARCH_PATH, "HOME": "/root", "LANG": "C.UTF-8", **(env or {})},
                    stdin=stdin, stdout=stdout or out, stderr=errors, check=False,
                )
            finally:
                out.seek(0)
                errors.seek(0)
            return ExecResult(
                stdout=out.read().decode(errors="replace"),
                stderr=errors.read().decode(errors="replace"),
                return_code=done.returncode,
            )

    def put(self, source: Path, target: str) -> None:
        """Copy a file or the contents of a directory into the box.

        It is unpacked inside: a link that the box holds leads nowhere outside.
        """
        path = PurePosixPath(target)
        folder = path if source.is_dir() else path.parent
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(source, "." if source.is_dir() else path.name)
        with tempfile.TemporaryFile() as file:
            file.write(archive.getvalue())
            file.seek(0)
            quoted = shlex.quote(str(folder))
            done = self.run(
                f"mkdir -p {quoted} && tar -x --no-same-owner -C {quoted}", stdin=file
            )
        if done.return_code:
            raise RuntimeError(f"{target}: expected to write it in the box, got: {done.stderr}")

    def get(self, source: str, target: Path) -> None:
        """Copy a regular file, or the contents of a directory, out of the box."""
        path = shlex.quote(source)
        with tempfile.TemporaryFile() as file:
            done = self.run(
                f"if [ -d {path} ]; then tar -c -C {path} .; else [ -f {path} ] && cat {path}; fi",
                stdout=file,
            )
            file.seek(0)
            if done.return_code:
                raise FileNotFoundError(f"{source}: expected a file in the box; {done.stderr}")
            if self.run(f"[ -d {path} ]").return_code == 0:
                with tarfile.open(fileobj=file) as tar:
                    tar.extractall(target, filter=transfer_tar_filter)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                with open(target, "wb") as copy:
                    shutil.copyfileobj(file, copy)

    def close(self) -> None:
        """End every process in the box and remove its files."""
        self._init.kill()
        self._init.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


class LocalEnvironment(BaseEnvironment):
    """Harbor's handle on a Box."""

    def __init__(self, *args: Any, bwrap: bool = True, **kwargs: Any) -> None:
        self._bwrap = bwrap
        self._box: Box | None = None
        super().__init__(*args, **kwargs)

    @staticmethod
    def type() -> str:
        return "local-bubblewrap"

    @property
    def capabilities(self) -> EnvironmentCapabilities:
        return EnvironmentCapabilities(disable_internet=True)

    def _validate_definition(self) -> None:
        if not (Path(self.environment_dir) / "Dockerfile").is_file():
            raise FileNotFoundError(f"{self.environment_dir}: expected a Dockerfile, found none")

    @property
    def box(self) -> Box:
        if self._box is None:
            raise RuntimeError("expected a started environment")
        return self._box

    async def start(self, force_build: bool) -> None:
        self._box = Box(network=not self._network_disabled, bwrap=self._bwrap)
        self._workdir = "/"
        for line in (Path(self.environment_dir) / "Dockerfile").read_text().splitlines():
            match line.split():
                case ["WORKDIR", directory]:
                    self._workdir = directory
                    self.box.run(f"mkdir -p {shlex.quote(directory)}")
                case ["COPY", *sources, target]:
                    for name in sources:
                        self._copy(Path(self.environment_dir) / name, target)
        self._workdir = self.task_env_config.workdir or self._workdir
        await self.ensure_dirs(["/logs/agent", "/logs/verifier", "/logs/artifacts"])

    def _copy(self, source: Path, target: str) -> None:
        into = target.endswith("/") and source.is_file()
        path = PurePosixPath(self._workdir) / target
        self.box.put(source, str(path / source.name if into else path))

    async def stop(self, delete: bool) -> None:
        if self._box is not None:
            self._box.close()
            self._box = None

    async def upload_file(self, source_path: Path | str, target_path: str) -> None:
        await asyncio.to_thread(self.box.put, Path(source_path), target_path)

    async def upload_dir(self, source_dir: Path | str, target_dir: str) -> None:
        await asyncio.to_thread(self.box.put, Path(source_dir), target_dir)

    async def download_file(self, source_path: str, target_path: Path | str) -> None:
        await asyncio.to_thread(self.box.get, source_path, Path(target_path))

    async def download_dir(self, source_dir: str, target_dir: Path | str) -> None:
        await asyncio.to_thread(self.box.get, source_dir, Path(target_dir))

    async def exec(
        self,
        command: str,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        timeout_sec: int | None = None,
        user: str | int | None = None,
    ) -> ExecResult:
        if self._resolve_user(user) not in (None, "root", 0, "0"):
            raise ValueError(f"expected user root, the one in this environment, got {user!r}")
        return await asyncio.to_thread(
            self.box.run, command, cwd=cwd or self._workdir, env=self._merge_env(env),
            timeout=timeout_sec,
        )
