"""RabbitMQ from the distribution's packages, unpacked into the user's cache: no root, no install.

apt runs with lists, a cache and a state of its own, so that it needs neither root nor an earlier
``apt-get update``, and changes nothing in the system. It uses the system's sources and keys, and
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
from rmqbench.broker.reaper import MARK, Reaper
from rmqbench.errors import BrokerUnavailable
from rmqbench.text import counted

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
    """Whether this is a system whose packages can be fetched and unpacked."""
    return all(shutil.which(tool) for tool in ("apt-get", "dpkg-deb", "dpkg-query"))


def installation_from_packages(say: Callable[[str], None]) -> Installation:
    """Return the RabbitMQ in the user's cache, after filling the cache once.

    Processes that need it at the same time wait for the first one to fill it; an interrupted one
    leaves nothing that counts. ``say`` is called with a line at each step. Raise
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
        with _locked(cache, say):
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
            f"{tree} holds no RabbitMQ.", "Delete that directory, which will be filled again."
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


@contextlib.contextmanager
def _locked(cache: Path, say: Callable[[str], None]) -> Iterator[None]:
    lock = filelock.FileLock(cache / "lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        say("Waiting for another process, which is unpacking RabbitMQ's packages")
        lock.acquire(timeout=_LOCK_TIMEOUT_S)
    try:
        yield
    finally:
        lock.release()


def _system() -> str:
    """Return a name of this system: an upgraded one gets a tree of its own."""
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
    for left in cache.glob("filling-*"):  # of a machine that went down: we hold the lock
        shutil.rmtree(left, ignore_errors=True)
    with _working_directory(cache) as (work, run):
        apt = _Apt(work, run)
        say("Fetching the package lists (once, for a RabbitMQ in the user's cache)")
        apt.update()
        packages = _wanted(apt.closure("rabbitmq-server"), _installed(run))
        size_mb = apt.size_bytes(packages) / 1e6
        wanted = counted(len(packages), "package")
        say(f"Downloading {wanted} ({size_mb:.0f} MB; nothing is installed)")
        archives = apt.download(packages)
        say(f"Unpacking them into {cache}")
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
def _working_directory(parent: Path) -> Iterator[tuple[Path, _Runner]]:
    """Make a directory and a runner of commands that both end with us, even if we are killed."""
    reaper = Reaper()
    mark = secrets.token_hex(8)
    work = parent / f"filling-{mark}"
    try:
        reaper.hold(directory=str(work))
        reaper.hold(mark=mark)
        work.mkdir()
        yield work, _Runner(mark, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        reaper.close()


def _wanted(closure: list[_Package], installed: set[str]) -> list[_Package]:
    """Choose what to unpack of everything that rabbitmq-server needs.

    The closure is computed as for an empty system, because apt would leave out what is installed,
    and an installed half of Erlang is of no use to an unpacked other half. RabbitMQ and all of
    Erlang are unpacked, whatever is installed, and the shared libraries that are not installed.
    The tools that an installed RabbitMQ uses (adduser, logrotate, socat, init scripts) are left
    out: a node of ours uses none of them.
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
    """Write Erlang's new place into its script ``erl``, where the one absolute path is."""
    script = tree / "usr/lib/erlang/bin/erl"
    text = script.read_text("utf-8")
    new, count = re.subn(
        r"(?m)^(\s*)ROOTDIR=/usr/lib/erlang$",
        lambda match: f"{match[1]}ROOTDIR='{place}/usr/lib/erlang'",
        text,
    )
    if not count:
        raise BrokerUnavailable(
            "The distribution's Erlang cannot be used from the user's cache: its start script has"
            " no line ROOTDIR=/usr/lib/erlang.",
            "Install rabbitmq-server, use Docker, or name a broker by its URL (amqp://…).",
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
        """Return a package and everything it needs, as on an empty system."""
        said = self._get(
            ["--no-install-recommends", "-s", "install", name],
            _UNPACK_TIMEOUT_S,
            f"find {name} (is the distribution's main section among the sources?)",
        )
        found = re.findall(r"(?m)^Inst (\S+) \((\S+) ", said)
        return [_Package(package, version) for package, version in found]

    def size_bytes(self, packages: list[_Package]) -> int:
        """Return how much there is to download."""
        said = self._download(packages, "--print-uris", to_do="look RabbitMQ's packages up")
        return sum(int(size) for size in re.findall(r"(?m)^'.*' \S+ (\d+)", said))

    def download(self, packages: list[_Package]) -> list[Path]:
        """Download packages, checked against the signed lists."""
        self._download(packages, to_do="download RabbitMQ's packages")
        archives = sorted(self._downloads.glob("*.deb"))
        if len(archives) != len(packages):
            raise BrokerUnavailable(
                f"apt downloaded {len(archives)} of {counted(len(packages), 'package')}.",
                "Try again.",
            )
        return archives

    def _download(self, packages: list[_Package], *options: str, to_do: str) -> str:
        names = [f"{package.name}={package.version}" for package in packages]
        return self._get([*options, "download", *names], _DOWNLOAD_TIMEOUT_S, to_do)

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
    """Runs commands with a limit in time, marked for the reaper."""

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
