"""Which broker is meant, and that a password is neither kept in a file nor shown."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from rmqbench.broker import Broker
from rmqbench.campaign import brokers
from rmqbench.campaign.brokers import BrokerChoice, OpenBroker
from rmqbench.endpoint import Endpoint
from rmqbench.errors import BrokerUnavailable, UsageError

SECRET = "p@ss/w:rd"
ENVIRONMENT = {"PW": SECRET, "URL": "amqp://ann:hidden@h/v", "WORD": "hidden", "HOST": "h:5673"}


@pytest.mark.parametrize(
    ("name", "spec", "image"),
    [
        ("auto", "auto", None),
        ("local", "local", None),
        ("container", "container", None),
        ("rabbitmq:4-management", "container", "rabbitmq:4-management"),
        ("registry.example/rabbit", "container", "registry.example/rabbit"),
        ("amqp://ann@h", "amqp://ann@h", None),
        ("${URL}", "amqp://ann:hidden@h/v", None),
        ("amqp://ann:${PW}@${HOST}/v", "amqp://ann:p%40ss%2Fw%3Ard@h:5673/v", None),
    ],
)
def test_a_name_stands_for_a_broker(name, spec, image):
    choice = BrokerChoice.of(name, None, ENVIRONMENT)
    assert (choice.name, choice.spec, choice.image) == (name, spec, image)
    assert choice.owned == ("://" not in spec)


def test_a_password_is_put_in_as_it_is_and_not_shown():
    choice = BrokerChoice.of("amqp://ann:${PW}@h", "http://ann:${PW}@h:1", ENVIRONMENT)
    assert Endpoint.from_url(choice.spec).password == SECRET
    assert choice.management_url == "http://ann:p%40ss%2Fw%3Ard@h:1"
    assert repr(choice) == "BrokerChoice(name='amqp://ann:${PW}@h')"


@pytest.mark.parametrize(
    ("name", "management_url", "said"),
    [
        ("amqp://ann:hidden@h", None, r"'amqp://ann:\*\*\*@h' has a password in it"),
        ("amqp://ann:hi${PW}@h", None, "has a password in it"),
        ("amqp://ann:$PW@h", None, "has a password in it"),
        ("amqp://ann:hid@den@h", None, "has a password in it"),
        ("amqp://h", "http://ann:hidden@h", "has a password in it"),
        ("amqp://ann:${NOT_SET}@h", None, "variable NOT_SET, .*is not set"),
        ("${WORD}", None, r"'\$\{WORD\}' is no broker"),
        ("amqp://h:${WORD}", None, r"is no AMQP URL, once its variables are put in"),
        ("contianer", None, r"Did you mean container\?"),
        ("http://h", None, "is no broker"),
        ("local", "http://h:15672", "management_url is for a broker at a URL"),
    ],
)
def test_what_is_no_broker_is_refused_without_its_password(name, management_url, said):
    with pytest.raises(UsageError, match=said) as caught:
        BrokerChoice.of(name, management_url, ENVIRONMENT)
    assert "hidden" not in str(caught.value)
    assert SECRET not in str(caught.value)


class Opened:
    """Stands in for the function that opens brokers, and counts what is open."""

    def __init__(self, monkeypatch):
        self.now, self.ever = [], []
        self.failure = None
        self.sound = True
        monkeypatch.setattr(brokers, "open_broker", self.open)
        monkeypatch.setattr(brokers, "_is_sound", lambda _: self.sound)

    @contextmanager
    def open(self, spec, **_):
        self.ever.append(spec)
        if self.failure is not None:
            raise self.failure
        self.now.append(spec)
        try:
            yield Broker("external", Endpoint(), "4.0", spec)
        finally:
            self.now.remove(spec)


@pytest.fixture
def opened(monkeypatch):
    return Opened(monkeypatch)


ONE, TWO = (BrokerChoice(name, name) for name in ("one", "two"))


def test_a_broker_is_opened_once_and_ends_before_the_next(opened):
    with OpenBroker(print) as keeper:
        for choice in (ONE, ONE, TWO, TWO):
            assert keeper.get(choice).how == choice.name
            assert opened.now == [choice.name]
    assert opened.ever == ["one", "two"]
    assert opened.now == []


def test_one_that_does_not_answer_any_more_is_replaced(opened):
    said = []
    with OpenBroker(said.append) as keeper:
        keeper.get(ONE)
        opened.sound = False
        keeper.get(ONE)
        assert opened.now == ["one"]
    assert opened.ever == ["one", "one"]
    assert said == ["The broker one does not answer any more: a new one is taken."]


def test_one_that_cannot_be_opened_is_tried_once_for_all_its_runs(opened):
    opened.failure = BrokerUnavailable("There is none.")
    with OpenBroker(print) as keeper:
        for _ in range(3):
            with pytest.raises(BrokerUnavailable, match="There is none"):
                keeper.get(ONE)
        opened.failure = None
        keeper.get(TWO)
    assert opened.ever == ["one", "two"]


@pytest.mark.parametrize(
    ("running", "refusal", "opened"),
    [
        (True, None, 1),
        (False, None, 2),
        (True, BrokerUnavailable("There is none."), 2),
        (True, OSError("reset"), 2),
    ],
)
def test_a_node_of_ours_is_kept_while_it_runs_and_lets_us_in(monkeypatch, running, refusal, opened):
    ever = []

    @contextmanager
    def open_broker(spec, **_):
        ever.append(spec)
        node = SimpleNamespace(is_running=lambda: running)
        yield Broker("local", Endpoint(), "4.0", spec, node)

    def probe(_endpoint):
        if refusal is not None:
            raise refusal
        return "4.0"

    monkeypatch.setattr(brokers, "open_broker", open_broker)
    monkeypatch.setattr(brokers, "probe", probe)
    with OpenBroker(print) as keeper:
        keeper.get(ONE)
        keeper.get(ONE)
    assert len(ever) == opened
