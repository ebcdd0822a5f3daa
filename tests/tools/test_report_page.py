"""The page of ``rmqbench report`` in a real browser: whole, quiet, deaf to what messages say."""

import json
import re
import time

import numpy as np
import pytest
from support.histories import Consumed, History, Published, Queued
from support.large import write_large_run
from support.timelines import OK, at, run_of
from support.tools import rmqbench as command
from support.tools import wait_until

import rmqbench
from rmqbench.faults import Fault
from rmqbench.report.html.page import page as page_of
from rmqbench.run_directory.journal import FaultEvent, Interrupted, Journal, TroubleSeen
from rmqbench.run_directory.ledger import DeliveryLedger

CHARTS_OVER_TIME = "document.querySelectorAll('.closer')"
HOSTILE = (
    "\"'><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
)


@pytest.fixture(scope="module")
def runs(rmqbench_broker, tmp_path_factory):
    """Two real runs: one whose connections are reset, and one that lost what it was told to."""
    place = tmp_path_factory.mktemp("runs")
    reset = rmqbench.latency(
        publish_rate=500,
        duration_s=5,
        consumers=2,
        faults=(Fault("reset-connection", "publish", after_s=1.0),),
    )
    rmqbench.run(reset, rmqbench_broker, directory=place / "reset")
    full = rmqbench.reliability(messages=2000, queue_arguments={"x-max-length": 500})
    rmqbench.run(full, rmqbench_broker, directory=place / "full")
    return place


@pytest.fixture(scope="module")
def pages(runs, tmp_path_factory):
    """The page of each run, and one of both."""
    place = tmp_path_factory.mktemp("pages")
    for name in ("reset", "full"):
        made = command("report", str(runs / name), "-o", str(place / f"{name}.html"))
        assert made.returncode == 0, made.stderr
    both = [str(runs / name) for name in ("reset", "full")]
    made = command("report", *both, "-o", str(place / "both.html"), "--title", "Two runs")
    assert made.returncode == 0, made.stderr
    return place


def draw_all(page):
    """Scroll to each chart over time, until the script has drawn it."""
    for number in range(page.evaluate(f"{CHARTS_OVER_TIME}.length")):
        chart = f"{CHARTS_OVER_TIME}[{number}]"
        page.evaluate(f"{chart}.scrollIntoView()")
        wait_until(lambda c=chart: page.evaluate(f"!!{c}.querySelector('canvas')"), "a chart", 20)
    page.evaluate("scrollTo(0, 0)")


