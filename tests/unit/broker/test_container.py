"""What becomes of a container whose making was interrupted; without an engine."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import NoReturn

import docker.errors
import pytest
from testcontainers.core.container import DockerContainer

from rmqbench.broker.container import ContainerNode
from rmqbench.errors import BrokerError


class Held:
    """A reaper that keeps what it holds."""

    is_mine = True

    def __init__(self) -> None:
        self.things: list[dict[str, object]] = []

    def hold(self, **thing: object) -> None:
        self.things.append(thing)

    def release(self, **thing: object) -> None:
        self.things.remove(thing)


class Engine:
    """An engine that answers a removal as it is told to."""

    def __init__(self, answer: Exception | None) -> None:
        self.client = SimpleNamespace(api=self)
        self.answer = answer

    def errors(self, _: str) -> nullcontext[None]:
        return nullcontext()

    def remove_container(self, *_: object, **__: object) -> None:
        if self.answer is not None:
            raise self.answer


ABSENT = docker.errors.NotFound("No such container")


@pytest.mark.parametrize(
    ("ends_with", "answer", "is_held"),
    [
        (KeyboardInterrupt(), ABSENT, True),  # its engine may be about to make it
        (KeyboardInterrupt(), None, False),
        (docker.errors.APIError("no such image"), ABSENT, False),
        (docker.errors.APIError("port is already allocated"), None, False),
    ],
)
def test_what_may_yet_appear_stays_with_the_reaper(
    monkeypatch: pytest.MonkeyPatch,
    ends_with: BaseException,
    answer: Exception | None,
    is_held: bool,
) -> None:
    def start(_: object) -> NoReturn:
        raise ends_with

    monkeypatch.setattr(DockerContainer, "start", start)
    reaper = Held()
    node = ContainerNode(Engine(answer), "rabbitmq:4", reaper)  # type: ignore[arg-type]
    with pytest.raises(type(ends_with)):
        node.start()
    assert [each["container"] for each in reaper.things] == [node.name]
    node.close()
    assert bool(reaper.things) is is_held


def test_a_container_that_cannot_be_removed_stays_with_the_reaper(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(DockerContainer, "start", start)
    reaper = Held()
    engine = Engine(BrokerError("No space left on device."))
    node = ContainerNode(engine, "rabbitmq:4", reaper)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        node.start()
    with pytest.raises(BrokerError):
        node.close()
    assert reaper.things
