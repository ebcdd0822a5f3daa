"""RabbitMQ's Management API over HTTP: figures for charts, and a few administrative acts.

The broker emits its figures every 5 s, and only a part of them for an object just made: good for a
display, never for a verdict (:func:`rmqbench.amqp.topology.ready_count` counts exactly). What is
returned is the broker's JSON as it is; :mod:`rmqbench.management.answers` reads its fields.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import requests
import urllib3.exceptions
from requests.auth import HTTPBasicAuth

from rmqbench.endpoint import Endpoint, hide_password, host_and_port, is_loopback
from rmqbench.errors import (
    AccessRefused,
    BrokerError,
    ConnectionNotFound,
    ManagementUnavailable,
    QueueNotFound,
    UsageError,
)
from rmqbench.management.answers import whole_number

__all__ = ["Management"]

_ENABLE = (
    "Enable it with 'rabbitmq-plugins enable rabbitmq_management' (port 15672 by default), or name "
    "its address with --management-url."
)
_PAGE_SIZE = 500  # the API's own upper limit
_CHANGE_S = 30.0  # at least, for a change: the broker makes and removes a virtual host on disk


class Management:
    """A client of one broker's Management API.

    ``timeout_s`` limits the connecting and, apart from that, each wait for bytes (at least 30 s
    where something is changed). One instance belongs to one thread (``requests.Session`` is not
    safe to share).

    A user and password in ``endpoint.management_url`` take precedence over the endpoint's own. A
    proxy named by the environment is not used for this machine itself. With ``https`` the
    certificate is verified; ``REQUESTS_CA_BUNDLE`` or ``SSL_CERT_FILE`` names an authority.

    Every request may raise ManagementUnavailable (nothing answers, or something else does),
    AccessRefused (the user lacks a permission or tag), or another BrokerError. None of them holds a
    password.
    """

    def __init__(self, endpoint: Endpoint, *, timeout_s: float = 5.0) -> None:
        if endpoint.management_url is None:
            raise ManagementUnavailable(
                f"No address of the Management API of {endpoint} is known.", _ENABLE
            )
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        login, self.url = _split_url(endpoint.management_url)
        self._user, password = login or (endpoint.username, endpoint.password)
        self._session = requests.Session()
        self._session.auth = HTTPBasicAuth(self._user.encode(), password.encode())
        if is_loopback(urlsplit(self.url).hostname or ""):
            self._session.trust_env = False
        authority = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
        if authority and self.url.startswith("https:"):
            self._session.verify = authority

    def __enter__(self) -> Management:
        """Return the client itself; it is closed at the end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the HTTP connections."""
        self.close()

    def close(self) -> None:
        """Close the HTTP connections."""
        self._session.close()

    def overview(self) -> dict[str, Any]:
        """Return the overview: ``rabbitmq_version``, ``object_totals``, ``queue_totals``."""
        return self._object("overview")

    def nodes(self) -> list[dict[str, Any]]:
        """Return every node: ``mem_used`` and ``disk_free`` in bytes, alarms.

        The user needs the tag ``monitoring``.
        """
        return self._list("nodes")

    def queue(self, name: str, vhost: str | None = None) -> dict[str, Any]:
        """Return one queue, by default of the endpoint's virtual host. Raise QueueNotFound."""
        vhost = self._endpoint.virtual_host if vhost is None else vhost
        missing = QueueNotFound(
            f"There is no queue {name!r} in virtual host {vhost!r} at {self.url} (or user "
            f"{self._user!r} may not see this virtual host).",
            "Check the name and the virtual host.",
        )
        return self._object(f"queues/{_quoted(vhost)}/{_quoted(name)}", missing)

    def queues(self, vhost: str | None = None) -> list[dict[str, Any]]:
        """Return the queues of a virtual host, or of all that the user may see."""
        return self._pages("queues" if vhost is None else f"queues/{_quoted(vhost)}", vhost)

    def exchanges(self, vhost: str | None = None) -> list[dict[str, Any]]:
        """Return the exchanges of a virtual host, or of all that the user may see."""
        return self._pages("exchanges" if vhost is None else f"exchanges/{_quoted(vhost)}", vhost)

    def bindings(self, vhost: str) -> list[dict[str, Any]]:
        """Return the bindings of a virtual host, including those of the default exchange."""
        return self._list(f"bindings/{_quoted(vhost)}", self._no_vhost(vhost))

    def policies(self, vhost: str) -> list[dict[str, Any]]:
        """Return the policies of a virtual host."""
        return self._list(f"policies/{_quoted(vhost)}", self._no_vhost(vhost))

    def operator_policies(self, vhost: str) -> list[dict[str, Any]]:
        """Return the operator policies of a virtual host."""
        return self._list(f"operator-policies/{_quoted(vhost)}", self._no_vhost(vhost))

    def connections(self, vhost: str | None = None) -> list[dict[str, Any]]:
        """Return the open connections of a virtual host, or all that the user may see."""
        if vhost is None:
            return self._pages("connections", None)
        return self._list(f"vhosts/{_quoted(vhost)}/connections", self._no_vhost(vhost))

    def consumers(self, vhost: str | None = None) -> list[dict[str, Any]]:
        """Return the consumers of a virtual host, or all that the user may see."""
        path = "consumers" if vhost is None else f"consumers/{_quoted(vhost)}"
        return self._list(path, self._no_vhost(vhost))

    def channels(self, vhost: str) -> list[dict[str, Any]]:
        """Return the channels of a virtual host."""
        return self._list(f"vhosts/{_quoted(vhost)}/channels", self._no_vhost(vhost))

    def alarms(self) -> list[dict[str, Any]]:
        """Return the alarms in force anywhere in the cluster, each with ``node`` and ``resource``.

        The health check knows them at once, unlike the figures, which are of the last interval.
        """
        response = self._request("GET", "health/checks/alarms")
        if response.status_code not in (200, 503):
            raise self._failure(response, "health/checks/alarms")
        answer = self._json(response)
        alarms = answer.get("alarms", []) if isinstance(answer, dict) else None
        if not isinstance(alarms, list):
            raise self._not_the_api("answered something other than alarms")
        return alarms

    def create_virtual_host(self, name: str) -> bool:
        """Create a virtual host and grant the endpoint's user every permission there.

        Return whether it is new. One that exists stays as it is, but for the permissions. The user
        of the Management API needs the tag ``administrator``.
        """
        path = f"vhosts/{_quoted(name)}"
        made = self._request("PUT", path, body={})
        self._check(made, path)
        user = _quoted(self._endpoint.username)
        path = f"permissions/{_quoted(name)}/{user}"
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        self._check(self._request("PUT", path, body=everything), path)
        return made.status_code == 201

    def delete_virtual_host(self, name: str) -> None:
        """Delete a virtual host with everything in it, if it exists."""
        path = f"vhosts/{_quoted(name)}"
        response = self._request("DELETE", path)
        if response.status_code != 404:
            self._check(response, path)

    def set_policy(
        self,
        name: str,
        pattern: str,
        definition: Mapping[str, Any],
        *,
        vhost: str | None = None,
        apply_to: str = "queues",
    ) -> None:
        """Apply a definition to everything whose name matches the regular expression ``pattern``.

        A policy of the same name is replaced. ``apply_to`` is ``queues``, ``exchanges`` or ``all``.
        The user needs the tag ``policymaker``. Raise BrokerError where the broker refuses the
        definition (https://www.rabbitmq.com/docs/policies).
        """
        vhost = self._endpoint.virtual_host if vhost is None else vhost
        path = f"policies/{_quoted(vhost)}/{_quoted(name)}"
        body = {"pattern": pattern, "definition": dict(definition), "apply-to": apply_to}
        self._check(self._request("PUT", path, body=body), path, self._no_vhost(vhost))

    def delete_policy(self, name: str, vhost: str | None = None) -> None:
        """Delete a policy, if it exists."""
        vhost = self._endpoint.virtual_host if vhost is None else vhost
        path = f"policies/{_quoted(vhost)}/{_quoted(name)}"
        response = self._request("DELETE", path)
        if response.status_code != 404:
            self._check(response, path)

    def close_connection(self, name: str, reason: str) -> None:
        """Make the broker close a connection: its client gets code 320 and ``reason``.

        Raise ConnectionNotFound where none has this name.
        """
        path = f"connections/{_quoted(name)}"
        plain = " ".join(reason.encode("ascii", "replace").decode().split())
        response = self._request("DELETE", path, headers={"X-Reason": plain})
        where = f"There is no connection {name!r} at {self.url}."
        self._check(response, path, ConnectionNotFound(where, "It may be gone."))

    # --- asking ---------------------------------------------------------------------------------

    def _object(self, path: str, missing: BrokerError | None = None) -> dict[str, Any]:
        answer = self._answer(self._request("GET", path), path, missing)
        if not isinstance(answer, dict):
            raise self._not_the_api(f"answered /api/{path} with something other than an object")
        return answer

    def _list(self, path: str, missing: BrokerError | None = None) -> list[dict[str, Any]]:
        answer = self._answer(self._request("GET", path), path, missing)
        if not isinstance(answer, list) or not all(isinstance(each, dict) for each in answer):
            raise self._not_the_api(f"answered /api/{path} with something other than a list")
        return answer

    def _pages(self, path: str, vhost: str | None) -> list[dict[str, Any]]:
        """Return all items of a paged list, each once.

        Items come and go between two requests: a page that no longer exists is the end, and an item
        that moved to a later page is seen twice.
        """
        items: dict[tuple[str, str], dict[str, Any]] = {}
        page, page_count = 1, 1
        while page <= page_count:
            query = {"page": page, "page_size": _PAGE_SIZE}
            response = self._request("GET", path, query=query)
            if response.status_code == 400 and page > 1:
                break
            answer = self._answer(response, path, self._no_vhost(vhost))
            found = answer.get("items") if isinstance(answer, dict) else None
            if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
                raise self._not_the_api(f"answered /api/{path} with something other than pages")
            for item in found:
                items[str(item.get("vhost")), str(item.get("name"))] = item
            page, page_count = page + 1, whole_number(answer.get("page_count")) or 0
        return list(items.values())

    def _no_vhost(self, vhost: str | None) -> BrokerError | None:
        if vhost is None:
            return None
        return BrokerError(
            f"There is no virtual host {vhost!r} at {self.url}, or user {self._user!r} may not see "
            "it.",
            "Check its name and the user's permissions.",
        )

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, int] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> requests.Response:
        answer_s = self._timeout_s if method == "GET" else max(self._timeout_s, _CHANGE_S)
        try:
            response = self._session.request(
                method,
                f"{self.url}/api/{path}",
                params=query,
                json=body,
                headers=headers,
                timeout=(self._timeout_s, answer_s),
                allow_redirects=False,
            )
        except requests.exceptions.SSLError as error:
            raise ManagementUnavailable(
                f"No TLS connection to the Management API at {self.url}: {_innermost(error)}.",
                "Use http:// if the port is one without TLS; for a certificate authority of your "
                "own set SSL_CERT_FILE.",
            ) from None
        except requests.exceptions.Timeout:
            raise ManagementUnavailable(
                f"The Management API at {self.url} did not answer within {answer_s:g} s.",
                "Check whether the broker is overloaded, and whether this is its port.",
            ) from None
        # RequestException is an OSError, as is an unreadable authority. requests lets through what
        # urllib3 raises for a host name with a label that is empty or too long.
        except (OSError, urllib3.exceptions.LocationParseError) as error:
            raise ManagementUnavailable(
                f"No Management API answers at {self.url} ({_innermost(error)}).", _ENABLE
            ) from None
        return response

    # --- judging the answer ---------------------------------------------------------------------

    def _answer(
        self, response: requests.Response, path: str, missing: BrokerError | None = None
    ) -> Any:
        self._check(response, path, missing)
        return self._json(response)

    def _check(
        self, response: requests.Response, path: str, missing: BrokerError | None = None
    ) -> None:
        if not 200 <= response.status_code < 300:
            raise self._failure(response, path, missing)

    def _json(self, response: requests.Response) -> Any:
        try:
            return response.json()
        except ValueError:
            kind = response.headers.get("content-type", "no content type")
            raise self._not_the_api(f"answered, but not with JSON ({kind})") from None

    def _failure(
        self, response: requests.Response, path: str, missing: BrokerError | None = None
    ) -> BrokerError | AccessRefused:
        status, reason = response.status_code, _reason(response)
        if status in (401, 403):
            return self._refused(status, reason, path)
        if 300 <= status < 400:
            target = hide_password(response.headers.get("location", "elsewhere"))
            return self._not_the_api(f"redirects to {target}")
        if status == 404:
            # A broker's own 404 is JSON; that of another web server is not.
            if missing is not None and reason is not None:
                return missing
            return self._not_the_api(f"knows no /api/{path} (404)")
        return BrokerError(
            f"The Management API at {self.url} answered {response.request.method} /api/{path} with "
            f"{status}{f' ({reason})' if reason else ''}.",
            "See the broker's log.",
        )

    def _refused(self, status: int, reason: str | None, path: str) -> AccessRefused:
        """Return the error for a wrong login, or for a missing tag or permission.

        RabbitMQ 3.10 to 4.3 answer 401 to all of them; only the reason in the answer differs.
        """
        user, lower = self._user, (reason or "").lower()
        for word, tag in (
            ("administrator", "administrator"),
            ("monitor", "monitoring"),
            ("policymaker", "policymaker"),
            ("management user", "management"),
        ):
            if word in lower:
                return AccessRefused(
                    f"User {user!r} may not use /api/{path} of the Management API at {self.url}: "
                    f"the tag {tag!r} is missing.",
                    f"Add it: rabbitmqctl set_user_tags {user} {tag}",
                )
        if "virtual host" in lower or "vhost" in lower:
            return AccessRefused(
                f"User {user!r} has no permission for the virtual host in /api/{path} at "
                f"{self.url}.",
                "Grant it: rabbitmqctl set_permissions -p VHOST "
                f"{user} '.*' '.*' '.*', or the tag 'administrator'.",
            )
        if status == 403:
            return AccessRefused(
                f"User {user!r} has no permission for /api/{path} at {self.url}"
                f"{f' ({reason})' if reason else ''}.",
                "The user needs a tag such as 'monitoring' or 'administrator'.",
            )
        return AccessRefused(
            f"The Management API at {self.url} refused the login of user {user!r}.",
            "Check user name and password.",
        )

    def _not_the_api(self, what: str) -> ManagementUnavailable:
        return ManagementUnavailable(
            f"The server at {self.url} is not a RabbitMQ Management API: it {what}.", _ENABLE
        )


