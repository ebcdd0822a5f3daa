"""How a picture of the broker is drawn."""

import re
import time

import pytest
from rich.cells import cell_len

from rmqbench.monitor.view import Scene, clock_time, render

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pictures import (
    HOSTILE,
    TIME_S,
    connection,
    consumer,
    on_a_screen,
    picture,
    queue,
    text,
)


def test_a_card_tells_all_of_a_queue():
    shown = text(
        picture(
            queue(ready=12_345, unacknowledged=55, publish=61.4, deliver=50, ack=49),
            connections=[connection()],
            consumers=[consumer(), consumer("tag-2", prefetch_count=0, ack_required=False)],
        )
    )
    for words in (
        "■ work",
        "publishing, consuming",
        "2 consumers",
        r"ready +12K   publish +61/s",
        r"unacked +55   deliver +50/s",
        r"total +12K   ack +49/s",
        r"→ tag-1 +prefetch 1,000",
        r"127\.0\.0\.1:5000 billing +manual ack",
        r"→ tag-2 +no prefetch",
        r"127\.0\.0\.1:5000 billing +auto ack",
        r"billing +127\.0\.0\.1:5000 +ann +running +2 +1\.5 kB/s +0 B/s",
        "RabbitMQ 4.1.2 at http://b:15672",
        r"rabbit@here +150 MB   2% +10 GB +80 GB",
    ):
        assert re.search(words, shown), shown


def test_an_idle_queue_shows_no_rates():
    shown = text(picture(queue(ready=3)))
    card = shown[shown.index("● work") :]
    assert "no consumers" in card
    assert "/s" not in card


def test_many_consumers_are_counted():
    consumers = [consumer(f"tag-{number}") for number in range(40)]
    shown = text(picture(queue(), consumers=consumers))
    assert "40 consumers" in shown
    assert "… and 37 more consumers" in shown


def test_colours_tell_the_depth_and_no_color_takes_them_away(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    for ready, code in ((0, "32"), (1000, "33"), (10_000, "31")):
        scene = Scene("http://b", picture(queue(ready=ready)))
        colours = set(re.findall(r"\x1b\[[0-9;]*?(3[123])m", render(scene, width=80, colour=True)))
        assert code in colours
        assert colours <= {code, "32"}  # the node is green
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", render(scene, width=80, colour=True))


@pytest.mark.parametrize("width", [1, 5, 20, 40, 41, 59, 60, 79, 80, 100, 119, 120, 160, 200])
@pytest.mark.parametrize("count", [0, 3, 50])
def test_no_line_is_wider_than_the_width(width, count):
    queues = [queue(name, 10**number) for number, name in enumerate(HOSTILE)][:count]
    queues += [queue(f"q{number}", vhost="/team") for number in range(count - len(queues))]
    connections = [connection(given=name, user=name) for name in HOSTILE]
    consumers = [consumer(name, queue=HOSTILE[1]) for name in HOSTILE]
    shown = text(picture(*queues, connections=connections, consumers=consumers), width=width)
    assert max(cell_len(each) for each in shown.splitlines()) <= width
    assert shown.replace("\n", "").isprintable()


@pytest.mark.parametrize("columns", [1, 12, 40, 80, 150])
@pytest.mark.parametrize("lines", [1, 2, 5, 12, 24, 60])
def test_a_screen_is_filled_exactly(columns, lines):
    queues = [queue(name, 10**number) for number, name in enumerate(HOSTILE)]
    shown = on_a_screen(picture(*queues, connections=[connection()] * 7), columns, lines)
    assert len(shown) == lines
    assert {cell_len(each) for each in shown} == {columns}
    if columns >= 40:
        assert "depth" in shown[-1]
        assert clock_time(TIME_S) in shown[-1]


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=60), st.integers(40, 130), st.integers(1, 40))
def test_no_name_breaks_the_screen(name, columns, lines):
    shown = picture(queue(name), connections=[connection(given=name)], consumers=[consumer(name)])
    drawn = on_a_screen(shown, columns, lines)
    assert len(drawn) == lines
    assert {cell_len(each) for each in drawn} == {columns}
    assert "".join(drawn).isprintable()


def test_where_cards_do_not_fit_there_are_lines_and_the_rest_is_counted():
    few = picture(*(queue(f"q{number}") for number in range(4)))
    many = picture(*(queue(f"q{number:03}", number) for number in range(300)))
    assert sum("no consumers" in each for each in on_a_screen(few, 80, 24)) == 2  # two by two
    drawn = on_a_screen(many, 80, 24)
    assert "Queues · 300" in "\n".join(drawn)
    assert "● q299" in "\n".join(drawn)
    (more,) = (each for each in drawn if "more (sorted by depth; --filter narrows)" in each)
    shown = sum("● q" in each for each in drawn)
    assert f"… and {300 - shown} more" in more
    assert shown >= 8


def test_thousands_of_queues_are_drawn_in_time():
    many = picture(*(queue(f"q{number}", number) for number in range(5000)))
    started = time.process_time()
    on_a_screen(many, 120, 50)
    assert time.process_time() - started < 5


def test_into_a_pipe_every_queue_is_written():
    many = text(picture(*(queue(f"q{number:03}") for number in range(300))))
    assert len(re.findall(r"● q\d{3}", many)) == 300


def test_virtual_hosts_are_told_apart_where_there_are_several():
    assert "classic · " not in text(picture(queue()))
    assert "classic · team" in text(picture(queue(), queue(vhost="team")))


def test_a_filter_without_a_match_says_so():
    assert "No queue matches x*." in text(picture(queue()), pattern="x*")
    assert "There are no queues." in text(picture())


def test_where_the_output_is_ascii_all_of_it_is():
    scene = Scene("http://b", picture(queue(ready=10_000), consumers=[consumer()]))
    shown = render(scene, width=70, colour=False, encoding="ascii")
    assert shown.isascii()
    assert "# work" in shown
    assert "?" not in shown


def test_nodes_that_one_may_not_see_are_explained():
    assert "tag 'monitoring'" in text(picture(queue(), nodes=None))
