"""RabbitMQ from the distribution's packages, unpacked into the user's cache: no root, no install.

apt is run on lists, cache and state of its own, so that it needs neither root nor an earlier
``apt-get update``, and changes nothing of the system's. It takes the system's sources and keys, and
checks signatures and checksums as always.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

import filelock

from rmqbench.broker.installation import Installation, packaged_sbin
from rmqbench.broker.places import cache_directory, has_blanks, require_space
from rmqbench.broker.reaper import MARK, Guard
from rmqbench.errors import BrokerUnavailable

__all__ = ["can_unpack", "installation_from_packages"]

_UPDATE_TIMEOUT_S = 180.0
_DOWNLOAD_TIMEOUT_S = 300.0
_UNPACK_TIMEOUT_S = 60.0
_LOCK_TIMEOUT_S = 600.0
_SPACE_MB = 250
_COMPLETE = ".complete"


@dataclass(frozen=True, slots=True)
class _Package:
    name: str
    version: str


def can_unpack() -> bool:
    """Say whether this is a system whose packages can be fetched and unpacked."""
    return all(shutil.which(tool) for tool in ("apt-get", "dpkg-deb", "dpkg-query"))


def installation_from_packages(say: Callable[[str], None]) -> Installation:
    """Give the RabbitMQ in the user's cache, after filling the cache once.

    Two processes do not fill it at once, and an interrupted one leaves nothing that counts. Raises
    BrokerUnavailable.
    """
    cache = cache_directory() / "packages"
    if has_blanks(cache):
        raise BrokerUnavailable(
            f"RabbitMQ's start scripts do not work in a directory with blanks or quotes: {cache}.",
            "Let XDG_CACHE_HOME name another one.",
        )
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(cache / "lock", timeout=_LOCK_TIMEOUT_S)
        with lock:
            tree = _find_tree(cache) or _fill(cache, say)
    except filelock.Timeout as error:
        raise BrokerUnavailable(
            f"Another process has been unpacking RabbitMQ's packages into {cache} for more than"
            f" {_LOCK_TIMEOUT_S:g} s.",
            "End it, or wait for it.",
        ) from error
    except OSError as error:
        raise BrokerUnavailable(
            f"RabbitMQ's packages cannot be unpacked into {cache}: {error.strerror or error}.",
            "Let XDG_CACHE_HOME name a directory that is writable and has 250 MB left.",
        ) from error
    sbin = packaged_sbin(tree)
    if sbin is None:
        raise BrokerUnavailable(
            f"{tree} holds no RabbitMQ.", "Delete that directory; it is filled anew."
        )
    libraries = tuple(
        path
        for path in (tree / "usr/lib", tree / "lib")
        for path in path.glob("*-linux-gnu*")
        if path.is_dir()
    )
    return Installation(
        sbin,
        tree / "usr/lib/erlang/bin",
        f"the distribution's package {tree.name.split('_')[1]}, unpacked in the user's cache",
        libraries,
    )


def _system() -> str:
    """Name what the packages belong to: an upgraded system gets a tree of its own."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    name = f"{release.get('ID', 'debian')}{release.get('VERSION_ID', '')}"
    return re.sub(r"[^a-z0-9.]", "", f"{name.lower()}.{platform.machine().lower()}")


def _find_tree(cache: Path) -> Path | None:
    """Find a complete tree: an interrupted one never got its name."""
    trees = [path for path in cache.glob(f"{_system()}_*_*") if (path / _COMPLETE).is_file()]
    return max(trees, key=lambda path: path.stat().st_mtime, default=None)


