"""Where a broker is and how to be let in: a value, shared by every part that connects."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote, urlsplit

from rmqbench.errors import UsageError
from rmqbench.text import require_utf8

__all__ = ["Endpoint", "hide_password", "is_loopback", "shown_url"]

# From the first colon behind the scheme to the last @; only a text's first word may lack a scheme.
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
        """Refuse what UTF-8 cannot say, and so no broker can be told."""
        for name in ("host", "username", "password", "virtual_host"):
            require_utf8(name.replace("_", " "), getattr(self, name))

    @classmethod
    def from_url(cls, url: str, management_url: str | None = None) -> Endpoint:
        """Parse ``amqp(s)://user:password@host:port/vhost`` (RabbitMQ's URI specification).

        An absent virtual host is ``/``; the Management API is assumed on the same host at its
        default port (15672, or 15671 with TLS) unless ``management_url`` names it.

        Raises UsageError for anything else.
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
            management_url=management_url or f"{scheme}://{_bracketed(host)}:{management_port}",
        )

    def url(self) -> str:
        """Give the AMQP URL **with** the password."""
        login = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}"
        return self._url(login)

    def __str__(self) -> str:
        """Give the AMQP URL without the password."""
        return self._url(quote(self.username, safe=""))

    def in_virtual_host(self, name: str) -> Endpoint:
        """Give the same endpoint in another virtual host."""
        return replace(self, virtual_host=name)

    def _url(self, login: str) -> str:
        scheme = "amqps" if self.tls else "amqp"
        vhost = "" if self.virtual_host == "/" else "/" + quote(self.virtual_host, safe="")
        return f"{scheme}://{login}@{_bracketed(self.host)}:{self.port}{vhost}"


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine's own loopback for certain."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def hide_password(text: str) -> str:
    """Blank the password of every URL in a text: it may be printed afterwards.

    A text may begin with a URL that lacks its scheme; anywhere else this would be any text.
    """
    return _PASSWORD_IN_URL.sub(r"\1:***@", text)


def shown_url(url: str) -> str:
    """Give what was meant for one URL as it may be printed: a space in it ends no password."""
    return hide_password(re.sub(r"\s", "%20", url))


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
