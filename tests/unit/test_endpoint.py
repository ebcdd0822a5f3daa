from __future__ import annotations

import pytest

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given
from hypothesis import strategies as st

from rmqbench.endpoint import Endpoint, hide_password, host_and_port
from rmqbench.errors import UsageError

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def test_a_whole_url_becomes_an_endpoint() -> None:
    endpoint = Endpoint.from_url("amqp://ann:s%40cret@rabbit.example:5673/team%2Fa")
    assert endpoint == Endpoint(
        "rabbit.example",
        5673,
        "ann",
        "s@cret",
        "team/a",
        False,
        "http://rabbit.example:15672",
    )


def test_what_a_url_leaves_out_has_the_usual_values() -> None:
    assert Endpoint.from_url("amqp://h") == Endpoint("h", management_url="http://h:15672")
    assert Endpoint.from_url("amqp://h/").virtual_host == "/"
    assert Endpoint.from_url("amqp://h/%2F").virtual_host == "/"


def test_tls_has_ports_of_its_own() -> None:
    endpoint = Endpoint.from_url("amqps://h")
    assert (endpoint.tls, endpoint.port) == (True, 5671)
    assert endpoint.management_url == "https://h:15671"


def test_a_given_management_address_is_kept() -> None:
    assert Endpoint.from_url("amqp://h", "http://m:1").management_url == "http://m:1"


@pytest.mark.parametrize(
    ("host", "port", "shown"),
    [
        ("h", 1, "h:1"),
        ("h", None, "h"),
        ("::1", 1, "[::1]:1"),
        ("::1", None, "[::1]"),
        ("[::1]", 1, "[::1]:1"),
    ],
)
def test_only_an_ipv6_address_gets_brackets(host: str, port: int | None, shown: str) -> None:
    assert host_and_port(host, port) == shown


def test_an_ipv6_host_has_brackets_only_where_it_is_shown() -> None:
    endpoint = Endpoint.from_url("amqp://[::1]:5673")
    assert endpoint.host == "::1"
    assert endpoint.management_url == "http://[::1]:15672"
    assert endpoint.address == "[::1]:5673"
    assert str(endpoint) == "amqp://guest@[::1]:5673"


@given(username=names, password=names, vhost=names, tls=st.booleans())
def test_the_url_of_an_endpoint_leads_back_to_it(
    username: str, password: str, vhost: str, tls: bool
) -> None:
    scheme, port = ("https", 15671) if tls else ("http", 15672)
    endpoint = Endpoint(
        "h.example", 1, username, password, vhost, tls, f"{scheme}://h.example:{port}"
    )
    assert Endpoint.from_url(endpoint.url()) == endpoint


def test_no_text_of_an_endpoint_shows_the_password() -> None:
    endpoint = Endpoint("h", password="s3cret", virtual_host="v")
    assert "s3cret" not in str(endpoint)
    assert "s3cret" not in repr(endpoint)
    assert "s3cret" in endpoint.url()


def test_another_virtual_host_changes_nothing_else() -> None:
    endpoint = Endpoint("h", 1, "u", "p", "a", True, "https://m")
    assert endpoint.in_virtual_host("b") == Endpoint("h", 1, "u", "p", "b", True, "https://m")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "http://localhost:5672",
        "amqp://",
        "amqp://h:port",
        "amqp://h:99999",
        "amqp://h/a/b",
        "amqp://h/v?heartbeat=1",
        "amqp://h/v#x",
    ],
)
def test_what_is_no_amqp_url_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(UsageError, match=r"amqp://user:password@host:5672/vhost"):
        Endpoint.from_url(url)


def test_a_refused_url_is_shown_without_its_password() -> None:
    with pytest.raises(UsageError) as caught:
        Endpoint.from_url("http://ann:s3cret@h")
    assert "s3cret" not in str(caught.value)
    assert "ann" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("amqp://u:p@h/v", "amqp://u:***@h/v"),
        ("amqp://u:p@ss@h", "amqp://u:***@h"),
        ("amqp://:p@h", "amqp://:***@h"),
        ("at amqp://u:p@h and http://v:q@i:1", "at amqp://u:***@h and http://v:***@i:1"),
        ("amqp://me@corp.example:p@h", "amqp://me@corp.example:***@h"),
        ("amqp://u/v:p@h", "amqp://u/v:***@h"),
        ("amqp://u://p@h", "amqp://u:***@h"),
        ("u:p@h", "u:***@h"),
        ("me@corp.example:p@h", "me@corp.example:***@h"),
        ("amqp:/u:p@h", "amqp:***@h"),
        ("amqp://u@h:5672/v", "amqp://u@h:5672/v"),
        ("Error: ask me@corp.example", "Error: ask me@corp.example"),
        ("no queue 'a:b@c'", "no queue 'a:b@c'"),
        ("at amqp://h:5672, ask me@h", "at amqp://h:5672, ask me@h"),
        ("amqp://h:5672", "amqp://h:5672"),
    ],
)
def test_passwords_in_urls_are_blanked_wherever_they_stand(text: str, shown: str) -> None:
    assert hide_password(text) == shown


@pytest.mark.parametrize(
    "url",
    [
        "amqp://ann:se/cret@h",
        "amqp://ann:se@cret@h:x",
        "amqp://ann:secr?et@h",
        "x://a:secret@h",
        "amqp://me@corp.example:secret@h:x",
        "amqp://ann:se cret@h:x",
        "ann:secret@h",
    ],
)
def test_a_password_that_breaks_the_url_is_not_shown(url):
    with pytest.raises(UsageError) as caught:
        Endpoint.from_url(url)
    assert "se" not in str(caught.value).replace("user:password", "")


def test_a_login_in_the_management_url_is_not_shown():
    assert "secret" not in repr(Endpoint(management_url="http://ann:secret@h:15672"))


@pytest.mark.parametrize("name", ["host", "username", "password", "virtual_host"])
def test_what_utf8_cannot_say_is_refused_and_not_shown(name):
    with pytest.raises(UsageError, match="cannot be written as UTF-8") as caught:
        Endpoint(**{name: "\udcffsecret"})
    assert "secret" not in str(caught.value)


def test_an_empty_password_is_empty():
    assert Endpoint.from_url("amqp://ann:@h").password == ""


@pytest.mark.parametrize("port", [-1, 0, 65_536, 70_000])
def test_a_port_that_does_not_exist_is_refused(port):
    with pytest.raises(UsageError, match=f"There is no port {port}"):
        Endpoint(port=port)
