"""Results for people: a small table of each run."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from rmqbench.results.latencies import Percentiles
from rmqbench.results.result import Result
from rmqbench.text import counted, visible, visible_line
from rmqbench.verdict.findings import Judgement, Verdict

__all__ = [
    "STYLES",
    "describe_broker",
    "describe_scenario",
    "milliseconds",
    "render",
    "result_line",
    "result_view",
    "unbroken",
]

STYLES = {"PASS": "bold green", "FAIL": "bold red", "INCONCLUSIVE": "bold yellow"}
_SHOWN_INTERRUPTIONS = 10  # in a row, before only the first ones are shown
_SHOWN = {
    "lost": "lost",
    "duplicate": "duplicated",
    "redelivered": "redelivered",
    "reordered": "reordered",
    "corrupted": "corrupted",
}


def result_view(result: Result, title: str | None = None, remark: str = "") -> RenderableType:
    """Show one result: verdict, what each queue delivered, rates, latency, broker, evidence.

    ``remark`` stands beside the verdict where it alone would mislead, as "the test failed".
    """
    verdict = result.verdict
    lines: list[RenderableType] = [
        _headline(result, title, remark),
        Text(_describe_publish(result)),
        _Queues(result),
    ]
    if verdict.passed:  # else its own text says it
        lines += [Text(visible(line)) for line in _describe_allowed(verdict)]
    lines.append(Text(f"consumed at {result.consume.rate_per_s:,.0f}/s"))
    lines += [Text(visible(line)) for line in _describe_latencies(result)]
    lines += [Text(visible_line(str(each)), STYLES[each.outcome]) for each in result.limits]
    lines.append(Text(visible(describe_broker(result)), "dim"))
    lines += [Text(visible(f"note: {note}"), "dim") for note in result.notes]
    if any(event.kind != "stage" for event in result.events):
        lines += [Text(visible(line), "dim") for line in _describe_events(result)]
    if verdict.passed:
        lines.append(unbroken(f"The evidence lies in {result.directory}", "dim"))
    else:
        lines.append(unbroken(str(verdict), STYLES[verdict.outcome]))
    return Group(*lines)


def result_line(result: Result, title: str | None = None, remark: str = "") -> Text:
    """Show one result in a line: verdict, messages, rates, what was found, where the evidence is.

    ``remark`` as in :func:`result_view`.
    """
    verdict = result.verdict
    found = ", ".join(f"{count:,} {name}" for name, count in verdict.found().items())
    text = [
        f"{counted(result.messages, 'message', form=',')}, "
        f"published {result.publish.rate_per_s:,.0f}/s, "
        f"consumed {result.consume.rate_per_s:,.0f}/s",
        *([found] if found else () if verdict.passed else verdict.reasons[:1]),
        *(str(each) for each in result.limits if each.outcome is not Judgement.PASS),
        f"evidence in {result.directory}",
    ]
    return _headline(result, title, remark).append(visible_line(": " + "; ".join(text)))


def _headline(result: Result, title: str | None, remark: str) -> Text:
    """Show the verdict and what it is about; a remark takes the green from a PASS."""
    outcome = result.outcome
    if not remark and result.verdict.outcomes_unknown:
        remark = "outcomes unknown"
    style = STYLES["INCONCLUSIVE" if remark and result.passed else outcome]
    return Text.assemble(
        (f"{outcome} ({remark}) " if remark else f"{outcome} ", style),
        (visible(title or describe_scenario(result)), "bold"),
    )


def unbroken(text: str, style: str) -> Text:
    """Leave long lines to the terminal: the identities and paths in them are to be copied."""
    return Text(visible(text), style, no_wrap=True, overflow="ignore")


class _Queues:
    """What each queue delivered: a table where it fits, else lines; no column is ever dropped."""

    def __init__(self, result: Result) -> None:
        headings = ("delivered", *_SHOWN.values())
        self._rows = {
            visible(name): dict(
                zip(
                    headings,
                    (figures.delivered, *(result.verdict.count(f, name) for f in _SHOWN)),
                    strict=True,
                )
            )
            for name, figures in result.queues.items()
        }

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("queue", no_wrap=True)
        for heading in next(iter(self._rows.values())):
            table.add_column(heading, justify="right", no_wrap=True)
        for name, numbers in self._rows.items():
            table.add_row(Text(name), *(f"{number:,}" for number in numbers.values()))
        unlimited = options.update(max_width=10_000)
        if console.measure(table, options=unlimited).maximum <= options.max_width:
            yield table
            return
        for name, numbers in self._rows.items():
            counts = ", ".join(f"{heading} {number:,}" for heading, number in numbers.items())
            yield Text(f"{name}: {counts}")


def render(views: Iterable[RenderableType], *, width: int, colour: bool) -> str:
    """Render to text of a given width, with escape sequences only if ``colour``."""
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colour,
        no_color=not colour,
        highlight=False,
        legacy_windows=False,
    )
    for view in views:
        console.print(view, crop=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def describe_scenario(result: Result) -> str:
    """Describe what was run: ``faults, kill-broker during drain, classic queues, 3 consumers``.

    The consumers are those of the first queue.
    """
    queues = result.scenario["queues"]
    kinds = " and ".join(dict.fromkeys(queue["kind"] for queue in queues))
    consumers = queues[0]["consumers"]
    struck = Counter(
        fault["name"] + (f" during {fault['during']}" if fault["during"] else "")
        for fault in result.scenario["faults"]
    )
    faults = "".join(
        f"{fault}, " if times == 1 else f"{fault} ({times} times), "
        for fault, times in struck.items()
    )
    return (
        f"{result.scenario['name']}, {faults}{kinds} queue{'s' if len(queues) > 1 else ''}, "
        f"{counted(consumers, 'consumer')}"
    )


def _describe_allowed(verdict: Verdict) -> Iterator[str]:
    """Describe what the table does not have: ``work.queue: 5 removed (allowed): a purge``."""
    for finding in verdict.findings:
        if finding.name not in _SHOWN:
            where = f"{finding.queue}: " if finding.queue else ""
            detail = f": {finding.detail}" if finding.detail else ""
            yield f"{where}{finding.count:,} {finding.name} ({finding.effect}){detail}"


def _describe_publish(result: Result) -> str:
    published = result.messages - result.verdict.count("unsent")
    text = (
        f"published {published:,}, confirmed {result.confirmed:,}, "
        f"at {result.publish.rate_per_s:,.0f}/s"
    )
    if result.confirm_latency and not result.lag:
        text += f"; confirm latency {_in_words(result.confirm_latency)}"
    return text


def _describe_latencies(result: Result) -> Iterator[str]:
    """Yield a line for each latency of an open load, and one for the producers' own lag."""
    if result.lag is None:
        return
    known = [("confirm", result.confirm_latency)]
    for name, queue in result.queues.items():
        known += [(f"deliver {name}", queue.delivery_latency)]
        known += [(f"acknowledge {name}", queue.acknowledge_latency)]
    for what, latency in known:
        if latency is not None:
            yield f"due to {what}: {_in_words(latency)}"
    yield f"due to send (its own lag): {_in_words(result.lag)}"


