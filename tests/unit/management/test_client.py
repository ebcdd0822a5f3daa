from __future__ import annotations

import json
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from rmqbench.endpoint import Endpoint
from rmqbench.errors import (
    AccessRefused,
    BrokerError,
    ManagementUnavailable,
    QueueNotFound,
    RmqbenchError,
    UsageError,
)
from rmqbench.management.client import Management

Answer = tuple[int, bytes]


@dataclass
class Server:
    """Stand in for the Management API's bytes: ``answers`` by method and path, else a JSON 404."""

    url: str
    answers: dict[str, Answer | Callable[[str], Answer]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def endpoint(self, **more: str) -> Endpoint:
        return Endpoint("h", username="ann", password="s3cret", management_url=self.url, **more)

    def management(self) -> Management:
        return Management(self.endpoint(), timeout_s=20)


NOT_FOUND: Answer = 404, b'{"error":"Object Not Found","reason":"Not Found"}'


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            state.bodies.append(self.rfile.read(length))
            state.requests.append(f"{self.command} {self.path}")
            state.headers.append({name.lower(): value for name, value in self.headers.items()})
            known = state.answers.get(f"{self.command} {urlsplit(self.path).path}", NOT_FOUND)
            status, body = known(self.path) if callable(known) else known
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("location", "http://elsewhere.example/login")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_DELETE = handle_any

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state = Server(f"http://127.0.0.1:{http.server_address[1]}")
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield state
        http.shutdown()
        thread.join()


def failure(server: Server, status: int, body: bytes) -> RmqbenchError:
    server.answers["GET /api/overview"] = status, body
    with server.management() as management, pytest.raises(RmqbenchError) as caught:
        management.overview()
    assert "s3cret" not in str(caught.value)
    return caught.value


def test_names_are_encoded_whole(server: Server) -> None:
    server.answers["GET /api/queues/%2Fteam/a%2Fb%20100%25%3F%C3%BC"] = 200, b'{"name":"x"}'
    with Management(server.endpoint(virtual_host="/team")) as management:
        assert management.queue("a/b 100%?ü") == {"name": "x"}
        with pytest.raises(UsageError):
            management.queue("..")
    assert len(server.requests) == 1


def test_a_login_of_any_alphabet_is_sent(server: Server) -> None:
    server.answers["GET /api/overview"] = 200, b"{}"
    endpoint = Endpoint(username="jürgen", password="пароль", management_url=server.url)
    with Management(endpoint) as management:
        management.overview()
    expected = b64encode("jürgen:пароль".encode()).decode()
    assert server.headers[0]["authorization"] == f"Basic {expected}"


def test_a_login_in_the_address_goes_before_the_endpoints(server: Server) -> None:
    server.answers["GET /api/overview"] = 401, b'{"error":"not_authorized","reason":"x"}'
    url = server.url.replace("://", "://mon:h%40dden@") + "/"
    with (
        Management(Endpoint(management_url=url)) as management,
        pytest.raises(AccessRefused, match="login of user 'mon'") as caught,
    ):
        management.overview()
    assert server.headers[0]["authorization"] == "Basic " + b64encode(b"mon:h@dden").decode()
    assert "h@dden" not in str(caught.value)
    assert "h%40dden" not in str(caught.value)


@pytest.mark.parametrize("path", ["", "/", "/prefix", "/prefix/api/"])
def test_an_address_may_have_a_prefix(server: Server, path: str) -> None:
    prefix = "/prefix" if "prefix" in path else ""
    server.answers[f"GET {prefix}/api/overview"] = 200, b'{"a":1}'
    with Management(Endpoint(management_url=server.url + path)) as management:
        assert management.overview() == {"a": 1}


@pytest.mark.parametrize("url", ["", "localhost:15672", "ftp://u:s3cret@h", "http://u:s3/cret@h"])
def test_a_wrong_address_is_refused_without_showing_a_password(url: str) -> None:
    with pytest.raises(UsageError, match="not the address of a Management API") as caught:
        Management(Endpoint(management_url=url))
    assert "s3" not in str(caught.value)


def test_an_endpoint_without_an_address_is_told_how_to_give_one() -> None:
    with pytest.raises(ManagementUnavailable, match="--management-url"):
        Management(Endpoint())


@pytest.mark.parametrize("host", ["rabbit..example", f"{'a' * 70}.example"])
def test_a_host_name_that_is_none_is_an_answer_and_no_traceback(host: str) -> None:
    endpoint = Endpoint(management_url=f"http://{host}:15672")
    with (
        Management(endpoint) as management,
        pytest.raises(ManagementUnavailable, match="label empty or too long"),
    ):
        management.overview()


def test_proxies_of_the_environment_are_not_used_towards_this_machine(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    server.answers["GET /api/overview"] = 200, b"{}"
    with server.management() as management:
        assert management.overview() == {}
    elsewhere = Endpoint(management_url="http://rabbit.invalid:15672")
    with Management(elsewhere) as management, pytest.raises(ManagementUnavailable) as caught:
        management.overview()
    assert "refused" in str(caught.value)  # by the proxy, which was asked


def test_all_pages_are_read_and_each_item_given_once(server: Server) -> None:
    pages = {1: ["a", "b"], 2: ["b", "c"], 3: ["d"]}

    def page(path: str) -> Answer:
        query = parse_qs(urlsplit(path).query)
        assert query["page_size"] == ["500"]
        items = [{"name": name, "vhost": "/"} for name in pages[int(query["page"][0])]]
        return 200, json.dumps({"items": items, "page_count": 3}).encode()

    server.answers["GET /api/queues/%2F"] = page
    with server.management() as management:
        assert [each["name"] for each in management.queues("/")] == ["a", "b", "c", "d"]


def test_a_page_that_vanished_meanwhile_is_the_end(server: Server) -> None:
    def page(path: str) -> Answer:
        if "page=1&" in path:
            return 200, b'{"items":[{"name":"a","vhost":"/"}],"page_count":2}'
        return 400, b'{"error":"page_out_of_range","reason":"Page out of range"}'

    server.answers["GET /api/queues"] = page
    with server.management() as management:
        assert [each["name"] for each in management.queues()] == ["a"]


@pytest.mark.parametrize(
    "body", [b'{"items":[7]}', b'{"items":{}}', b"[]", b'{"page_count":1}', b"null"]
)
def test_pages_of_another_kind_are_another_server(server: Server, body: bytes) -> None:
    server.answers["GET /api/queues"] = 200, body
    with server.management() as management, pytest.raises(ManagementUnavailable, match="pages"):
        management.queues()


@pytest.mark.parametrize("count", ["null", '"NaN"', "-1", "1e999"])
def test_a_number_of_pages_that_is_none_ends_with_this_page(server: Server, count: str) -> None:
    body = f'{{"items":[{{"name":"a","vhost":"/"}}],"page_count":{count}}}'
    server.answers["GET /api/queues"] = 200, body.encode()
    with server.management() as management:
        assert [each["name"] for each in management.queues()] == ["a"]


def test_no_queues_are_an_empty_list(server: Server) -> None:
    server.answers["GET /api/queues"] = 200, b'{"items":[],"page_count":0}'
    with server.management() as management:
        assert management.queues() == []


def test_a_queue_that_is_not_there_is_named(server: Server) -> None:
    with server.management() as management, pytest.raises(QueueNotFound) as caught:
        management.queue("work")
    assert "no queue 'work' in virtual host '/'" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (401, "Not_Authorized", "refused the login of user 'ann'"),
        (401, "Login failed", "refused the login of user 'ann'"),
        (401, "Not management user", "set_user_tags ann management"),
        (401, "Not monitor user", "set_user_tags ann monitoring"),
        (401, "Not administrator user", "set_user_tags ann administrator"),
        (401, "User not authorised to access virtual host", "no permission for the virtual host"),
        (403, "no", "needs a tag"),
    ],
)
def test_a_refusal_tells_what_the_user_lacks(
    server: Server, status: int, reason: str, words: str
) -> None:
    body = json.dumps({"error": "not_authorised", "reason": reason}).encode()
    error = failure(server, status, body)
    assert isinstance(error, AccessRefused)
    assert words in str(error)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b"<html>not here</html>"),
        (404, b'{"error":"Object Not Found","reason":"Not Found"}'),
        (200, b"<html>welcome</html>"),
        (200, b"[]"),
        (302, b""),
    ],
)
def test_a_server_of_another_kind_is_told_with_the_way_to_the_plugin(
    server: Server, status: int, body: bytes
) -> None:
    error = failure(server, status, body)
    assert isinstance(error, ManagementUnavailable)
    assert "is not a RabbitMQ Management API" in error.what
    assert "rabbitmq-plugins enable rabbitmq_management" in error.remedy
    assert len(server.requests) == 1