def _fill(cache: Path, say: Callable[[str], None]) -> Path:
    require_space(cache, _SPACE_MB, "unpacking RabbitMQ's packages once")
    say(
        "rmqbench unpacks RabbitMQ from this distribution's packages into"
        f" {cache} (once; about 35 MB to download, nothing is installed)"
    )
    for left in cache.glob("filling-*"):  # of a machine that went down: we hold the lock
        shutil.rmtree(left, ignore_errors=True)
    with _guarded_directory(cache) as (work, run):
        apt = _Apt(work, run)
        apt.update()
        packages = _wanted(apt.closure("rabbitmq-server"), _installed(run))
        archives = apt.download(packages)
        tree = work / "tree"
        tree.mkdir()
        for archive in archives:
            run(
                ["dpkg-deb", "-x", str(archive), str(tree)],
                _UNPACK_TIMEOUT_S,
                f"unpack {archive.name}",
            )
        place = cache / _tree_name(packages)
        _relocate_erlang(tree, place)
        (tree / _COMPLETE).write_text(
            "".join(f"{package.name} {package.version}\n" for package in packages)
        )
        if place.exists():  # without the mark of completion, or it would have been found
            shutil.rmtree(place)
        tree.rename(place)
    return place


@contextlib.contextmanager
def _guarded_directory(parent: Path) -> Iterator[tuple[Path, _Runner]]:
    """Make a working directory and a runner of commands that both end with us, killed or not."""
    guard = Guard()
    mark = secrets.token_hex(8)
    work = parent / f"filling-{mark}"
    try:
        guard.hold(directory=str(work))
        guard.hold(mark=mark)
        work.mkdir()
        yield work, _Runner(mark, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        guard.close()


def _wanted(closure: list[_Package], installed: set[str]) -> list[_Package]:
    """Choose what to unpack of everything that rabbitmq-server needs.

    The closure is computed as for an empty system, because apt would leave out what is installed,
    and an installed half of Erlang is of no use to an unpacked other half. Taken are: RabbitMQ and
    all of Erlang, whatever is installed; shared libraries that are not installed. Not taken are the
    tools of installed packages (adduser, logrotate, socat, init scripts): a node of ours uses none.
    """
    return [
        package
        for package in closure
        if package.name == "rabbitmq-server"
        or package.name.startswith("erlang-")
        or (package.name.startswith("lib") and package.name not in installed)
    ]


def _tree_name(packages: list[_Package]) -> str:
    versions = {package.name: package.version for package in packages}
    digest = hashlib.sha256(repr(packages).encode()).hexdigest()[:8]
    rabbit = versions["rabbitmq-server"].replace(":", "-")
    erlang = versions.get("erlang-base", "unknown").replace(":", "-")
    return f"{_system()}_{rabbit}_erlang-{erlang}_{digest}"


def _relocate_erlang(tree: Path, place: Path) -> None:
    """Let Erlang find itself: the one absolute path in the packages is in the script ``erl``."""
    script = tree / "usr/lib/erlang/bin/erl"
    text = script.read_text("utf-8")
    new, count = re.subn(
        r"(?m)^(\s*)ROOTDIR=/usr/lib/erlang$",
        lambda match: f"{match[1]}ROOTDIR='{place}/usr/lib/erlang'",
        text,
    )
    if not count:
        raise BrokerUnavailable(
            "The distribution's Erlang is built in a way that rmqbench does not know"
            " (no ROOTDIR in its start script).",
            "Install rabbitmq-server, or use Docker or --rmqbench-broker amqp://….",
        )
    script.write_text(new, "utf-8")


@final
class _Apt:
    """apt-get with lists, cache and state in a directory of its own."""

    def __init__(self, work: Path, run: _Runner) -> None:
        self._run = run
        state = work / "apt"
        for name in ("lists/partial", "archives/partial", "downloads"):
            (state / name).mkdir(parents=True)
        # An empty status file: as if nothing were installed.
        (state / "status").touch()
        self._configuration = work / "apt.conf"
        self._configuration.write_text(
            # The hooks of the system's configuration concern the system's own cache.
            "#clear APT::Update::Pre-Invoke;\n"
            "#clear APT::Update::Post-Invoke;\n"
            "#clear APT::Update::Post-Invoke-Success;\n"
            "#clear DPkg::Post-Invoke;\n"
            f'Dir::State "{state}";\n'
            f'Dir::State::lists "{state}/lists";\n'
            f'Dir::State::status "{state}/status";\n'
            f'Dir::Cache "{state}";\n'
            f'Dir::Cache::archives "{state}/archives";\n'
            'Dir::Cache::pkgcache "";\n'
            'Dir::Cache::srcpkgcache "";\n'
            # As root, apt would download as a user who cannot write here.
            'APT::Sandbox::User "root";\n'
            'Acquire::Retries "1";\n'
            'Acquire::http::Timeout "20";\n'
            'Acquire::https::Timeout "20";\n'
            'Acquire::Languages "none";\n'
        )
        self._downloads = state / "downloads"

    def update(self) -> None:
        """Fetch the package lists of the system's sources (a source that fails is left out)."""
        self._get(["update"], _UPDATE_TIMEOUT_S, "fetch the package lists")

    def closure(self, name: str) -> list[_Package]:
        """Give a package and everything it needs, as on an empty system."""
        said = self._get(
            ["--no-install-recommends", "-s", "install", name],
            _UNPACK_TIMEOUT_S,
            f"find {name} (is the distribution's main section among the sources?)",
        )
        found = re.findall(r"(?m)^Inst (\S+) \((\S+) ", said)
        return [_Package(package, version) for package, version in found]

    def download(self, packages: list[_Package]) -> list[Path]:
        """Download packages, checked against the signed lists."""
        self._get(
            ["download", *(f"{package.name}={package.version}" for package in packages)],
            _DOWNLOAD_TIMEOUT_S,
            "download RabbitMQ's packages",
        )
        archives = sorted(self._downloads.glob("*.deb"))
        if len(archives) != len(packages):
            raise BrokerUnavailable(
                f"apt downloaded {len(archives)} of {len(packages)} packages.", "Try again."
            )
        return archives

    def _get(self, arguments: list[str], timeout_s: float, to_do: str) -> str:
        command = ["apt-get", "-q", "-y", "-c", str(self._configuration), *arguments]
        return self._run(command, timeout_s, to_do, cwd=self._downloads)


def _installed(run: _Runner) -> set[str]:
    said = run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n"],
        _UNPACK_TIMEOUT_S,
        "list what is installed",
    )
    return {line.split()[1] for line in said.splitlines() if line.startswith("installed ")}


