"""Run a campaign: one run after the other, and what became of each is written down at once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime

from rmqbench.broker import Broker
from rmqbench.campaign.brokers import OpenBroker
from rmqbench.campaign.directory import CampaignDirectory
from rmqbench.campaign.plan import Campaign, PlannedRun
from rmqbench.campaign.result import CampaignResult, RunOutcome, RunState
from rmqbench.runner.executor import opened_executor
from rmqbench.runner.run import Progress, run

__all__ = ["Following", "run_campaign"]

Watch = Callable[[Progress], None]
Following = Callable[[PlannedRun, Broker], AbstractContextManager[Watch]]
"""Yields, around a run, what is called with its progress."""


@contextmanager
def _unfollowed(_run: PlannedRun, _broker: Broker) -> Iterator[Watch]:
    yield lambda _: None


def run_campaign(
    campaign: Campaign,
    *,
    directory: str | os.PathLike[str] | None = None,
    resume: bool = False,
    fail_fast: bool = False,
    say: Callable[[str], None] = lambda _: None,
    opened: Callable[[Broker], None] = lambda _: None,
    following: Following = _unfollowed,
    changed: Callable[[CampaignResult, RunOutcome | None], None] = lambda result, last: None,
) -> CampaignResult:
    """Do all runs of a campaign, and return what came of them.

    The evidence is kept in ``directory`` (None: a new one among the user's runs). With ``resume``
    it may hold a campaign: runs that came to a verdict there are not repeated; what was
    interrupted, or ended with an error, is begun anew. With ``fail_fast`` the first run that does
    not pass is the last.

    A run that does not pass, and a broker that cannot be opened, are in the result and not raised.
    ``say`` is called with a line when something slow begins, ``opened`` with each broker,
    ``following`` makes what watches a run, and ``changed`` is called with the result so far: at
    first, and with each run that has ended, also by Ctrl-C.

    Raise UsageError for a directory that cannot be used.
    """
    with (
        CampaignDirectory.opened(directory, campaign, resume=resume) as place,
        OpenBroker(say, opened) as brokers,
    ):
        changed(place.result(), None)
        for planned in campaign.runs:
            if place.outcome(planned).has_verdict:
                continue
            try:
                outcome = _run(planned, place, brokers, following)
            except (KeyboardInterrupt, SystemExit):
                state, why = (
                    RunState.INTERRUPTED,
                    "It was interrupted, and --resume begins it anew.",
                )
                outcome = RunOutcome.of(planned, state=state, why=why)
                place.note(outcome)
                changed(place.result(), outcome)
                raise
            place.note(outcome)
            changed(place.result(), outcome)
            if fail_fast and outcome.exit_code:
                break
        return place.result()


def _run(
    planned: PlannedRun, place: CampaignDirectory, brokers: OpenBroker, following: Following
) -> RunOutcome:
    began, at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", time.monotonic()
    try:
        directory = place.room_for(planned)
        broker = brokers.get(planned.broker)
        at = time.monotonic()
        with opened_executor(planned.executor) as executor, following(planned, broker) as watch:
            result = run(
                planned.scenario,
                broker,
                directory=directory,
                in_place=planned.in_place,
                watch=watch,
                executor=executor,
            )
    except Exception as error:  # whatever it is, it is no reason to leave out the other runs
        brokers.close()
        return RunOutcome.failed(planned, error, began, time.monotonic() - at)
    if planned.scenario.faults and not result.verdict.passed:
        brokers.close()  # the fault may have left something behind
    return RunOutcome.judged(planned, result, began, time.monotonic() - at)
