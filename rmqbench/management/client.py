"""RabbitMQ's Management API over HTTP: figures for charts, and a few administrative acts.

Its figures are emitted every 5 s and are partial for objects just made: good for a display, never
for a verdict (see :func:`rmqbench.amqp.topology.ready_count` for exact counts).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import requests
from requests.auth import HTTPBasicAuth

from rmqbench.endpoint import Endpoint, hide_password, host_and_port, is_loopback
from rmqbench.errors import (
    AccessRefused,
    BrokerError,
    ManagementUnavailable,
    QueueNotFound,
    UsageError,
)

__all__ = ["Management"]

_ENABLE = (
    "Enable it with 'rabbitmq-plugins enable rabbitmq_management' (port 15672 by default), or name "
    "its address with --management-url."
)
_PAGE_SIZE = 500  # the API's own upper limit
_CHANGE_S = 30.0  # a virtual host is made and removed on the broker's disk: given longer, at least


class Management:
    """A client of one broker's Management API.

    Every request is bounded: ``timeout_s`` limits the connecting and, apart from that, each wait
    for bytes (where something is changed, 30 s at least). One instance belongs to one thread
    (``requests.Session`` is not safe to share).

    A user and password within ``endpoint.management_url`` go before the endpoint's own. Proxies
    named by the environment are not used towards this machine itself. With ``https`` the
    certificate is verified; ``REQUESTS_CA_BUNDLE`` or ``SSL_CERT_FILE`` name an authority.

    Errors: ManagementUnavailable (nothing there, or something else), AccessRefused (user or
    permission), QueueNotFound, other BrokerError. They never hold a password.
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
        """Give the client itself; it is closed at the end."""
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
        """Give the broker's overview: ``rabbitmq_version``, ``object_totals``, ``queue_totals``."""
        return self._object("overview")

    def nodes(self) -> list[dict[str, Any]]:
        """Give every node: ``mem_used`` and ``disk_free`` in bytes, alarms.

        The user needs the tag ``monitoring``.
        """
        return self._list("nodes")

    def queue(self, name: str, vhost: str | None = None) -> dict[str, Any]:
        """Give one queue (of the endpoint's virtual host unless told otherwise).

        Raises QueueNotFound.
        """
        vhost = self._endpoint.virtual_host if vhost is None else vhost
        missing = QueueNotFound(
            f"There is no queue {name!r} in virtual host {vhost!r} at {self.url} (or user "
            f"{self._user!r} may not see this virtual host).",
            "Check the name and the virtual host.",
        )
        return self._object(f"queues/{_quoted(vhost)}/{_quoted(name)}", missing)

    def queues(self, vhost: str | None = None) -> list[dict[str, Any]]:
        """Give the queues of a virtual host, or of all that the user may see."""
        return self._pages("queues" if vhost is None else f"queues/{_quoted(vhost)}", vhost)

    def exchanges(self, vhost: str | None = None) -> list[dict[str, Any]]:
        """Give the exchanges of a virtual host, or of all that the user may see."""
        return self._pages("exchanges" if vhost is None else f"exchanges/{_quoted(vhost)}", vhost)

    def bindings(self, vhost: str) -> list[dict[str, Any]]:
        """Give the bindings of a virtual host, those of the default exchange among them."""
        return self._list(f"bindings/{_quoted(vhost)}", self._no_vhost(vhost))

    def policies(self, vhost: str) -> list[dict[str, Any]]:
        """Give the policies of a virtual host."""
        return self._list(f"policies/{_quoted(vhost)}", self._no_vhost(vhost))

    def connections(self, vhost: str | None = None) -> list[dict[str, Any]]:
        """Give the open connections of a virtual host, or all that the user may see."""
        if vhost is None:
            return self._pages("connections", None)
        return self._list(f"vhosts/{_quoted(vhost)}/connections", self._no_vhost(vhost))

    def consumers(self, vhost: str | None = None) -> list[dict[str, Any]]:
        """Give the consumers of a virtual host, or all that the user may see."""
        path = "consumers" if vhost is None else f"consumers/{_quoted(vhost)}"
        return self._list(path, self._no_vhost(vhost))

    def alarms(self) -> list[dict[str, Any]]:
        """Give the alarms in force anywhere in the cluster: ``node`` and ``resource`` each.

        Asks the health check, which answers at once and not with figures of the last interval.
        """
        response = self._request("GET", "health/checks/alarms")
        if response.status_code not in (200, 503):
            raise self._failure(response, "health/checks/alarms")
        answer = self._json(response)
        alarms = answer.get("alarms", []) if isinstance(answer, dict) else None
        if not isinstance(alarms, list):
            raise self._not_the_api("answered something else than alarms")
        return alarms

    def deprecated_features(self) -> list[dict[str, Any]]:
        """Give each deprecated feature's ``name`` and ``state``; empty before RabbitMQ 3.13."""
        response = self._request("GET", "deprecated-features")
        if response.status_code == 404:
            return []
        answer = self._answer(response, "deprecated-features")
        return answer if isinstance(answer, list) else []

    def create_virtual_host(self, name: str) -> bool:
        """Create a virtual host and let the endpoint's user do everything there.

        Says whether it is new: an existing one stays as it is (permissions are granted all the
        same). The Management API's user needs the tag ``administrator``.
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
        """Delete a virtual host with everything in it; one that is gone already is no error."""
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
        """Let a definition hold for what has a name that matches the regular expression.

        Replaces a policy of this name. The user needs the tag ``policymaker``. Raises BrokerError
        for a definition that the broker refuses.
        """
        vhost = self._endpoint.virtual_host if vhost is None else vhost
        path = f"policies/{_quoted(vhost)}/{_quoted(name)}"
        body = {"pattern": pattern, "definition": dict(definition), "apply-to": apply_to}
        self._check(self._request("PUT", path, body=body), path, self._no_vhost(vhost))

    def delete_policy(self, name: str, vhost: str | None = None) -> None:
        """Delete a policy; one that is gone already is no error."""
        vhost = self._endpoint.virtual_host if vhost is None else vhost
        path = f"policies/{_quoted(vhost)}/{_quoted(name)}"
        response = self._request("DELETE", path)
        if response.status_code != 404:
            self._check(response, path)

    def close_connection(self, name: str, reason: str) -> None:
        """Make the broker close a connection; its client is told 320 and ``reason``.

        Raises BrokerError where no connection has this name.
        """
        path = f"connections/{_quoted(name)}"
        plain = " ".join(reason.encode("ascii", "replace").decode().split())
        response = self._request("DELETE", path, headers={"X-Reason": plain})
        missing = BrokerError(f"There is no connection {name!r} at {self.url}.", "It may be gone.")
        self._check(response, path, missing)

    # --- asking ---------------------------------------------------------------------------------

    def _object(self, path: str, missing: BrokerError | None = None) -> dict[str, Any]:
        answer = self._answer(self._request("GET", path), path, missing)
        if not isinstance(answer, dict):
            raise self._not_the_api(f"answered /api/{path} with something else than an object")
        return answer

    def _list(self, path: str, missing: BrokerError | None = None) -> list[dict[str, Any]]:
        answer = self._answer(self._request("GET", path), path, missing)
        if not isinstance(answer, list):
            raise self._not_the_api(f"answered /api/{path} with something else than a list")
        return answer

    def _pages(self, path: str, vhost: str | None) -> list[dict[str, Any]]:
        """Give all items of a paged list, each once.

        Items come and go between two pages: a page that no longer exists is the end, and one item
        can be moved to a later page and be seen twice.
        """
        items: dict[tuple[str, str], dict[str, Any]] = {}
        page, page_count = 1, 1
        while page <= page_count:
            query = {"page": page, "page_size": _PAGE_SIZE}
            response = self._request("GET", path, query=query)
            if response.status_code == 400 and page > 1:
                break
            answer = self._answer(response, path, self._no_vhost(vhost))
            if not isinstance(answer, dict) or not isinstance(answer.get("items"), list):
                raise self._not_the_api(f"answered /api/{path} with something else than pages")
            for item in answer["items"]:
                items[str(item.get("vhost")), str(item.get("name"))] = item
            page, page_count = page + 1, int(answer.get("page_count", 0))
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
                f"No TLS connection to the Management API at {self.url} came about "
                f"({_innermost(error)}).",
                "Is it http:// there? An authority of your own is named by SSL_CERT_FILE.",
            ) from None
        except requests.exceptions.Timeout:
            raise ManagementUnavailable(
                f"The Management API at {self.url} did not answer within {answer_s:g} s.",
                "Is the broker overloaded, or something else at this port?",
            ) from None
        except OSError as error:  # RequestException among them, and an unreadable authority
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
        """Tell a wrong login from a missing tag or permission.

        RabbitMQ 3.10 to 4.3 answer 401 for all of them and differ in ``reason`` only.
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
                    f"Give it: rabbitmqctl set_user_tags {user} {tag}",
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
            f"The server at {self.url} is no RabbitMQ Management API: it {what}.", _ENABLE
        )


def _split_url(url: str) -> tuple[tuple[str, str] | None, str]:
    """Part a URL into login and the rest, which is fit to be shown."""
    shown = url.rpartition("@")[2]  # whatever is wrong with it, no password is shown
    wrong = UsageError(
        f"{shown!r} is no address of a Management API.", "Write http://host:15672 or https://…."
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
    """Encode a name whole: a virtual host ``/`` is ``%2F``.

    A name of dots alone (``..``) would be taken for a step in the path by every HTTP library.
    """
    if name in (".", ".."):
        raise UsageError(f"The name {name!r} cannot be asked for over HTTP.", "Choose another one.")
    return quote(name, safe="")


def _reason(response: requests.Response) -> str | None:
    """Give the API's own words, or None where the answer is not the API's."""
    try:
        answer = response.json()
    except ValueError:
        return None
    if not isinstance(answer, dict):
        return None
    return str(answer.get("reason") or answer.get("error") or "")


def _innermost(error: BaseException) -> str:
    """Give the cause at the bottom: requests and urllib3 wrap it several times."""
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
