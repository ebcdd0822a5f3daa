"""Campaigns without a broker: what is planned, and results as a run would have them."""

from pathlib import Path

import rmqbench
from rmqbench.campaign import Campaign
from rmqbench.results.metrics import Throughput
from rmqbench.results.result import QueueFigures, Result
from rmqbench.results.sums import QueueSum
from rmqbench.verdict.findings import (
    Effect,
    Finding,
    FindingName,
    Judgement,
    Verdict,
)

LOST = Verdict(
    Judgement.FAIL,
    (Finding(FindingName.LOST, 3, Effect.FAILS, "work.queue"),),
    reasons=("3 lost in work.queue",),
)
UNKNOWN = Verdict(Judgement.FAIL, (Finding(FindingName.UNSENT, 3, Effect.FAILS),))
OPEN = Verdict(Judgement.INCONCLUSIVE, reasons=("The evidence is gone.",))
PASSED = Verdict(Judgement.PASS)


def a_campaign(**tables):
    """Return a campaign of some runs on two brokers."""
    tables = {"scenario": "reliability", "broker": "local", **tables}
    return Campaign.of(tables, name="nightly", environment={})


def a_result(verdict=PASSED, *, rate=1000.0, directory="/nowhere"):
    """Return what came of a run, of whatever scenario."""
    figures = Throughput(10, 1.0, rate, 1.0)
    return Result(
        run="0",
        scenario=rmqbench.reliability().as_dict(),
        broker={"version": "4.3.6", "endpoint": "amqp://here", "how": "a stand-in"},
        verdict=verdict,
        messages=10,
        confirmed=10,
        queues={"work.queue": QueueFigures({}, 10, 0, QueueSum(10, 10, *[0] * 5), 10, 0, figures)},
        publish=figures,
        confirm_latency=None,
        peak_rss_mib=1.0,
        directory=Path(directory),
    )