def shapes(page, of="path.line, path.heat"):
    """Return the widths and heights of the shapes of all charts, as they are on the screen."""
    return page.evaluate(
        f"[...document.querySelectorAll('.plot > svg')]"
        f".map(svg => [...svg.querySelectorAll('{of}')]"
        ".reduce((most, each) => { const box = each.getBoundingClientRect();"
        " return [Math.max(most[0], box.width), Math.max(most[1], box.height)]; }, [0, 0]))"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_chart_is_drawn_and_nothing_is_complained_of(browser, pages, tmp_path, scheme, width):
    with browser.page(width=width, height=900, phone=width < 600, scheme=scheme) as page:
        page.open(pages / "reset.html")
        assert page.evaluate("document.title") == "latency, reset-connection during publish, " + (
            "classic queues, 2 consumers"
        )
        draw_all(page)
        assert page.evaluate(f"{CHARTS_OVER_TIME}.length") == 3
        painted = page.evaluate(
            "[...document.querySelectorAll('canvas')].map(canvas => {"
            " const { width, height } = canvas;"
            " const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);"
            " const seen = new Set();"
            " for (let at = 0; at < data.length; at += 4) if (data[at + 3] > 200)"
            "   seen.add(data[at] << 16 | data[at + 1] << 8 | data[at + 2]);"
            " return seen.size; })"
        )
        assert min(painted) > 2, "lines, grid and letters are of colours of their own"
        by_latency = [size for size in shapes(page) if size != [0, 0]]
        assert len(by_latency) >= 4, "the percentiles, and how each latency is spread"
        assert all(wide > width / 8 and high > 1 for wide, high in by_latency)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (dark == "rgb(20, 23, 26)") is (scheme == "dark")
        page.picture(tmp_path / "page.png")
        assert page.problems() == []


def test_without_a_script_every_chart_is_there(browser, pages):
    with browser.page(scripts=False) as page:
        page.open(pages / "reset.html")
        drawn = shapes(page)
        assert len(drawn) == page.evaluate("document.querySelectorAll('figure').length") >= 7
        assert all(wide > 100 for wide, _ in drawn), "a line may be flat: a queue is empty"
        assert page.evaluate("document.querySelectorAll('canvas').length") == 0
        bands = page.evaluate("document.querySelectorAll('figure rect.band').length")
        assert bands >= 6, "the fault, on each chart over time"
        assert page.problems() == []


def test_a_drag_looks_closer_and_a_button_shows_all_again(browser, pages):
    with browser.page() as page:
        page.open(pages / "reset.html")
        draw_all(page)
        chart = "figure#run-1-time-1"

        def ticks():
            return page.evaluate(f"document.querySelector('{chart} canvas').toDataURL()")

        wait_until(lambda: ticks() == ticks(), "the chart to be drawn")
        whole = ticks()
        page.drag(f"{chart} .u-over", (0.2, 0.5), (0.4, 0.5))
        wait_until(lambda: ticks() != whole, "the chart to be drawn closer")
        page.click(f"{chart} .again")
        wait_until(lambda: ticks() == whole, "the whole chart")
        page.hover(f"{chart} .u-over", at=(0.5, 0.5))
        wait_until(
            lambda: re.search(
                r"\d", page.evaluate(f"document.querySelector('{chart} .u-value').textContent")
            ),
            "the values at the cursor",
            10,
        )
        assert page.problems() == []


@pytest.mark.parametrize("by", ["mouse", "keyboard"])
def test_a_message_tells_its_life(browser, pages, by):
    with browser.page() as page:
        page.open(pages / "full.html")
        link = page.evaluate("document.querySelector('.messages a').getAttribute('href')")
        life = f"document.querySelector('{link}')"
        assert page.evaluate(f"{life}.checkVisibility()") is False
        if by == "mouse":
            page.click(".messages a")
        else:
            page.evaluate("document.querySelector('.messages a').focus()")
            page.press("Enter")
        wait_until(
            lambda: page.evaluate(f"{life}.open && {life}.checkVisibility()"), "the life", 10
        )
        assert "confirmed" in page.evaluate(f"{life}.textContent")
        assert page.evaluate("!!document.querySelector('.row a.mark')"), "and on the line of time"
        assert page.problems() == []


def test_the_figures_are_those_of_the_result(pages, runs):
    for name in ("reset", "full"):
        result = json.loads((runs / name / "result.json").read_text())
        text = re.sub(
            r"<(style|script).*?</\1>", "", (pages / f"{name}.html").read_text(), flags=re.S
        )
        for figure in (
            result["outcome"],
            f"{result['messages']:,}",
            f"{result['confirmed']:,}",
            f"{result['publish']['rate_per_s']:,.0f}/s",
            f"{result['consume']['rate_per_s']:,.0f}/s",
            result["run"],
            *(
                f"{q['sum'][each]:,}"
                for q in result["queues"].values()
                for each in ("delivered", "removed")
            ),
        ):
            assert figure in text, (name, figure)


def test_several_runs_are_one_page_with_a_table_of_them(browser, pages):
    with browser.page() as page:
        page.open(pages / "both.html")
        assert page.evaluate("document.title") == "Two runs"
        rows = page.evaluate(
            "[...document.querySelectorAll('.overview tbody td:first-child')]"
            ".map(each => each.textContent)"
        )
        assert rows[1:] == ["FAIL"], rows
        page.click(".overview tbody tr:nth-child(2) a")
        wait_until(lambda: page.evaluate("document.querySelector('#run-2').open"), "the run", 10)
        assert page.evaluate("document.querySelectorAll('[id]').length") == page.evaluate(
            "new Set([...document.querySelectorAll('[id]')].map(each => each.id)).size"
        )
        assert page.problems() == []


# --- runs that were made up -----------------------------------------------------------------------


def hostile(value):
    """Return a description in which each text that may be anything is hostile."""
    kept = {"run", "kind", "version", "consume"}
    if isinstance(value, dict):
        return {
            key: each if key in kept and isinstance(each, str) else hostile(each)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [hostile(each) for each in value]
    return f"{value}{HOSTILE}" if isinstance(value, str) else value


def test_nothing_that_comes_from_outside_is_obeyed(browser, tmp_path):
    """Script tags in every string: of the description, the journals, incidents and samples."""
    consumed = Consumed([(0, n, False) for n in range(8)])
    path = run_of(
        tmp_path / "run",
        History([Published([OK] * 10)], [Queued(f"work{HOSTILE}", [consumed])]),
        scenario=rmqbench.reliability(messages=10).as_dict(),
    )
    description = json.loads((path / "run.json").read_text())
    described = hostile(description) | {"allowed": [], "faults": [f"kill-broker{HOSTILE}"]}
    described["scenario"]["faults"] = [{"name": f"kill-broker{HOSTILE}", "during": HOSTILE}]
    described["recipe"]["payload"] = "bytes"  # of an unknown one no message can be computed
    described["platform"], described["versions"] = HOSTILE, {HOSTILE: HOSTILE}
    (path / "run.json").write_text(json.dumps(described))
    with Journal(path / "journal.jsonl") as journal:
        for phase in ("struck", "over"):
            journal.write(
                FaultEvent(time_ns=at(2.0), fault=HOSTILE, phase=phase, text=HOSTILE, own=0)
            )
        journal.write(TroubleSeen(time_ns=at(3.0), text=HOSTILE))
    with Journal(path / "producer-0" / "journal.jsonl") as journal:
        journal.write(Interrupted(time_ns=at(2.0), why=HOSTILE))
    sample = {"messages_ready": 5, "messages_unacknowledged": 1, "memory_bytes": 1 << 20}
    (path / "samples.jsonl").write_text(
        "".join(
            json.dumps(
                {
                    "time_ns": at(second),
                    "queues": {f"work{HOSTILE}": sample},
                    "nodes": {HOSTILE: {"mem_used_bytes": 1 << 28}},
                }
            )
            + "\n"
            for second in (1, 2, 3)
        )
    )
    text = page_of([(path, HOSTILE), (path, HOSTILE)], f"title {HOSTILE}")
    (tmp_path / "page.html").write_text(text)
    assert "work&#34;&#39;&gt;&lt;script&gt;" in text
    with browser.page() as page:
        page.open(tmp_path / "page.html")
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
        draw_all(page)
        assert page.evaluate("document.title") == f"title {HOSTILE}"
        assert page.evaluate("document.images.length") == 0
        scripts = page.evaluate(
            "[...document.scripts].filter(each => each.type !== 'application/json').length"
        )
        assert scripts == 1
        assert page.evaluate("document.body.innerText.split('<script>').length") > 20
        assert page.problems() == []


def test_the_policy_of_the_page_would_stop_a_script_that_slipped_in(browser, pages, tmp_path):
    text = (pages / "full.html").read_text()
    slipped = text.replace("<main>", f"<main>{HOSTILE}", 1)
    (tmp_path / "page.html").write_text(slipped)
    with browser.page() as page:
        page.open(tmp_path / "page.html")
        assert page.evaluate("document.title") != "owned"
        assert any("Content Security Policy" in each for each in page.problems())


def test_a_run_that_was_interrupted_has_a_page_too(browser, tmp_path):
    consumed = Consumed([(0, 0, False)], ended=False, closed=False)
    history = History([Published([OK] * 5, ended=False)], [Queued("work", [consumed], proof=None)])
    path = tmp_path / "run"
    history.write(path)
    description = json.loads((path / "run.json").read_text())
    description["scenario"] = rmqbench.reliability(messages=5).as_dict()
    (path / "run.json").write_text(json.dumps(description))
    made = command("report", str(path), "-o", str(tmp_path / "page.html"))
    assert made.returncode == 0, made.stderr
    with browser.page() as page:
        page.open(tmp_path / "page.html")
        assert page.evaluate("document.querySelector('.outcome').textContent") == "INCONCLUSIVE"
        assert "open" in page.evaluate("document.querySelector('.sums').textContent")
        assert page.problems() == []


def test_a_million_messages_are_a_small_page_and_60000_losses_do_not_freeze_it(browser, tmp_path):
    path = tmp_path / "run"
    write_large_run(path, 1_000_000)
    description = json.loads((path / "run.json").read_text())
    description["scenario"] = rmqbench.stress().as_dict()
    (path / "run.json").write_text(json.dumps(description))
    sizes = [len(page_of([(path, "")]))]
    ledger = DeliveryLedger.open(path / "queue-0" / "consumer-0")
    ledger.state[np.arange(0, 960_000, 16)] = 0
    began = time.monotonic()
    text = page_of([(path, "")])
    assert time.monotonic() - began < 60, "on a machine that has other work, too"
    sizes.append(len(text))
    assert "60,000 lost" in text
    assert max(sizes) < 200_000, sizes
    (tmp_path / "page.html").write_text(text)
    with browser.page() as page:
        began = time.monotonic()
        page.open(tmp_path / "page.html")
        draw_all(page)
        assert time.monotonic() - began < 20
        assert page.evaluate("document.querySelectorAll('*').length") < 5000
        assert page.problems() == []