def test_an_answer_that_is_no_json_is_told_with_its_kind(server: Server) -> None:
    error = failure(server, 200, b"<html>welcome</html>")
    assert "answered, but not with JSON" in error.what


def test_a_failure_inside_the_broker_is_not_taken_for_another_server(server: Server) -> None:
    error = failure(server, 500, b'{"error":"internal","reason":"badmatch"}')
    assert type(error) is BrokerError
    assert "500 (badmatch)" in str(error)


def test_nobody_at_the_port_is_told_with_the_way_to_the_plugin() -> None:
    with socket.socket() as taken:  # nobody else gets the port, and nobody listens
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with (
            Management(Endpoint(management_url=url)) as management,
            pytest.raises(ManagementUnavailable, match="Connection refused") as caught,
        ):
            management.overview()
    assert url in caught.value.what
    assert "rabbitmq_management" in caught.value.remedy


def test_a_server_that_says_nothing_is_left_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with (
            Management(Endpoint(management_url=url), timeout_s=0.2) as management,
            pytest.raises(ManagementUnavailable, match=r"within 0\.2 s"),
        ):
            management.overview()
        assert time.monotonic() - started < 30


def test_https_to_a_plain_port_is_told_apart(server: Server) -> None:
    url = server.url.replace("http:", "https:")
    with (
        Management(Endpoint(management_url=url)) as management,
        pytest.raises(ManagementUnavailable, match="No TLS connection"),
    ):
        management.overview()


