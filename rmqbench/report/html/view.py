"""What the page says of one run: sentences, tables and charts, made of its directory alone."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from rmqbench.errors import RmqbenchError
from rmqbench.explaining.commands import run_again
from rmqbench.explaining.facts import Facts, breaks_of, time_of_day
from rmqbench.explaining.lives import Life, life_of, which_message
from rmqbench.management.sampler import Sample, read_samples
from rmqbench.report.html.charts import (
    Band,
    Bar,
    Chart,
    Mark,
    Row,
    density,
    lines,
    percentiles,
    placed,
)
from rmqbench.report.html.scales import Linear, Tick, duration_text, milliseconds_text
from rmqbench.report.terminal import describe_scenario
from rmqbench.results.judging import judge
from rmqbench.results.latencies import Percentiles
from rmqbench.results.result import Result
from rmqbench.results.series import TimeAxis, curves, densities, figures, rates, time_axis
from rmqbench.results.sums import QueueSum
from rmqbench.run_directory.journal import (
    ChannelClosed,
    ChannelOpened,
    FaultEvent,
    Interrupted,
)
from rmqbench.run_directory.reading import read_run
from rmqbench.run_directory.records import ConsumerRecord, ProducerRecord
from rmqbench.text import counted, utc
from rmqbench.verdict.findings import (
    FINDINGS,
    OUTCOMES,
    Effect,
    Explanation,
    Finding,
    FindingName,
)

__all__ = ["Check", "RunView"]

_MOST_ROWS = 40  # of workers, each with a line of its own
_MOST_LIVES = 20  # of messages that are told of
_MOST_MARKS = 400  # on the line of a worker
_MOST_MOMENTS = 50  # of interruptions on a chart
_LEAST_BAR = 0.004  # of the width: shorter ones of a kind are one


@dataclass(frozen=True, slots=True)
class Check:
    """Something that was promised, and what was found of it."""

    name: str
    mark: str
    found: str


class RunView:
    """One run as the page shows it. ``number`` tells its parts from those of other runs."""

    def __init__(self, directory: str | os.PathLike[str], number: int = 1, title: str = "") -> None:
        self.number = number
        self.result: Result = judge(Path(directory))
        self.record = read_run(self.result.directory)
        self.facts = Facts(self.record, self.result.verdict)
        self.title = title or describe_scenario(self.result)

    # --- what it comes to -----------------------------------------------------------------------

    @property
    def outcome(self) -> str:
        """PASS, FAIL or INCONCLUSIVE."""
        return self.result.outcome.value

    @property
    def began(self) -> str:
        """When it began, in UTC."""
        if not self.axis.start_ns:
            return "not known when"
        return utc(self.axis.start_ns)[:19].replace("T", " ") + " UTC"

    @property
    def sentence(self) -> str:
        """The verdict in a sentence."""
        result = self.result
        if not result.passed:
            return f"{result.why[:1].upper()}{result.why[1:]}."
        queues = list(result.queues)
        each = f"each of {len(queues)} queues" if len(queues) > 1 else queues[0]
        if allowed := result.verdict.found():
            found = ", ".join(f"{count:,} {name}" for name, count in allowed.items())
            lost = "" if FindingName.LOST in allowed else "no confirmed message was lost. "
            sentence = f"{lost}Found, and allowed: {found}."
            return sentence[:1].upper() + sentence[1:]
        how = "published and confirmed" if self.facts.confirms else "published, without confirms"
        return (
            f"{_messages(result.messages)} were {how}, and {each} delivered "
            "every one of them: once, in order and intact."
        )

    @property
    def headlines(self) -> list[tuple[str, str]]:
        """The figures that people ask for first: what, and how much."""
        result = self.result
        found = [
            ("published", f"{result.publish.rate_per_s:,.0f}/s"),
            ("consumed", f"{result.consume.rate_per_s:,.0f}/s"),
        ]
        if result.confirm_latency is not None:
            found.append(("confirm, p99", milliseconds_text(result.confirm_latency.p99_ms)))
        for queue in list(result.queues.values())[:1]:
            if queue.delivery_latency is not None:
                found.append(("delivery, p99", milliseconds_text(queue.delivery_latency.p99_ms)))
        found.append(("messages", f"{result.messages:,}"))
        found.append(("took", duration_text(self.axis.seconds)))
        return found

    @cached_property
    def checks(self) -> list[Check]:
        """What was promised, and what was found of it; of what is only counted, what was found."""
        findings = self.result.verdict.findings
        checks = []
        for name, effect in {**OUTCOMES, **FINDINGS}.items():
            here = [each for each in findings if each.name == name]
            if here or effect is Effect.FAILS:
                checks.append(_check(name.value, here))
        for limit in self.result.limits:
            mark = _MARKS[limit.outcome.value]
            where = f" of {limit.queue}" if limit.queue else ""
            checks.append(Check(f"{limit.limit}{where}", mark, milliseconds_text(limit.ms)))
        return checks

    @property
    def dead_letters(self) -> bool:
        """Whether any queue gets dead letters of another, or its own."""
        return any(each.asked.get("dead_letters_of") for each in self.record.queues)

    @property
    def sums(self) -> dict[str, QueueSum]:
        """What became of the confirmed messages, of each queue that gets them."""
        gets_all = {each.name for each in self.record.queues if each.gets_all}
        return {name: queue.sum for name, queue in self.result.queues.items() if name in gets_all}

    # --- charts ---------------------------------------------------------------------------------

    @cached_property
    def samples(self) -> list[Sample]:
        """The broker's own figures, as they were taken."""
        return read_samples(self.record.directory.path)

    @cached_property
    def axis(self) -> TimeAxis:
        """The time of the run, the same on all charts."""
        return time_axis(self.record, self.samples)

    @cached_property
    def bands(self) -> list[Band]:
        """When faults lasted, and when the node was away."""
        second = self.axis.second
        bands = []
        events = list(self.record.of(FaultEvent))
        for number in dict.fromkeys(each.own for each in events):
            mine = [each for each in events if each.own == number]
            begin, end = mine[0], mine[-1]
            bands.append(Band(second(begin.time_ns), second(end.time_ns), begin.fault))
        faults = list(bands)
        for restart in self.facts.restarts:
            begin_s, end_s = second(restart.after_ns), second(restart.before_ns)
            if not any(each.begin_s <= end_s and begin_s <= each.end_s for each in faults):
                bands.append(Band(begin_s, end_s, "restarted", "restart"))
        return bands

    @cached_property
    def marked(self) -> list[Band]:
        """The bands, and the moments at which anybody was interrupted."""
        moments = {
            round(self.axis.second(each.time_ns), 1)
            for each in self.result.events
            if each.kind == "interruption"
        }
        shown = sorted(moments)[:_MOST_MOMENTS]
        return [*self.bands, *(Band(at, at, "", "interruption") for at in shown)]

    @cached_property
    def over_time(self) -> list[Chart]:
        """Rates, queue depth and memory over time."""
        axis, record = self.axis, self.record
        broker = figures(record, axis, self.samples)
        charts = [
            lines(
                "Messages a second",
                rates(record, axis, self.samples),
                axis.seconds,
                self.bands,
                "/s",
            ),
            lines("Messages in the queues", broker["depth"], axis.seconds, self.marked, ""),
            lines("Memory", broker["memory"], axis.seconds, self.marked, "MiB"),
        ]
        return [each for each in charts if each is not None]

    @cached_property
    def latencies(self) -> list[Chart]:
        """The percentile curve, and how each latency is spread over time."""
        known = {name: latency for name, latency in self.latency_rows}
        found = {name: each for name, each in curves(self.record).items() if name in known}
        curve = percentiles(
            "Latency by percentile",
            found,
            {name: known[name].missing for name in found},
            [("share", *found), *_shares([known[name] for name in found])],
        )
        spread = [
            density(f"Latency over time: {each.name}", each, self.axis.seconds, self.bands)
            for each in densities(self.record, self.axis)
        ]
        return [curve, *spread] if curve is not None else spread

    @property
    def let_go_note(self) -> str:
        """How much of the evidence the charts of latencies have no more; empty: they have all."""
        gone = sum(
            int(each.ledger.let_go.segments["rows"].clip(0).sum())
            for each in self.record.producers
            if each.ledger.let_go is not None
        )
        if not gone:
            return ""
        return (
            f"Of {gone:,} messages the evidence was let go: the charts over time are without them."
        )

    @property
    def latency_rows(self) -> list[tuple[str, Percentiles]]:
        """Each latency by its name, and the producers' own lag."""
        result = self.result
        known = [("confirm", result.confirm_latency)]
        for name, queue in result.queues.items():
            known += [
                (f"delivery from {name}", queue.delivery_latency),
                (f"acknowledgement to {name}", queue.acknowledge_latency),
            ]
        rows: list[tuple[str, Percentiles]] = [
            (name, latency) for name, latency in known if latency is not None
        ]
        if result.lag is not None:
            rows.append(("the producers' own lag", result.lag))
        return rows

    @property
    def lagless_rows(self) -> list[tuple[str, Percentiles]]:
        """Each latency without the producers' own lag, where that is known."""
        rows = ((name, getattr(each, "without_lag", None)) for name, each in self.latency_rows)
        return [(name, each) for name, each in rows if each is not None]

    @property
    def some_never(self) -> bool:
        """Whether a percentile is beyond all messages that came."""
        return any(each.p9999_ms is None for _, each in self.latency_rows)

    @cached_property
    def ticks(self) -> Sequence[Tick]:
        """The time axis beneath the lines of the workers."""
        return Linear(0.0, max(self.axis.seconds, 0.001)).ticks(8)

    @cached_property
    def placed_bands(self) -> list[Bar]:
        """The bands behind the lines of the workers."""
        return placed(self.bands, Linear(0.0, max(self.axis.seconds, 0.001)))

    @cached_property
    def rows(self) -> list[Row]:
        """A line for each producer and consumer, and one for each finding."""
        consumers = [each for queue in self.record.queues for each in queue.consumers]
        workers: list[ProducerRecord | ConsumerRecord] = [*self.record.producers, *consumers]
        rows = [self._row(each) for each in workers[:_MOST_ROWS]]
        return [*rows, *(self._row_of(each) for each in self.result.verdict.findings)]

    @property
    def rows_left_out(self) -> str:
        """Who has no line, in words; empty where everybody has one."""
        consumers = sum(len(queue.consumers) for queue in self.record.queues)
        more = len(self.record.producers) + consumers - _MOST_ROWS
        return f"{counted(more, 'more worker')}." if more > 0 else ""

    def _row(self, worker: ProducerRecord | ConsumerRecord) -> Row:
        closed = {each.number: each.time_ns for each in worker.of(ChannelClosed)}
        broken = {each.channel: each.at_ns for each in breaks_of(worker)}
        ended = worker.end
        last_ns = ended.time_ns if ended else worker.ledger.last_ns
        bars: list[Bar] = []
        for each in worker.of(ChannelOpened):
            end_ns = closed.get(each.number) or broken.get(each.number) or last_ns
            kind = "broken" if each.number in broken else "open"
            begin, end = self._at(each.time_ns), self._at(end_ns)
            if bars and bars[-1].kind == kind and end - bars[-1].begin < _LEAST_BAR:
                bars[-1] = Bar(bars[-1].begin, end, kind, f"channels up to {each.number}, {kind}")
            else:
                bars.append(Bar(begin, end, kind, f"channel {each.number}, {kind}"))
        marks = [
            Mark(self._at(each.time_ns), "interrupted", each.why)
            for each in list(worker.of(Interrupted))[:_MOST_MARKS]
        ]
        return Row(worker.name, bars, marks)

    def _row_of(self, finding: Finding) -> Row:
        """Return when the messages of a finding were sent: those that are told of, and others."""
        where = f" in {finding.queue}" if finding.queue else ""
        sent_ns = self.facts.concerned_sent_ns(finding)
        marks = []
        if sent_ns is not None:
            seconds = (sent_ns[sent_ns > 0] - self.axis.start_ns) / 1e9
            places = np.unique(np.round(seconds / self.axis.seconds, 3)).tolist()
            every = -(-len(places) // _MOST_MARKS) or 1
            marks = [Mark(at, finding.effect.value, finding.name.value) for at in places[::every]]
        for message in finding.messages:
            if message.sent_ns and message.sequence is not None:
                link = self._link(message.producer, message.sequence)
                marks.append(
                    Mark(self._at(message.sent_ns), finding.effect.value, str(message), link)
                )
        return Row(f"{finding.count:,} {finding.name}{where}", (), marks)

    def _at(self, time_ns: int) -> float:
        return min(max(self.axis.second(time_ns) / self.axis.seconds, 0.0), 1.0)

    # --- findings -------------------------------------------------------------------------------

    @property
    def explanations(self) -> tuple[Explanation, ...]:
        """What each finding means, and what would settle each open reason."""
        return self.result.verdict.explanations

    @property
    def allowed(self) -> list[Explanation]:
        """Those of findings that are allowed."""
        return [each for each in self.explanations if _is_allowed(each)]

    @property
    def not_allowed(self) -> list[Explanation]:
        """Those of findings that are not, and of open reasons."""
        return [each for each in self.explanations if not _is_allowed(each)]

    @cached_property
    def lives(self) -> list[tuple[str, Life]]:
        """The lives of the messages that findings name, each with its id on the page."""
        found: dict[str, Life] = {}
        for finding in self.result.verdict.findings:
            for message in finding.messages:
                if message.sequence is None or len(found) >= _MOST_LIVES:
                    continue
                link = self._link(message.producer, message.sequence)
                if link not in found:
                    name = f"{message.producer}:{message.sequence}"
                    with suppress(RmqbenchError):  # a number that no producer was given
                        found[link] = life_of(self.facts, which_message(self.facts, name))
        return list(found.items())

    def link_of(self, producer: int | None, sequence: int | None) -> str:
        """Return the id of a message's life on the page; empty where it is not told."""
        link = self._link(producer, sequence)
        return link if any(link == each for each, _ in self.lives) else ""

    def _link(self, producer: int | None, sequence: int | None) -> str:
        return f"run-{self.number}-message-{producer}-{sequence}"

    # --- what was asked, of what ----------------------------------------------------------------

    @cached_property
    def asked(self) -> list[tuple[str, str]]:
        """What was asked for, and where it ran: names and values."""
        record, result = self.record, self.result
        description = record.description
        rows = [
            ("run", result.run),
            ("began", self.began),
            ("RabbitMQ", f"{result.broker.get('version')} ({result.broker.get('how')})"),
            ("address", str(result.broker.get("endpoint"))),
            ("machine", str(description.get("platform", ""))),
            *((name, str(value)) for name, value in dict(description.get("versions", {})).items()),
            ("memory of all our processes", f"{result.peak_rss_mib:,.0f} MiB"),
        ]
        scenario = dict(result.scenario)
        queues = scenario.pop("queues", [])
        rows += [
            (name, _plain(value)) for name, value in scenario.items() if value not in (None, [])
        ]
        for queue, asked in zip(record.queues, queues, strict=False):
            settings = {**asked, "arguments": queue.arguments}
            rows.append((f"queue {queue.name}", _plain(settings)))
        return rows

    @property
    def command(self) -> str:
        """The line that does the run again; empty where no line does."""
        return run_again(self.record.description, publish_again=False)

    @property
    def judge_command(self) -> str:
        """The line that judges the run again."""
        return shlex.join(["rmqbench", "judge", str(self.result.directory)])

    def moment_text(self, time_ns: int) -> str:
        """Return a moment as a time of day, and in seconds from the start."""
        return f"{time_of_day(time_ns, 3)} ({self.axis.second(time_ns):+.3f} s)"


_MARKS = {"PASS": "✓", "FAIL": "✗", "INCONCLUSIVE": "?"}
_MARK_OF = {Effect.FAILS: "✗", Effect.ALLOWED: "✓", Effect.INCONCLUSIVE: "?"}


def _check(name: str, findings: Sequence[Finding]) -> Check:
    if not findings:
        return Check(name, "✓", "none")
    effects = {each.effect for each in findings}
    worst = next(
        each for each in (Effect.FAILS, Effect.INCONCLUSIVE, Effect.ALLOWED) if each in effects
    )
    said = ", ".join(
        f"{each.count:,}"
        + (f" in {each.queue}" if each.queue else "")
        + (f" ({each.effect})" if each.effect is not Effect.FAILS else "")
        for each in findings
    )
    return Check(name, _MARK_OF[worst], said)


def _shares(latencies: Sequence[Percentiles]) -> list[Sequence[str]]:
    """Return the percentiles of some latencies, a row for each share of the messages."""
    names = {
        "50%": "p50_ms",
        "90%": "p90_ms",
        "95%": "p95_ms",
        "99%": "p99_ms",
        "99.9%": "p999_ms",
        "99.99%": "p9999_ms",
    }
    rows = [
        (share, *(milliseconds_text(getattr(each, name)) for each in latencies))
        for share, name in names.items()
    ]
    return [*rows, ("longest that came", *(milliseconds_text(each.max_ms) for each in latencies))]


def _is_allowed(explanation: Explanation) -> bool:
    return explanation.finding is not None and explanation.finding.effect is Effect.ALLOWED


def _messages(count: int) -> str:
    return f"{count:,} message{'' if count == 1 else 's'}"


def _plain(value: object) -> str:
    """Return a value as a person reads it: no quotes around a text, JSON for the rest."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