def _split_url(url: str) -> tuple[tuple[str, str] | None, str]:
    """Return the login in a URL, if there is one, and the URL without it."""
    shown = url.rpartition("@")[2]  # whatever is wrong with it, no password is shown
    wrong = UsageError(
        f"{shown!r} is not the address of a Management API.",
        "Write http://host:15672 or https://….",
    )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise wrong
    path = parts.path.rstrip("/").removesuffix("/api")
    login = None
    if parts.username is not None:
        login = unquote(parts.username), unquote(parts.password or "")
    return login, f"{parts.scheme}://{host_and_port(parts.hostname, port)}{path}"


def _quoted(name: str) -> str:
    """Return a name percent-encoded, with its slashes: a virtual host ``/`` is ``%2F``.

    Every HTTP library takes ``.`` and ``..`` for steps in the path.
    """
    if name in (".", ".."):
        raise UsageError(f"The name {name!r} cannot be part of a URL.", "Choose another one.")
    return quote(name, safe="")


def _reason(response: requests.Response) -> str | None:
    """Return the API's own words, or None where the answer is not the API's."""
    try:
        answer = response.json()
    except ValueError:
        return None
    if not isinstance(answer, dict):
        return None
    return str(answer.get("reason") or answer.get("error") or "")


def _innermost(error: BaseException) -> str:
    """Return the cause as text: requests and urllib3 wrap it several times."""
    seen: list[BaseException] = [error]
    while True:
        args = seen[-1].args
        reason = getattr(seen[-1], "reason", None)
        inner = reason if isinstance(reason, BaseException) else None
        inner = inner or next((each for each in args if isinstance(each, BaseException)), None)
        inner = inner or seen[-1].__cause__
        if inner is None or inner in seen:
            break
        seen.append(inner)
    last = seen[-1]
    text = getattr(last, "strerror", None) or str(last) or type(last).__name__
    return hide_password(str(text)).rstrip(".")