def test_alarms_are_read_from_the_failing_health_check(server: Server) -> None:
    path = "GET /api/health/checks/alarms"
    with server.management() as management:
        server.answers[path] = 200, b'{"status":"ok"}'
        assert management.alarms() == []
        alarm = {"node": "rabbit@a", "resource": "memory"}
        body = {"status": "failed", "reason": "There are alarms", "alarms": [alarm]}
        server.answers[path] = 503, json.dumps(body).encode()
        assert management.alarms() == [alarm]
        server.answers[path] = 503, b"<html>gateway</html>"
        with pytest.raises(ManagementUnavailable):
            management.alarms()


@pytest.mark.parametrize(("status", "new"), [(201, True), (204, False)])
def test_a_virtual_host_is_made_and_given_to_the_user(
    server: Server, status: int, new: bool
) -> None:
    server.answers["PUT /api/vhosts/run%2F1"] = status, b""
    server.answers["PUT /api/permissions/run%2F1/ann"] = 204, b""
    with server.management() as management:
        assert management.create_virtual_host("run/1") is new
    assert json.loads(server.bodies[1]) == {"configure": ".*", "write": ".*", "read": ".*"}


def test_deleting_a_virtual_host_that_is_gone_is_no_error(server: Server) -> None:
    with server.management() as management:
        management.delete_virtual_host("gone")
        server.answers["DELETE /api/vhosts/mine"] = 401, b'{"reason":"Not administrator user"}'
        with pytest.raises(AccessRefused, match="administrator"):
            management.delete_virtual_host("mine")


def test_a_policy_is_set_in_the_endpoints_virtual_host(server: Server) -> None:
    server.answers["PUT /api/policies/%2Fteam/run%2F1"] = 201, b""
    with Management(server.endpoint(virtual_host="/team")) as management:
        management.set_policy("run/1", "^q$", {"max-length": 3})
        management.set_policy("run/1", "^q$", {"max-length": 3}, apply_to="exchanges")
    queues, exchanges = (json.loads(body) for body in server.bodies)
    policy = {"pattern": "^q$", "definition": {"max-length": 3}}
    assert queues == policy | {"apply-to": "queues"}
    assert exchanges == policy | {"apply-to": "exchanges"}


def test_a_policy_that_is_refused_is_told_with_the_brokers_reason(server: Server) -> None:
    path = "PUT /api/policies/v/p"
    with server.management() as management:
        server.answers[path] = 400, b'{"error":"bad_request","reason":"no such setting"}'
        with pytest.raises(BrokerError, match=r"400 \(no such setting\)"):
            management.set_policy("p", "", {"x": 1}, vhost="v")
        server.answers[path] = 401, b'{"error":"not_authorized","reason":"Not policymaker user"}'
        with pytest.raises(AccessRefused, match="set_user_tags ann policymaker"):
            management.set_policy("p", "", {}, vhost="v")
        with pytest.raises(BrokerError, match="no virtual host 'absent'"):
            management.set_policy("p", "", {}, vhost="absent")


def test_deleting_a_policy_that_is_gone_is_no_error(server: Server) -> None:
    with server.management() as management:
        management.delete_policy("gone", "v")
        server.answers["DELETE /api/policies/%2F/mine"] = 401, b'{"reason":"Not policymaker user"}'
        with pytest.raises(AccessRefused, match="policymaker"):
            management.delete_policy("mine")
    assert server.requests[0] == "DELETE /api/policies/v/gone"


@pytest.mark.parametrize("ask", ["bindings", "policies", "operator_policies"])
def test_bindings_and_policies_of_a_virtual_host_are_a_list(server: Server, ask: str) -> None:
    path = ask.replace("_", "-")
    server.answers[f"GET /api/{path}/%2Fteam"] = 200, b'[{"vhost":"/team"}]'
    with server.management() as management:
        assert getattr(management, ask)("/team") == [{"vhost": "/team"}]
        with pytest.raises(BrokerError, match="no virtual host 'absent'"):
            getattr(management, ask)("absent")


def test_a_connection_is_closed_with_a_reason_fit_for_a_header(server: Server) -> None:
    path = "/api/connections/127.0.0.1%3A1%20-%3E%20127.0.0.1%3A2"
    server.answers[f"DELETE {path}"] = 204, b""
    with server.management() as management:
        management.close_connection("127.0.0.1:1 -> 127.0.0.1:2", "a\r\nX: ü")
        with pytest.raises(BrokerError, match="no connection 'x'"):
            management.close_connection("x", "")
    assert server.headers[0]["x-reason"] == "a X: ?"


def test_a_change_is_given_longer_than_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rmqbench.management.client._CHANGE_S", 0.4)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            Management(Endpoint(management_url=url), timeout_s=0.1) as management,
            pytest.raises(ManagementUnavailable, match=r"within 0\.4 s"),
        ):
            management.create_virtual_host("v")
