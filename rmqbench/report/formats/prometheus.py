"""Prometheus' text format: a file for the node exporter, or a body for a push gateway.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rmqbench.results.latencies import Percentiles
from rmqbench.results.result import Result

__all__ = ["prometheus"]

_OUTCOMES = ("PASS", "FAIL", "INCONCLUSIVE")
_QUANTILES = {
    "0.5": "p50_ms",
    "0.9": "p90_ms",
    "0.95": "p95_ms",
    "0.99": "p99_ms",
    "0.999": "p999_ms",
    "0.9999": "p9999_ms",
    "1": "max_ms",
}


@dataclass
class _Metric:
    """A gauge: what it is, and a value for each set of labels."""

    what: str
    samples: list[tuple[Mapping[str, str], float]] = field(default_factory=list)


def prometheus(results: Sequence[tuple[str, Result]]) -> str:
    """Return what is known of runs as gauges; ``results`` are pairs of a title and a result.

    All have the labels ``scenario``, ``run`` (the title) and ``rabbitmq`` (the version).
    """
    metrics = {
        "rmqbench_outcome": _Metric("Whether a run had this outcome."),
        "rmqbench_messages": _Metric("Messages that were to be published."),
        "rmqbench_confirmed": _Metric("Messages that the broker confirmed."),
        "rmqbench_findings": _Metric("How often something was found; queue is empty of publishes."),
        "rmqbench_publish_rate": _Metric("Messages confirmed a second."),
        "rmqbench_consume_rate": _Metric("Messages consumed a second."),
        "rmqbench_latency_seconds": _Metric("Latency; quantile is among all that were due."),
        "rmqbench_latency_missing": _Metric("Messages that were due, and took longer than any."),
        "rmqbench_peak_memory_bytes": _Metric("The most memory of all our processes together."),
    }
    for title, result in results:
        labels = {
            "scenario": str(result.scenario.get("name", "")),
            "run": title or result.run,
            "rabbitmq": str(result.broker.get("version", "")),
        }
        for name, more, value in _samples(result):
            metrics[name].samples.append(({**labels, **more}, value))
    return "".join(f"{line}\n" for name, each in metrics.items() for line in _lines(name, each))


def _samples(result: Result) -> Iterator[tuple[str, Mapping[str, str], float]]:
    for outcome in _OUTCOMES:
        yield "rmqbench_outcome", {"outcome": outcome}, float(result.outcome.value == outcome)
    yield "rmqbench_messages", {}, result.messages
    yield "rmqbench_confirmed", {}, result.confirmed
    for finding in result.verdict.findings:
        labels = {"finding": finding.name.value, "queue": finding.queue or ""}
        yield "rmqbench_findings", labels, finding.count
    yield "rmqbench_publish_rate", {}, result.publish.rate_per_s
    yield from _latency(result.confirm_latency, {"latency": "confirm", "queue": ""})
    for name, queue in result.queues.items():
        yield "rmqbench_consume_rate", {"queue": name}, queue.consume.rate_per_s
        yield from _latency(queue.delivery_latency, {"latency": "delivery", "queue": name})
        yield from _latency(queue.acknowledge_latency, {"latency": "acknowledge", "queue": name})
    yield from _latency(result.lag, {"latency": "lag", "queue": ""})
    yield "rmqbench_peak_memory_bytes", {}, result.peak_rss_mib * 2**20


def _latency(
    latency: Percentiles | None, labels: Mapping[str, str]
) -> Iterator[tuple[str, Mapping[str, str], float]]:
    if latency is None:
        return
    for quantile, name in _QUANTILES.items():
        value: float | None = getattr(latency, name)
        seconds = float("inf") if value is None else value / 1000
        yield "rmqbench_latency_seconds", {**labels, "quantile": quantile}, seconds
    yield "rmqbench_latency_missing", labels, latency.missing


def _lines(name: str, metric: _Metric) -> Iterator[str]:
    if not metric.samples:
        return
    yield f"# HELP {name} {metric.what}"
    yield f"# TYPE {name} gauge"
    for labels, value in metric.samples:
        said = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        yield f"{name}{{{said}}} {_number(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return "+Inf" if value == float("inf") else repr(float(value)).removesuffix(".0")
