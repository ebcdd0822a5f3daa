"""A Management API that is not the broker's own is found out, and said."""

import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support.tools import rmqbench as run_command

import rmqbench
from rmqbench.errors import UsageError


@pytest.fixture
def another_api():
    """Serve a Management API that does as it is told; ``says`` is its overview."""
    says, asked = {}, []

    class Api(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.answer(200, says)

        def do_PUT(self):
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.answer(201, {})

        def do_DELETE(self):
            self.answer(204, {})

        def answer(self, status, value):
            body = b"" if status == 204 else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield says, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_api_of_another_cluster_is_said_before_anything_is_made(rmqbench_broker, another_api):
    says, url = another_api
    says |= {"cluster_name": "rabbit@elsewhere", "rabbitmq_version": "4.3.6"}
    ended = run_command(
        *("run", "reliability", "--url", rmqbench_broker.endpoint.url()),
        *("--messages", "10", "--management-url", url),
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"The Management API at {url} is not that of the broker at" in ended.stderr
    assert "'rabbit@elsewhere'" in ended.stderr
    assert "--management-url" in ended.stderr
    assert "add_vhost" not in ended.stderr


def test_one_that_does_not_say_where_it_is_is_found_out_by_what_it_made(
    rmqbench_broker, another_api, tmp_path
):
    _, url = another_api
    wrong = replace(rmqbench_broker.endpoint, management_url=url)
    with (
        rmqbench.open_broker(wrong.url(), management_url=url) as broker,
        pytest.raises(
            UsageError, match=r"is that of another broker: it says that it has made a virtual"
        ),
    ):
        rmqbench.run(rmqbench.reliability(messages=10), broker, directory=tmp_path / "run")


def test_the_right_one_and_none_at_all_are_taken(rmqbench_broker):
    endpoint = rmqbench_broker.endpoint
    for url in (endpoint.management_url, "http://127.0.0.1:1"):
        with rmqbench.open_broker(endpoint.url(), management_url=url) as broker:
            assert broker.version == rmqbench_broker.version
