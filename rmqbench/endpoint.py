"""Where a broker is and how to log in: a value, shared by every part that connects."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote, urlsplit

from rmqbench.errors import UsageError
from rmqbench.text import require_utf8

__all__ = ["Endpoint", "hide_password", "host_and_port", "is_loopback", "shown_url"]

# From the first colon after the scheme to the last @; only a text's first word may lack a scheme.
_PASSWORD_IN_URL = re.compile(r"(?:(?<=://)|\A(?![^:\s]*://))([^:\s]*):\S*@")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One broker's AMQP address, credentials and Management API.

    ``str()`` and ``repr()`` never show the password; :meth:`url` does, for those who connect.
    """

    host: str = "localhost"
    port: int = 5672
    username: str = "guest"
    password: str = field(default="guest", repr=False)
    virtual_host: str = "/"
    tls: bool = False
    management_url: str | None = field(default=None, repr=False)  # it may hold a login

    def __post_init__(self) -> None:
        """Raise UsageError for a port that does not exist, and for what UTF-8 cannot encode."""
        if not 1 <= self.port <= 65_535:  # the C library would take it modulo 65536
            raise UsageError(f"There is no port {self.port}.", "Give a number between 1 and 65535.")
        for name in ("host", "username", "password", "virtual_host"):
            require_utf8(name.replace("_", " "), getattr(self, name))

    @classmethod
    def from_url(cls, url: str, management_url: str | None = None) -> Endpoint:
        """Parse ``amqp(s)://user:password@host:port/vhost`` (RabbitMQ's URI specification).

        An absent virtual host is ``/``; the Management API is assumed on the same host at its
        default port (15672, or 15671 with TLS) unless ``management_url`` names it.

        Raise UsageError for anything else.
        """
        shown = shown_url(url)
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:  # whose own text may quote a part of the password
            raise UsageError(
                f"{shown!r} is not an AMQP URL.",
                "Write amqp://user:password@host:5672/vhost (special characters %-encoded).",
            ) from None
        if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
            raise UsageError(
                f"{shown!r} is not an AMQP URL.",
                "Write amqp://user:password@host:5672/vhost, or amqps://… for TLS.",
            )
        if parts.query or parts.fragment or "/" in parts.path[1:]:
            raise UsageError(
                f"{shown!r} has a part after the virtual host, which rmqbench does not know.",
                "Write amqp://user:password@host:5672/vhost; a slash in a virtual host is %2F.",
            )
        tls = parts.scheme == "amqps"
        path = parts.path[1:]
        host = parts.hostname
        scheme, management_port = ("https", 15671) if tls else ("http", 15672)
        return cls(
            host=host,
            port=port or (5671 if tls else 5672),
            username="guest" if parts.username is None else unquote(parts.username),
            password="guest" if parts.password is None else unquote(parts.password),
            virtual_host=unquote(path) if path else "/",
            tls=tls,
            management_url=management_url or f"{scheme}://{host_and_port(host, management_port)}",
        )

    @property
    def address(self) -> str:
        """Return ``host:port`` of AMQP."""
        return host_and_port(self.host, self.port)

    def url(self) -> str:
        """Return the AMQP URL **with** the password."""
        login = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}"
        return self._url(login)

    def __str__(self) -> str:
        """Return the AMQP URL without the password."""
        return self._url(quote(self.username, safe=""))

    def in_virtual_host(self, name: str) -> Endpoint:
        """Return the same endpoint in another virtual host."""
        return replace(self, virtual_host=name)

    def _url(self, login: str) -> str:
        scheme = "amqps" if self.tls else "amqp"
        vhost = "" if self.virtual_host == "/" else "/" + quote(self.virtual_host, safe="")
        return f"{scheme}://{login}@{self.address}{vhost}"


def is_loopback(host: str) -> bool:
    """Whether a host is certainly this machine's own: ``localhost`` or a loopback address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def hide_password(text: str) -> str:
    """Return a text that may be printed: ``***`` stands for the password of every URL in it.

    A URL without its scheme is found at the beginning of the text only, as any text may look like
    one.
    """
    return _PASSWORD_IN_URL.sub(r"\1:***@", text)


def shown_url(url: str) -> str:
    """Return what should be one URL as it may be printed, even if its password has spaces."""
    return hide_password(re.sub(r"\s", "%20", url))


def host_and_port(host: str, port: int | None = None) -> str:
    """Return ``host:port``, or the host alone, as people and URLs write it.

    An IPv6 address gets brackets (RFC 3986, section 3.2.2), unless it has them already.
    """
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return host if port is None else f"{host}:{port}"
