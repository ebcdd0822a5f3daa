"""The options that name a broker: what they mean together, and with the environment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Annotated, Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

import rmqbench.broker
from rmqbench import cli
from rmqbench.broker import DEFAULT_IMAGE
from rmqbench.cli.connecting import ConnectionOptions, with_options
from rmqbench.cli.options import BrokerOptions, OwnBrokerOptions
from rmqbench.endpoint import Endpoint
from rmqbench.errors import BrokerUnavailable, UsageError

VARIABLES = ("URL", "MANAGEMENT_URL", "PASSWORD", "BROKER", "IMAGE")


@pytest.fixture(autouse=True)
def nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(f"RMQBENCH_{name}", raising=False)


def at(host: str, port: int = 5672, *, tls: bool = False, **more: Any) -> Endpoint:
    """Return an endpoint whose Management API is where it is by default."""
    scheme, management_port = ("https", 15671) if tls else ("http", 15672)
    where = f"[{host}]" if ":" in host else host
    known = {"management_url": f"{scheme}://{where}:{management_port}"} | more
    return Endpoint(host, port, tls=tls, **known)


HOSTS = [
    ("h", at("h")),
    ("h:5673", at("h", 5673)),
    ("::1", at("::1")),
    ("[::1]", at("::1")),
    ("[::1]:5673", at("::1", 5673)),
    ("ann:s%40@h", at("h", username="ann", password="s@")),
    ("amqp://h", at("h")),
    ("amqps://ann:pw@h:1/v", at("h", 1, tls=True, username="ann", password="pw", virtual_host="v")),
    ("http://h", at("h", management_url="http://h")),
    ("http://h:15672", at("h")),
    (
        "http://ann:pw@h:1/api",
        at("h", username="ann", password="pw", management_url="http://h:1/api"),
    ),
    ("https://h:8443", at("h", 5671, tls=True, management_url="https://h:8443")),
]


@pytest.mark.parametrize(("host", "endpoint"), HOSTS, ids=[host for host, _ in HOSTS])
def test_a_host_may_be_a_url_and_may_have_a_port(host: str, endpoint: Endpoint) -> None:
    assert ConnectionOptions(host=host).endpoint() == endpoint


MANAGEMENT_HOSTS = [
    (None, "http://localhost:15672"),
    ("rabbit", "http://rabbit:15672"),
    ("rabbit:80", "http://rabbit:80"),
    ("rabbit/prefix", "http://rabbit:15672/prefix"),
    ("::1", "http://[::1]:15672"),
    ("[::1]:99", "http://[::1]:99"),
    ("http://rabbit", "http://rabbit"),
    ("https://rabbit", "https://rabbit"),
    ("https://rabbit:8443/x", "https://rabbit:8443/x"),
    ("amqp://rabbit:5673", "http://rabbit:15672"),
    ("amqps://rabbit", "https://rabbit:15671"),
]


@pytest.mark.parametrize(("host", "url"), MANAGEMENT_HOSTS)
def test_where_only_the_management_api_is_asked_the_host_is_its_own(
    host: str | None, url: str
) -> None:
    known = ConnectionOptions(host=host).management_endpoint()
    assert (known.management_url, known.username, known.password) == (url, "guest", "guest")


def test_the_parts_of_an_address_are_put_together() -> None:
    whole = ConnectionOptions(None, "h", 1, "ann", "pw", "v", "m:2")
    assert whole.endpoint() == Endpoint("h", 1, "ann", "pw", "v", False, "http://m:2")
    assert ConnectionOptions(host="h", port=8).management_endpoint().management_url == "http://h:8"
    assert ConnectionOptions(port=8).management_endpoint().management_url == "http://localhost:8"
    known = ConnectionOptions(host="http://h", port=8)
    assert known.endpoint() == at("h", 8, management_url="http://h")
    assert known.management_endpoint().management_url == "http://h:8"


def test_an_option_stands_in_place_of_the_login_in_a_host() -> None:
    for host in ("http://a:b@h:1", "a:b@h"):
        options = ConnectionOptions(host=host, username="c", password="d")
        for known in (options.endpoint(), options.management_endpoint()):
            assert (known.username, known.password) == ("c", "d")
            assert "a:b" not in (known.management_url or "")


CONTRADICTIONS = [
    ({"url": "amqp://h", "host": "h"}, "--url and --host both say where the broker is"),
    ({"url": "amqp://h", "port": 1}, "--url and --port both say where the broker is"),
    ({"url": "amqp://h", "username": "u"}, "--url and --username both"),
    ({"host": "amqp://h", "password": "p"}, "--host with an AMQP URL and --password both"),
    ({"host": "h:1", "port": 2}, "--host h:1 and --port both name a port"),
]


@pytest.mark.parametrize(("given", "words"), CONTRADICTIONS)
def test_what_cannot_be_combined_is_said(given: dict[str, Any], words: str) -> None:
    options = ConnectionOptions(**given)
    for act in (options.endpoint, options.management_endpoint):
        with pytest.raises(UsageError, match=words):
            act()


def test_a_url_and_a_virtual_host_are_two_but_for_the_monitor_which_filters_by_it() -> None:
    options = ConnectionOptions(url="amqp://h", vhost="v")
    with pytest.raises(UsageError, match="--url and --vhost both"):
        options.endpoint()
    assert options.management_endpoint().management_url == "http://h:15672"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"host": "http://h"}, "--host and --management-url both say where the Management API is"),
        ({"host": "h:1"}, "--host and --management-url both"),
        ({"port": 1}, "--port and --management-url both"),
    ],
)
def test_the_management_api_is_named_once(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ConnectionOptions(management_url="http://m", **given).management_endpoint()


def test_the_management_api_may_be_elsewhere_than_its_broker() -> None:
    for given in ({"host": "h"}, {"url": "amqp://h"}):
        options = ConnectionOptions(management_url="m", **given)
        assert options.endpoint() == at("h", management_url="http://m:15672")
        assert options.management_endpoint().management_url == "http://m:15672"
    options = ConnectionOptions(host="h:1", management_url="http://m")
    assert options.endpoint() == at("h", 1, management_url="http://m")


@pytest.mark.parametrize(
    "host",
    ["", " ", "h:x", "h:0", "ftp://h", "http://", "h?x", "h#x", "amqp:h", "[::1", "http://h:x"],
)
def test_what_is_no_address_is_refused_with_the_forms_that_are(host: str) -> None:
    options = ConnectionOptions(host=host)
    for act in (options.endpoint, options.management_endpoint):
        with pytest.raises(UsageError, match="is not the address of a broker") as caught:
            act()
        assert "HOST:PORT" in caught.value.remedy


@pytest.mark.parametrize("host", ["ann:se/cret@h", "x://ann:secret@h", "ann:secret@h:x"])
def test_no_refusal_shows_a_password(host: str) -> None:
    with pytest.raises(UsageError) as caught:
        ConnectionOptions(host=host).endpoint()
    assert "cret" not in str(caught.value)
    assert "secret" not in repr(ConnectionOptions(url=f"amqp://{host}", password="secret"))


def test_a_path_is_a_part_of_the_management_api_alone() -> None:
    with pytest.raises(UsageError, match="'h/prefix' is not the address of a broker"):
        ConnectionOptions(host="h/prefix").endpoint()


def test_an_empty_url_is_not_taken_for_none() -> None:
    for act in (ConnectionOptions(url="").endpoint, ConnectionOptions(url="").management_endpoint):
        with pytest.raises(UsageError, match="'' is not an AMQP URL"):
            act()


# --- the environment ----------------------------------------------------------------------------


def test_the_environment_counts_where_no_option_names_the_broker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert ConnectionOptions().endpoint() == at("localhost")
    monkeypatch.setenv("RMQBENCH_URL", "amqp://bob:pw@broker/vh")
    bob = at("broker", username="bob", password="pw", virtual_host="vh")
    assert ConnectionOptions().endpoint() == bob
    for given in ({"host": "h"}, {"url": "amqp://h"}, {"host": "amqp://h"}):
        assert ConnectionOptions(**given).endpoint() == at("h")
    assert ConnectionOptions(username="ann").endpoint() == at("localhost", username="ann")
    monkeypatch.setenv("RMQBENCH_PASSWORD", "secret")
    assert ConnectionOptions().endpoint() == bob
    assert ConnectionOptions(host="h").endpoint() == at("h", password="secret")
    assert ConnectionOptions(host="h", password="p").endpoint() == at("h", password="p")


NAMED = [
    ({"url": "amqp://b"}, "http://b:15672"),
    ({"host": "b"}, "http://b:15672"),
    ({"port": 5673}, "http://localhost:15672"),
    ({"username": "u"}, "http://localhost:15672"),
    ({"url": "amqp://b", "management_url": "http://m"}, "http://m"),
    ({"management_url": "http://m"}, "http://m"),
    ({}, "http://a:1"),
]


@pytest.mark.parametrize(("given", "asked"), NAMED)
@pytest.mark.parametrize("broker", ["amqp://a", ""])
def test_a_named_broker_is_never_judged_by_the_management_api_of_another_one(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], asked: str, broker: str
) -> None:
    monkeypatch.setenv("RMQBENCH_URL", broker)
    monkeypatch.setenv("RMQBENCH_MANAGEMENT_URL", "http://a:1")
    assert ConnectionOptions(**given).endpoint().management_url == asked


def test_for_the_management_api_login_and_address_come_from_options_then_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def found(**given: Any) -> tuple[str | None, str, str]:
        known = ConnectionOptions(**given).management_endpoint()
        return known.management_url, known.username, known.password

    assert found(host="http://a:b%40@h:1") == ("http://h:1", "a", "b@")
    assert found(management_url="http://a:b%40@h:1") == ("http://h:1", "a", "b@")
    monkeypatch.setenv("RMQBENCH_PASSWORD", "secret")
    assert found(host="h", username="ann") == ("http://h:15672", "ann", "secret")
    assert found(host="h", username="ann", password="given") == ("http://h:15672", "ann", "given")
    monkeypatch.setenv("RMQBENCH_URL", "amqp://bob:pw@broker/vh")
    assert found() == found(vhost="v") == ("http://broker:15672", "bob", "pw")
    assert found(host="other") == ("http://other:15672", "guest", "secret")
    assert found(url="amqp://ann:x@other") == ("http://other:15672", "ann", "x")
    assert found(management_url="m:9") == ("http://m:9", "bob", "pw")
    monkeypatch.setenv("RMQBENCH_MANAGEMENT_URL", "http://m:9")
    assert found() == ("http://m:9", "bob", "pw")
    assert found(username="ann", password="x") == ("http://m:9", "ann", "x")
    assert found(url="amqp://ann:x@other") == ("http://other:15672", "ann", "x")
    assert found(port=8) == ("http://localhost:8", "guest", "secret")


# --- a broker for a run -------------------------------------------------------------------------


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """What is opened: what was asked for, and the Management API."""
    asked: list[tuple[str, str | None]] = []

    def open_broker(
        spec: str, *, management_url: str | None, **_: object
    ) -> AbstractContextManager[None]:
        asked.append((spec, management_url))
        return nullcontext()

    monkeypatch.setattr(rmqbench.broker, "open_broker", open_broker)
    return asked


def test_a_run_takes_the_broker_of_the_options_then_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, opened: list[tuple[str, str | None]]
) -> None:
    def taken(**given: Any) -> tuple[str, str | None]:
        BrokerOptions(**given).open()
        return opened.pop()

    assert taken() == ("auto", None)
    monkeypatch.setenv("RMQBENCH_BROKER", "local")
    assert taken() == ("local", None)
    monkeypatch.setenv("RMQBENCH_URL", "amqp://a")
    monkeypatch.setenv("RMQBENCH_MANAGEMENT_URL", "http://a:1")
    assert taken() == ("amqp://guest:guest@a:5672", "http://a:1")
    assert taken(management_url="http://m") == ("amqp://guest:guest@a:5672", "http://m")
    monkeypatch.setenv("RMQBENCH_URL", "notaurl")
    with pytest.raises(UsageError, match=r"^RMQBENCH_URL: 'notaurl' is not an AMQP URL"):
        taken()
    assert taken(broker="container") == ("container", None)
    assert taken(broker="amqp://b") == ("amqp://guest:guest@b:5672", None)
    assert taken(url="amqp://u:p@b/v") == ("amqp://u:p@b:5672/v", "http://b:15672")
    assert taken(host="b", username="u") == ("amqp://u:guest@b:5672", "http://b:15672")


def test_the_image_of_the_environment_counts_where_there_is_a_container(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images: list[str | None] = []

    def open_broker(_: str, *, image: str | None, **__: object) -> AbstractContextManager[None]:
        images.append(image)
        return nullcontext()

    monkeypatch.setattr(rmqbench.broker, "open_broker", open_broker)
    monkeypatch.setenv("RMQBENCH_IMAGE", "rabbitmq:of-the-environment")
    for given in ({}, {"broker": "container"}, {"broker": "local"}, {"url": "amqp://h"}):
        BrokerOptions(**given).open()
    OwnBrokerOptions(image="rabbitmq:named").open()
    theirs = "rabbitmq:of-the-environment"
    assert images == [theirs, theirs, None, None, "rabbitmq:named"]


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("amqp://ci@h", "of-the-environment"),
        ("amqp://ci:own@h", "own"),
        ("amqp://ci:@h", ""),
        ("amqp://h", "guest"),
    ],
)
def test_a_url_with_a_user_only_takes_the_password_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
    opened: list[tuple[str, str | None]],
    url: str,
    password: str,
) -> None:
    monkeypatch.setenv("RMQBENCH_PASSWORD", "of-the-environment")
    assert ConnectionOptions(url=url).endpoint().password == password
    assert ConnectionOptions(host=url).endpoint().password == password
    assert ConnectionOptions(url=url).management_endpoint().password == password
    BrokerOptions(broker=url).open()
    monkeypatch.setenv("RMQBENCH_URL", url)
    assert ConnectionOptions().endpoint().password == password
    assert ConnectionOptions().management_endpoint().password == password
    BrokerOptions().open()
    assert {Endpoint.from_url(spec).password for spec, _ in opened} == {password}


@pytest.mark.parametrize("name", [{"url": "amqp://h"}, {"host": "h"}, {"vhost": "v"}])
def test_two_brokers_are_not_run_on_at_once(name: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=f"--{next(iter(name))} and --broker name two brokers"):
        BrokerOptions(broker="local", **name).open()


@pytest.mark.parametrize("broker", [None, "auto", "container", "local"])
def test_a_broker_of_our_own_has_no_management_api_elsewhere(broker: str | None) -> None:
    with pytest.raises(UsageError, match="--management-url is for a broker that is there"):
        BrokerOptions(broker=broker, management_url="http://m").open()


def test_a_broker_of_our_own_is_not_looked_for_at_rmqbench_url(
    monkeypatch: pytest.MonkeyPatch, opened: list[tuple[str, str | None]]
) -> None:
    monkeypatch.setenv("RMQBENCH_URL", "amqp://elsewhere")
    monkeypatch.setenv("RMQBENCH_MANAGEMENT_URL", "http://elsewhere")
    with OwnBrokerOptions().open():
        pass
    monkeypatch.setenv("RMQBENCH_BROKER", "local")
    with OwnBrokerOptions().open():
        pass
    with OwnBrokerOptions(broker="container").open():
        pass
    assert opened == [("auto", None), ("local", None), ("container", None)]
    with pytest.raises(UsageError, match="not ours to start"):
        OwnBrokerOptions(broker="amqp://h").open()


def test_where_a_broker_must_be_our_own_a_url_is_no_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @contextmanager
    def open_broker(*_: object, **__: object) -> Iterator[None]:
        raise BrokerUnavailable("There is none.", "Start Docker, or name one by its URL.")
        yield

    monkeypatch.setattr(rmqbench.broker, "open_broker", open_broker)
    with pytest.raises(BrokerUnavailable) as caught, OwnBrokerOptions().open():
        pass
    assert caught.value.remedy.endswith("so a URL does not help.")


# --- the group in the commands ------------------------------------------------------------------

GROUP = ["url", "host", "port", "username", "password", "vhost", "management_url"]
COMMANDS = [
    "produce",
    "consume",
    "gui",
    "monitor",
    "cleanup",
    "run reliability",
    "run online",
    "run stress",
]


def parameters(command: str) -> list[Any]:
    found: Any = get_command(cli.app)
    for word in command.split():
        found = found.commands[word]
    return [each for each in found.params if each.name != "help"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_the_same_group_of_connection_options_last(command: str) -> None:
    told = parameters(command)
    group = [each for each in told if each.rich_help_panel == "Connection"]
    assert [each.name for each in group] == GROUP
    assert told[-len(GROUP) :] == group
    first = parameters(COMMANDS[0])[-len(GROUP) :]
    assert [each.help for each in group] == [each.help for each in first]


def test_the_image_in_the_help_is_the_default_one() -> None:
    (image,) = [each for each in parameters("run stress") if each.name == "image"]
    assert image.show_default == DEFAULT_IMAGE
    assert image.default is None


def test_a_command_gets_its_own_options_and_one_value_of_the_shared_ones() -> None:
    got: list[Any] = []
    app = typer.Typer()

    @app.command()
    @with_options(ConnectionOptions)
    def act(
        connection: ConnectionOptions,
        words: Annotated[list[str] | None, typer.Argument()] = None,
        count: Annotated[int, typer.Option()] = 3,
    ) -> None:
        """Act."""
        got.extend((connection, words, count))

    ended = CliRunner().invoke(app, ["x", "--host", "h", "--count", "4", "y"])
    assert ended.exit_code == 0, ended.output
    assert got == [ConnectionOptions(host="h"), ["x", "y"], 4]
    assert "Act." in CliRunner().invoke(app, ["--help"]).stdout
