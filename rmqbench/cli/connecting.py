"""The options that name a broker: one group, the same for every command, and last in its help."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar, get_type_hints
from urllib.parse import SplitResult, unquote, urlsplit

import typer

from rmqbench.endpoint import Endpoint, host_and_port, shown_url
from rmqbench.errors import UsageError

__all__ = ["ConnectionOptions", "endpoint_of", "with_options"]

_PANEL = "Connection"
_MANAGEMENT_PORT = 15672


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """Which broker a person has named: by one URL, or by its parts."""

    url: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_PANEL,
            show_default=False,
            metavar="URL",
            help="The broker as one URL: amqp(s)://user:password@host:port/vhost. Or set the "
            "environment variable RMQBENCH_URL, which keeps the password out of the process list.",
        ),
    ] = field(default=None, repr=False)
    host: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_PANEL,
            show_default="localhost",
            metavar="HOST",
            help="Its host, also host:port or [IPv6]:port; or its URL, amqp(s)://… or, of the "
            "Management API, http(s)://….",
        ),
    ] = field(default=None, repr=False)
    port: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=_PANEL,
            min=1,
            max=65_535,
            show_default="5672; monitor: 15672",
            help="Its AMQP port; for monitor, that of the Management API.",
        ),
    ] = None
    username: Annotated[
        str | None,
        typer.Option(rich_help_panel=_PANEL, show_default="guest", help="The user."),
    ] = None
    password: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_PANEL,
            show_default="guest",
            help="The password. Or set the environment variable RMQBENCH_PASSWORD, which keeps it "
            "out of the process list, also for a URL with a user only.",
        ),
    ] = field(default=None, repr=False)
    vhost: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_PANEL,
            show_default="/; monitor: all",
            help="The virtual host.",
        ),
    ] = None
    management_url: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_PANEL,
            show_default=False,
            metavar="URL",
            help="Its Management API; by default port 15672 of its host, 15671 with TLS. Or set "
            "the environment variable RMQBENCH_MANAGEMENT_URL, which counts only where no option "
            "names the broker.",
        ),
    ] = field(default=None, repr=False)

    @property
    def given(self) -> tuple[str, ...]:
        """The names of the options that were given and say which broker is meant."""
        names = ("url", "host", "port", "username", "password", "vhost")
        return tuple(name for name in names if getattr(self, name) is not None)

    def endpoint(self) -> Endpoint:
        """Return the broker that the options name; without any RMQBENCH_URL's, or localhost's.

        RMQBENCH_MANAGEMENT_URL counts only where no option names the broker. Raise UsageError for
        options that contradict each other, and for what is no address.
        """
        url, management_url = self._whole_url(*self.given), self.management_url
        if not self.given:  # what the environment says is of another broker than the options
            url = os.environ.get("RMQBENCH_URL") or "amqp://localhost"
            management_url = management_url or os.environ.get("RMQBENCH_MANAGEMENT_URL")
        management_url = management_url and _completed(management_url)
        if url is not None:
            try:
                return endpoint_of(url, management_url)
            except UsageError as error:
                if self.given:
                    raise
                raise UsageError(f"RMQBENCH_URL: {error.what}", error.remedy) from None
        at = _parsed("localhost" if self.host is None else self.host)
        if at.scheme:  # its port is the Management API's
            management_url, _, _ = _parted(self._management_url_of_host(at, at.port))
            port = self.port
        else:
            port = self._only_port(at)
        if at.path.strip("/") and not at.scheme:
            raise _no_address(self.host or "")
        scheme = "amqps" if at.scheme == "https" else "amqp"
        known = Endpoint.from_url(f"{scheme}://{host_and_port(at.hostname or '')}", management_url)
        return replace(
            known,
            port=port or known.port,
            username=self.username or unquote(at.username or "") or known.username,
            password=self.password or unquote(at.password or "") or _password(),
            virtual_host=self.vhost or known.virtual_host,
        )

    def management_endpoint(self) -> Endpoint:
        """Return where the Management API is and the login for it, for who needs nothing else.

        A port is that of the Management API then, and ``vhost`` no part of the broker's address.
        RMQBENCH_MANAGEMENT_URL counts where no option says where the broker is, and RMQBENCH_URL
        where no option says who logs in there either. Raise UsageError.
        """
        given = [name for name in self.given if name != "vhost"]
        url = self._whole_url(*given)
        if url is not None:
            known = endpoint_of(url, self.management_url)
        elif "host" in given or "port" in given:
            at = _parsed("localhost" if self.host is None else self.host)
            where = self._management_url_of_host(at, self._only_port(at))
            known = Endpoint(password=_password(), management_url=where)
        else:
            where = self.management_url or os.environ.get("RMQBENCH_MANAGEMENT_URL") or ""
            broker = os.environ.get("RMQBENCH_URL")
            if broker and not given:
                known = endpoint_of(broker, where)
            else:
                known = Endpoint(password=_password(), management_url=where or "localhost")
        where, username, password = _parted(_completed(known.management_url or ""))
        return Endpoint(
            host=known.host,
            username=self.username or username or known.username,
            password=self.password or password or known.password,
            management_url=where,
        )

    def _whole_url(self, *given: str) -> str | None:
        """Return the AMQP URL that was given as --url or --host; nothing else may be, then."""
        if "url" in given:
            url, option, others = self.url, "--url", [name for name in given if name != "url"]
        elif (self.host or "").startswith(("amqp://", "amqps://")):
            url, option = self.host, "--host with an AMQP URL"
            others = [name for name in given if name != "host"]
        else:
            return None
        if others:
            raise UsageError(
                f"{option} and --{others[0]} both say where the broker is.",
                "Give one URL, or its parts.",
            )
        return url

    def _only_port(self, at: SplitResult) -> int | None:
        if at.port and self.port:
            raise UsageError(
                f"--host {shown_url(self.host or '')} and --port both name a port.",
                "Give one of them.",
            )
        return at.port or self.port

    def _management_url_of_host(self, at: SplitResult, port: int | None) -> str:
        """Return the Management API that --host and --port name, with the login in it."""
        if self.management_url:
            if at.scheme or port:
                option = "--host" if at.scheme or at.port else "--port"
                raise UsageError(
                    f"{option} and --management-url both say where the Management API is.",
                    "Give one of them.",
                )
            return self.management_url
        login, sign, _ = at.netloc.rpartition("@")
        if port is None and not at.scheme:
            port = _MANAGEMENT_PORT
        where = host_and_port(at.hostname or "", port)
        return f"{at.scheme or 'http'}://{login}{sign}{where}{at.path}"


_Options = TypeVar("_Options")
_Rest = ParamSpec("_Rest")


def with_options(
    kind: Callable[..., _Options],
) -> Callable[[Callable[Concatenate[_Options, _Rest], None]], Callable[..., None]]:
    """Add the fields of a dataclass to a command's options, behind its own.

    The command takes one value of it as its first parameter::

        @with_options(ConnectionOptions)
        def consume(connection: ConnectionOptions, queue: Annotated[str, typer.Option()] = "q"): …
    """
    annotations = get_type_hints(kind, include_extras=True)
    shared = [
        Parameter(
            each.name,
            Parameter.KEYWORD_ONLY,
            default=each.default,
            annotation=annotations[each.name],
        )
        for each in fields(kind)  # type: ignore[arg-type]  # it is a dataclass
    ]

    def decorate(command: Callable[Concatenate[_Options, _Rest], None]) -> Callable[..., None]:
        @wraps(command)
        def run(**given: Any) -> None:
            options = kind(**{each.name: given.pop(each.name) for each in shared})
            command(options, **given)  # type: ignore[call-arg]  # typer gives the rest by name

        _, *own = signature(command, eval_str=True).parameters.values()
        own = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in own]
        # Typer reads both; the text of the annotations means something in the command's module.
        run.__signature__ = Signature([*own, *shared])  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in (*own, *shared)}
        return run

    return decorate


def endpoint_of(url: str, management_url: str | None) -> Endpoint:
    """Return the endpoint of a URL, with the environment's password where it names a user only.

    Raise UsageError.
    """
    endpoint = Endpoint.from_url(url, management_url)
    at = urlsplit(url)
    unsaid = at.username is not None and at.password is None
    return replace(endpoint, password=_password()) if unsaid else endpoint


def _password() -> str:
    return os.environ.get("RMQBENCH_PASSWORD") or Endpoint().password


def _parsed(host: str) -> SplitResult:
    """Split what --host says; without a scheme it is a host, with or without a port."""
    try:
        at = urlsplit(host if "://" in host else f"//{_with_brackets(host)}")
        known = at.scheme in ("", "http", "https") and at.port != 0
    except ValueError:
        raise _no_address(host) from None
    if not known or not at.hostname or at.query or at.fragment or " " in host:
        raise _no_address(host)
    return at


def _no_address(host: str) -> UsageError:
    return UsageError(
        f"{shown_url(host)!r} is not the address of a broker.",
        "Write --host HOST, HOST:PORT or [IPv6]:PORT, or a URL: amqp(s)://… or, of the Management "
        "API, http(s)://….",
    )


def _completed(url: str) -> str:
    """Add what need not be written; an address that is wrong is left for Management to refuse."""
    if "://" in url:
        return url
    with suppress(ValueError):
        at = urlsplit(f"http://{_with_brackets(url)}")
        port = "" if at.port else f":{_MANAGEMENT_PORT}"
        return f"http://{at.netloc}{port}{at.path}"
    return f"http://{url}"


def _parted(url: str) -> tuple[str, str | None, str | None]:
    """Take the login out of an address: an option may stand in place of a part of it."""
    with suppress(ValueError):
        at = urlsplit(url)
        if at.username is not None and at.hostname:
            bare = at._replace(netloc=at.netloc.rpartition("@")[2]).geturl()
            return bare, unquote(at.username), unquote(at.password or "")
    return url, None, None


def _with_brackets(text: str) -> str:
    """Put a bare IPv6 address into the brackets that tell it from a port."""
    bare = text.count(":") > 1 and not any(each in text for each in "[]@/")
    return host_and_port(text) if bare else text