def _in_words(latency: Percentiles) -> str:
    """Return ``p50 1.2, p95 3.4, p99 6.1, p99.9 12, max 15 ms``."""
    figures = {
        "p50": latency.p50_ms,
        "p95": latency.p95_ms,
        "p99": latency.p99_ms,
        "p99.9": latency.p999_ms,
        "max": latency.max_ms,
    }
    said = ", ".join(f"{name} {milliseconds(value)}" for name, value in figures.items())
    missing = f"; {latency.missing:,} missing" if latency.missing else ""
    return f"{said} ms{missing}"


def milliseconds(value: float | None) -> str:
    """Return a number with three digits, or what stands for one that is larger than all known."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _describe_events(result: Result) -> Iterator[str]:
    """Yield a line for each event; of many interruptions in a row the first ones."""
    began_ns = result.events[0].time_ns
    for interrupted, group in groupby(result.events, lambda event: event.kind == "interruption"):
        events = list(group)
        shown = events if len(events) <= _SHOWN_INTERRUPTIONS or not interrupted else events[:3]
        for event in shown:
            yield f"{(event.time_ns - began_ns) / 1e9:7.2f} s  {event.event}"
        if more := len(events) - len(shown):
            until = (events[-1].time_ns - began_ns) / 1e9
            yield f"{until:7.2f} s  {counted(more, 'more interruption')} up to here"


def describe_broker(result: Result) -> str:
    """Describe which broker it was: version, address, and how it was chosen."""
    broker = result.broker
    return f"RabbitMQ {broker['version']} at {broker['endpoint']}: {broker['how']}"