@final
class _Runner:
    """Runs commands with a limit in time, marked for the guard."""

    def __init__(self, mark: str, directory: Path) -> None:
        # The temporary files of apt and its helpers belong on the disk that was checked for space.
        self._extra = {
            MARK: mark,
            "LC_ALL": "C",
            "DEBIAN_FRONTEND": "noninteractive",
            "TMPDIR": str(directory),
        }
        self._directory = directory

    def __call__(
        self, command: list[str], timeout_s: float, to_do: str, cwd: Path | None = None
    ) -> str:
        try:
            done = subprocess.run(
                command,
                cwd=cwd or self._directory,
                env=os.environ | self._extra,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise BrokerUnavailable(
                f"{command[0]} took more than {timeout_s:g} s to {to_do}.",
                "Check the network and the package sources in /etc/apt.",
            ) from error
        if done.returncode:
            raise _failure(command[0], to_do, done.stderr + done.stdout)
        return done.stdout


def _failure(tool: str, to_do: str, said: str) -> BrokerUnavailable:
    if re.search(r"No space left on device|enough free space", said):
        return BrokerUnavailable(
            f"The disk is full: {tool} could not {to_do}.",
            "Free 250 MB, or let XDG_CACHE_HOME name a directory on another disk.",
        )
    complaints = [line for line in said.splitlines() if re.match(r"[EW]: |dpkg", line)]
    last = "; ".join(complaints[-3:]) or said.strip()[-300:]
    return BrokerUnavailable(
        f"{tool} could not {to_do}: {last}",
        "Check the network and the package sources in /etc/apt.",
    )
