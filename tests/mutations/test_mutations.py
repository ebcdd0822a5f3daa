"""Each check of the verifier is switched off in turn: some test must fail for each.

A check that can be switched off unnoticed is one that nobody would miss if it broke. Each
mutation is made in a copy of the package, on which the one test runs that is to notice it; the
same tests pass on an unchanged copy.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial

import pytest

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
pytestmark = [
    pytest.mark.mutation,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]


@dataclass(frozen=True)
class Mutation:
    """One check switched off, and the test that notices.

    ``name`` says what goes unseen. ``original`` stands exactly once in the source of ``module``.
    """

    module: str
    file: str
    name: str
    original: str
    mutated: str
    noticed_by: str

    @property
    def selection(self) -> tuple[str, ...]:
        """What is run on the changed copy."""
        return (f"tests/{self.file}::{self.noticed_by}",)


@dataclass(frozen=True)
class Plain:
    """Any change, or none at all, and any tests."""

    selection: tuple[str, ...]
    module: str = "rmqbench.verdict.rules"
    original: str = ""
    mutated: str = ""


verdict = partial(Mutation, "rmqbench.verdict.rules", "unit/test_verdict.py")
ledger = partial(Mutation, "rmqbench.verdict.ledger", "unit/test_ledger.py")
message = partial(Mutation, "rmqbench.message", "unit/test_message.py")
frames = partial(Mutation, "rmqbench.amqp.vector", "unit/test_frames.py")
consumer = partial(Mutation, "rmqbench.clients.consumer", "unit/test_consumer_evidence.py")
subscriber = partial(Mutation, "rmqbench.clients.subscriber", "unit/test_consumer_evidence.py")
subscriber_alone = partial(Mutation, "rmqbench.clients.subscriber", "unit/test_subscriber.py")
taker = partial(Mutation, "rmqbench.clients.taker", "unit/test_taker.py")
producer = partial(Mutation, "rmqbench.clients.producer", "unit/test_producer_settling.py")
drain = partial(Mutation, "rmqbench.runner.drain", "unit/test_drain.py")
disturbance = partial(Mutation, "rmqbench.faults.disturbance", "unit/test_disturbance.py")
faults = partial(Mutation, "rmqbench.faults.injection", "unit/test_disturbance.py")
strikes = partial(Mutation, "rmqbench.faults.effects", "unit/test_disturbance.py")
topology = partial(Mutation, "rmqbench.amqp.topology", "unit/test_disturbance.py")


def effect(name: str, noticed_by: str) -> Mutation:
    """Make a finding that fails an allowed one."""
    return verdict(f"{name} fails", f'"{name}": "fails"', f'"{name}": "allowed"', noticed_by)


def outcome(name: str, original: str, case: str) -> Mutation:
    """Have one outcome of a publish never be one."""
    test = f"test_each_outcome_but_confirmed_fails_unless_it_is_expected[{case}]"
    return verdict(f"the outcome {name}", original, f"({original}) & False", test)


def property_of_a_message(name: str) -> Mutation:
    """Have one property not be compared."""
    return message(
        f"the property {name}",
        "            if received != value:\n",
        f'            if received != value and name != "{name}":\n',
        f"test_every_changed_property_is_a_difference[{name}]",
    )


OUTCOMES = [
    ("nacked", "5-nacked"),
    ("returned", "11-returned"),
    ("indeterminate", "1-indeterminate"),
    ("unsent", "0-unsent"),
]

JUDGED = [
    # What a finding does to the verdict.
    *(
        effect(name, f"test_each_outcome_but_confirmed_fails_unless_it_is_expected[{case}]")
        for name, case in OUTCOMES
    ),
    effect("lost", "test_confirmed_and_never_delivered_is_lost_and_named"),
    effect("removed", "test_a_cause_that_the_run_recorded_turns_lost_into_removed"),
    effect("duplicate", "test_again_without_the_flag_is_a_duplicate_each_time"),
    effect("reordered", "test_reordered_is_judged_for_an_only_consumer"),
    *(
        effect(name, f"test_what_a_consumer_reported_is_found[{name}-True]")
        for name in ("corrupted", "misrouted", "phantom", "redelivered after ack")
    ),
    verdict(
        "a failing finding fails",
        "    if failing:\n",
        "    if False:\n",
        "test_again_without_the_flag_is_a_duplicate_each_time",
    ),
    verdict(
        "a failing finding outranks inconclusive",
        '    if failing:\n        outcome = "FAIL"\n'
        '    elif open_questions:\n        outcome = "INCONCLUSIVE"\n',
        '    if open_questions:\n        outcome = "INCONCLUSIVE"\n'
        '    elif failing:\n        outcome = "FAIL"\n',
        "test_a_failing_finding_outranks_inconclusive",
    ),
    verdict(
        "missing evidence is inconclusive",
        "        *evidence.missing,\n",
        "",
        "test_missing_evidence_is_inconclusive",
    ),
    verdict(
        "a queue that was not drained is inconclusive",
        "            if not q.drain.proven\n",
        "            if False\n",
        "test_nothing_is_lost_before_the_drain_is_proven",
    ),
    verdict(
        "each queue is asked for its drain",
        "            for q in evidence.queues\n            if not q.drain.proven\n",
        "            for q in evidence.queues[:1]\n            if not q.drain.proven\n",
        "test_one_drained_queue_does_not_speak_for_the_other",
    ),
    verdict(
        "inconclusive is never a pass",
        "        if not self.passed:\n",
        '        if self.outcome == "FAIL":\n',
        "test_nothing_is_lost_before_the_drain_is_proven",
    ),
    verdict(
        "the exit code of inconclusive",
        '"INCONCLUSIVE": 3',
        '"INCONCLUSIVE": 0',
        "test_nothing_is_lost_before_the_drain_is_proven",
    ),
    verdict(
        "only what is expected is allowed",
        "or finding.name not in allowed:",
        "or not allowed:",
        "test_delivered_although_never_sent_is_a_phantom",
    ),
    verdict(
        "what is expected is allowed",
        "or finding.name not in allowed:",
        "or True:",
        "test_a_cause_that_the_run_recorded_turns_lost_into_removed",
    ),
    verdict(
        "an expectation has a name that there is",
        "    if unknown:\n",
        "    if False:\n",
        "test_there_is_a_number_for_every_name",
    ),
    # Outcomes of a publish.
    outcome("nacked", "(state & NACKED != 0) & ~returned", "5-nacked"),
    outcome("returned", "state & RETURNED != 0", "11-returned"),
    verdict(
        "the outcome indeterminate",
        "sent & ~returned & ~nacked & ~confirmed,",
        "sent & False,",
        "test_each_outcome_but_confirmed_fails_unless_it_is_expected[1-indeterminate]",
    ),
    verdict(
        "the outcome unsent",
        '"unsent": ~sent,',
        '"unsent": sent & False,',
        "test_each_outcome_but_confirmed_fails_unless_it_is_expected[0-unsent]",
    ),
    verdict(
        "returned and then acked is not confirmed",
        "(state & CONFIRMED != 0) & ~returned & ~nacked",
        "(state & CONFIRMED != 0) & ~nacked",
        "test_each_outcome_but_confirmed_fails_unless_it_is_expected[11-returned]",
    ),
    verdict(
        "nacked and acked is not confirmed",
        "(state & CONFIRMED != 0) & ~returned & ~nacked",
        "(state & CONFIRMED != 0) & ~returned",
        "test_each_outcome_but_confirmed_fails_unless_it_is_expected[7-nacked]",
    ),
    verdict(
        "the count of an outcome",
        "            len(where),\n            OUTCOMES[name],\n",
        "            0,\n            OUTCOMES[name],\n",
        "test_each_outcome_but_confirmed_fails_unless_it_is_expected[0-unsent]",
    ),
    # Lost, removed, and what became of publishes that are not confirmed.
    verdict(
        "what is confirmed and missing",
        'missing = outcomes["confirmed"] & ~seen.delivered',
        'missing = outcomes["confirmed"] & False',
        "test_confirmed_and_never_delivered_is_lost_and_named",
    ),
    verdict(
        "lost",
        "count=total - removed",
        "count=0",
        "test_confirmed_and_never_delivered_is_lost_and_named",
    ),
    verdict(
        "lost, where nothing at all arrived",
        "    missing = outcomes",
        "    missing = seen.delivered.any() & outcomes",
        "test_a_loss_is_placed_at_the_start_in_the_middle_or_at_the_end[places4-all of what was "
        "sent]",
    ),
    verdict(
        "lost, the last message",
        'outcomes["confirmed"] & ~seen.delivered\n',
        'outcomes["confirmed"] & ~seen.delivered\n    missing[-1] = False\n',
        "test_a_loss_is_placed_at_the_start_in_the_middle_or_at_the_end[places2-1 at the end]",
    ),
    verdict(
        "nothing is lost before the drain is proven",
        "    if queue.routed and queue.drain.proven:\n",
        "    if queue.routed:\n",
        "test_nothing_is_lost_before_the_drain_is_proven",
    ),
    verdict(
        "nothing is lost by a queue that no binding leads to",
        "    if queue.routed and queue.drain.proven:\n",
        "    if queue.drain.proven:\n",
        "test_all_of_the_run_in_a_queue_that_no_binding_leads_to_is_misrouted",
    ),
    verdict(
        "where a loss is",
        "start, end = start + before, end + behind",
        "start, end = start, end + behind",
        "test_a_loss_is_placed_at_the_start_in_the_middle_or_at_the_end[places0-2 at the start]",
    ),
    verdict(
        "removed",
        "removed = min(total, _removable(queue.removals, total))",
        "removed = 0",
        "test_a_cause_that_the_run_recorded_turns_lost_into_removed",
    ),
    verdict(
        "removed is a finding",
        "count=removed, detail=causes",
        "count=0, detail=causes",
        "test_a_cause_that_the_run_recorded_turns_lost_into_removed",
    ),
    verdict(
        "a cause removes no more than its bound",
        "most if removal.at_most is None else removal.at_most",
        "most",
        "test_what_is_missing_beyond_what_the_causes_can_have_removed_is_lost[bounds1-expected1]",
    ),
    verdict(
        "a cause without a bound removes any number",
        "most if removal.at_most is None else removal.at_most",
        "removal.at_most or 0",
        "test_what_is_missing_beyond_what_the_causes_can_have_removed_is_lost[bounds5-expected5]",
    ),
    verdict(
        "no more is removed than is missing",
        "removed = min(total, _removable(queue.removals, total))",
        "removed = _removable(queue.removals, total)",
        "test_what_is_missing_beyond_what_the_causes_can_have_removed_is_lost[bounds3-expected3]",
    ),
    verdict(
        "survived",
        '"survived", outcomes["indeterminate"] & seen.delivered',
        '"survived", outcomes["indeterminate"] & False',
        "test_an_indeterminate_publish_survives_or_vanishes",
    ),
    verdict(
        "vanished",
        '"vanished", outcomes["indeterminate"] & ~seen.delivered',
        '"vanished", outcomes["indeterminate"] & False',
        "test_an_indeterminate_publish_survives_or_vanishes",
    ),
    verdict(
        "nothing has vanished before the drain is proven",
        '        if queue.drain.proven:\n            yield find("vanished"',
        '        if True:\n            yield find("vanished"',
        "test_nothing_has_vanished_before_the_drain_is_proven",
    ),
    verdict(
        "nacked but delivered",
        'outcomes["nacked"] & seen.delivered',
        'outcomes["nacked"] & False',
        "test_nacked_and_delivered_all_the_same_is_counted",
    ),
    # Delivered again.
    verdict(
        "duplicate",
        'find("duplicate", duplicates > 0, duplicates)',
        'find("duplicate", duplicates < 0, duplicates)',
        "test_again_without_the_flag_is_a_duplicate_each_time",
    ),
    verdict(
        "each duplicate is counted",
        'find("duplicate", duplicates > 0, duplicates)',
        'find("duplicate", duplicates > 0)',
        "test_again_without_the_flag_is_a_duplicate_each_time",
    ),
    verdict(
        "published twice by us is no duplicate",
        "twice = (state & SENT_AGAIN != 0) & (seen.unflagged_again > 0)",
        "twice = (state & SENT_AGAIN != 0) & False",
        "test_we_published_it_twice_so_twice_is_right_and_thrice_is_not",
    ),
    verdict(
        "published twice by us and come thrice is a duplicate",
        "duplicates = seen.unflagged_again - twice",
        "duplicates = seen.unflagged_again * ~twice",
        "test_we_published_it_twice_so_twice_is_right_and_thrice_is_not",
    ),
    verdict(
        "redelivered",
        'find("redelivered", seen.flagged_again > 0, seen.flagged_again)',
        'find("redelivered", seen.flagged_again < 0, seen.flagged_again)',
        "test_again_with_the_flag_is_redelivered_and_allowed",
    ),
    verdict(
        "the flag on a first delivery is no redelivery",
        "flagged_again=flagged - (delivered & first_flagged)",
        "flagged_again=flagged",
        "test_the_flag_on_a_first_delivery_is_no_finding",
    ),
    verdict(
        "first with the flag and then without is a duplicate",
        "total - flagged - (delivered & ~first_flagged)",
        "total - flagged - delivered",
        "test_first_with_the_flag_and_again_without_is_a_duplicate",
    ),
    verdict(
        "who had it first is told by the time",
        "here & (consumer.first_ns < first_ns)",
        "here",
        "test_between_consumers_the_later_one_had_it_again",
    ),
    verdict(
        "deliveries to all consumers are added up",
        "            total += consumer.delivered\n",
        "            total = np.maximum(total, consumer.delivered)\n",
        "test_between_consumers_the_later_one_had_it_again",
    ),
    verdict(
        "redelivered after ack, as a consumer reported it",
        "lambda incident: _sent_once(evidence, incident)",
        "lambda incident: False",
        "test_what_a_consumer_reported_is_found[redelivered after ack-True]",
    ),
    verdict(
        "redelivered after ack, to another consumer",
        "seen.after_ack & once",
        "seen.after_ack & False",
        "test_again_elsewhere_after_an_ack_on_a_channel_closed_in_order_is_a_finding",
    ),
    verdict(
        "published twice, reported as redelivered after ack",
        "lambda incident: _sent_once(evidence, incident)",
        "lambda incident: True",
        "test_of_what_was_published_twice_the_other_copy_may_have_been_acknowledged",
    ),
    verdict(
        "published twice, redelivered to another consumer",
        "seen.after_ack & once",
        "seen.after_ack",
        "test_of_what_was_published_twice_the_other_copy_may_have_been_acknowledged",
    ),
    verdict(
        "received twice, acknowledged once",
        "done = consumer.delivered == 1",
        "done = consumer.delivered > 0",
        "test_of_what_one_consumer_received_twice_it_is_not_known_which_it_acknowledged",
    ),
    verdict(
        "a flag counts with its delivery only",
        "np.where(here, consumer.redelivered & ~np.uint8(FIRST_REDELIVERED), 0)",
        "consumer.redelivered & ~np.uint8(FIRST_REDELIVERED)",
        "test_a_flag_without_its_delivery_hides_no_duplicate",
    ),
    verdict(
        "an ack counts only where its channel was closed in order",
        "np.isin(consumer.acked, np.asarray(consumer.closed_channels, np.uint8))",
        "consumer.acked > 0",
        "test_again_elsewhere_after_an_ack_on_a_channel_closed_in_order_is_a_finding",
    ),
    verdict(
        "after its ack is later than it",
        " & (other.first_ns > consumer.first_ns)",
        "",
        "test_what_came_elsewhere_before_its_ack_did_not_come_after_it",
    ),
    verdict(
        "redelivered after ack has the flag",
        "again = (other.redelivered > 0)",
        "again = (other.delivered > 0)",
        "test_again_elsewhere_without_the_flag_is_a_duplicate_and_no_redelivery_after_its_ack",
    ),
    # Everything else about a queue.
    verdict(
        "phantom, as a consumer reported it",
        '_add(tell("phantom"), find("phantom", outcomes["unsent"] & seen.delivered))',
        'find("phantom", outcomes["unsent"] & seen.delivered)',
        "test_what_a_consumer_reported_is_found[phantom-True]",
    ),
    verdict(
        "phantom, delivered although never sent",
        '_add(tell("phantom"), find("phantom", outcomes["unsent"] & seen.delivered))',
        'tell("phantom")',
        "test_delivered_although_never_sent_is_a_phantom",
    ),
    verdict(
        "reordered",
        "    if queue.only_consumer:\n",
        "    if False:\n",
        "test_reordered_is_judged_for_an_only_consumer",
    ),
    verdict(
        "order is promised to an only consumer",
        "    if queue.only_consumer:\n",
        "    if True:\n",
        "test_reordered_is_judged_for_an_only_consumer",
    ),
    verdict(
        "order is promised within one publishing channel",
        "return bool(early == late)",
        "return True",
        "test_order_is_promised_within_one_publishing_channel_only",
    ),
    verdict(
        "order is promised in every publishing channel",
        "return bool(early == late)",
        "return not late",
        "test_order_is_promised_within_one_publishing_channel_only",
    ),
    verdict(
        "no order is promised to what was sent again",
        "any(producer.state[s] & SENT_AGAIN for s in pair)",
        "False",
        "test_order_is_promised_within_one_publishing_channel_only",
    ),
    verdict(
        "misrouted, as a consumer reported it",
        'yield tell("misrouted") if queue.routed else find("misrouted", seen.delivered)',
        'yield find("misrouted", seen.delivered & (not queue.routed))',
        "test_what_a_consumer_reported_is_found[misrouted-True]",
    ),
    verdict(
        "misrouted, in a queue that no binding leads to",
        'yield tell("misrouted") if queue.routed else find("misrouted", seen.delivered)',
        'yield tell("misrouted")',
        "test_all_of_the_run_in_a_queue_that_no_binding_leads_to_is_misrouted",
    ),
    verdict(
        "foreign",
        '    yield tell("foreign")\n',
        "",
        "test_what_a_consumer_reported_is_found[foreign-False]",
    ),
    verdict(
        "what comes again on another channel is counted once",
        "channels.setdefault((number, incident.channel), Counter())",
        "channels.setdefault((number, 0), Counter())",
        "test_what_is_told_again_on_the_next_channel_counts_once",
    ),
    verdict(
        "what another consumer is told again is counted once",
        "reduce(or_, channels.values(), Counter[Incident]())",
        "sum(channels.values(), Counter[Incident]())",
        "test_a_foreign_message_seen_by_one_consumer_after_the_other_counts_once",
    ),
    verdict(
        "messages that look alike on one channel are all counted",
        "channel[replace(incident, at_ns=0, channel=0)] += 1",
        "channel[replace(incident, at_ns=0, channel=0)] = 1",
        "test_a_foreign_message_seen_by_one_consumer_after_the_other_counts_once",
    ),
    verdict(
        "each redelivery after an acknowledgement is counted",
        'if name == "redelivered after ack":',
        "if False:",
        "test_each_redelivery_after_an_acknowledgement_counts",
    ),
    verdict(
        "no order is judged where the publishing channels are not known",
        "    if producer.channel_starts is None:\n        return False\n",
        "    if producer.channel_starts is None:\n        return True\n",
        "test_order_is_promised_within_one_publishing_channel_only",
    ),
    verdict(
        "corrupted",
        '    yield tell("corrupted")\n',
        "",
        "test_what_a_consumer_reported_is_found[corrupted-True]",
    ),
    verdict(
        "stuck",
        '    if not queue.drain.proven:\n        yield Finding(\n            "stuck"',
        '    if False:\n        yield Finding(\n            "stuck"',
        "test_nothing_is_lost_before_the_drain_is_proven",
    ),
    verdict(
        "stuck, with no message counted",
        "max(1, queue.drain.ready)",
        "queue.drain.ready",
        "test_a_queue_that_could_not_be_asked_is_stuck_although_no_message_was_counted",
    ),
]

RECORDED = [
    ledger(
        "a first delivery with the flag, in a burst",
        "ledger.redelivered[places[redelivered]] = FIRST_REDELIVERED | 1",
        "ledger.redelivered[places[redelivered]] = 1",
        "test_the_flag_on_a_first_delivery_is_told_from_a_second_delivery",
    ),
    ledger(
        "a first delivery with the flag, alone",
        "FIRST_REDELIVERED | 1 if redelivered else 0",
        "1 if redelivered else 0",
        "test_the_flag_on_a_first_delivery_is_kept_whether_alone_or_in_a_burst",
    ),
    ledger(
        "a second delivery",
        "            if ledger.delivered[place] < _MOST:\n",
        "            if False:\n",
        "test_a_message_twice_in_one_burst_is_delivered_twice",
    ),
    ledger(
        "a second delivery in a later burst",
        "if not ascending or ledger.delivered[places].any():",
        "if not ascending:",
        "test_a_second_delivery_in_the_middle_of_a_burst_is_counted",
    ),
    ledger(
        "a second delivery in the same burst",
        "(sequences[1:] > sequences[:-1]).all()",
        "(sequences[1:] >= sequences[:-1]).all()",
        "test_a_message_twice_in_one_burst_is_delivered_twice",
    ),
    ledger(
        "a second delivery with the flag",
        "            if redelivered and ledger.redelivered[place] & _MOST < _MOST:\n",
        "            if False:\n",
        "test_the_flag_on_a_first_delivery_is_told_from_a_second_delivery",
    ),
    ledger(
        "a second delivery without the flag",
        "            if redelivered and ledger.redelivered[place] & _MOST < _MOST:\n",
        "            if ledger.redelivered[place] & _MOST < _MOST:\n",
        "test_a_second_delivery_without_the_flag_is_never_a_redelivery",
    ),
    ledger(
        "counts end at a bound",
        "            if ledger.delivered[place] < _MOST:\n",
        "            if True:\n",
        "test_counts_stop_instead_of_starting_again_at_0",
    ),
    ledger(
        "late in a burst that ascends",
        "late = int(np.searchsorted(sequences, self._highest[producer]))",
        "late = 0",
        "test_a_lower_sequence_number_is_reordered_whether_alone_or_in_a_burst",
    ),
    ledger(
        "late in a burst that does not ascend",
        "        if sequence < self._highest[producer]:\n",
        "        if False:\n",
        "test_a_lower_sequence_number_is_reordered_whether_alone_or_in_a_burst",
    ),
    ledger(
        "a burst that does not ascend",
        "if not ascending or ledger.delivered[places].any():",
        "if ledger.delivered[places].any():",
        "test_a_lower_sequence_number_is_reordered_whether_alone_or_in_a_burst",
    ),
    ledger(
        "what was the highest stays it",
        "max(int(self._highest[producer]), int(sequences[-1]))",
        "int(sequences[-1])",
        "test_what_a_reordered_message_came_behind_is_told",
    ),
    ledger(
        "late with the flag is counted apart",
        "        if redelivered:\n            self.reordered_redeliveries += 1\n",
        "        if False:\n            self.reordered_redeliveries += 1\n",
        "test_a_lower_sequence_number_with_the_flag_is_counted_apart",
    ),
    ledger(
        "each producer has an order of its own",
        "np.full(len(counts), -1, np.int64)",
        "np.full(len(counts), 5, np.int64)",
        "test_producers_that_alternate_are_each_in_order",
    ),
    ledger(
        "a phantom is reported",
        'self.report(Incident("phantom", now_ns, int(producer), int(sequence)))',
        "pass",
        "test_a_number_that_nobody_was_given_is_a_phantom",
    ),
    ledger(
        "one number too high is a phantom",
        "known[known] = sequences[known] < self._counts[producers[known]]",
        "known[known] = sequences[known] <= self._counts[producers[known]]",
        "test_a_number_that_nobody_was_given_is_a_phantom",
    ),
    ledger(
        "the flags stay with their messages behind a phantom",
        "            redelivered = redelivered[known]\n",
        "            redelivered = redelivered[: len(producers)]\n",
        "test_phantoms_in_a_burst_leave_the_others_as_they_are",
    ),
    ledger(
        "redelivered after ack, on the same channel",
        "if redelivered and ledger.acked[place] == self.channel:",
        "if False:",
        "test_again_after_its_ack_on_the_same_channel_is_reported",
    ),
    ledger(
        "after an ack on a channel that ended it may come again",
        "if redelivered and ledger.acked[place] == self.channel:",
        "if redelivered and ledger.acked[place]:",
        "test_again_after_its_ack_on_a_channel_that_ended_is_not",
    ),
    ledger(
        "redelivered after ack has the flag",
        "if redelivered and ledger.acked[place] == self.channel:",
        "if ledger.acked[place] == self.channel:",
        "test_a_second_delivery_without_the_flag_is_never_a_redelivery",
    ),
    ledger(
        "an ack is noted with its channel",
        "self.ledger.acked[places] = self.channel",
        "self.ledger.acked[places] = 1",
        "test_again_is_told_by_the_channel_of_its_ack_also_on_later_channels",
    ),
    ledger(
        "delivered is written last, in a burst",
        "        ledger.first_ns[places] = now_ns\n        ledger.delivered[places] = 1",
        "        ledger.delivered[places] = 1\n        ledger.first_ns[places] = now_ns",
        "test_that_it_was_delivered_is_written_last",
    ),
    ledger(
        "delivered is written last, alone",
        "        ledger.first_ns[place] = now_ns\n        ledger.delivered[place] = 1",
        "        ledger.delivered[place] = 1\n        ledger.first_ns[place] = now_ns",
        "test_that_it_was_delivered_is_written_last",
    ),
    ledger(
        "a line that a crash cut off is passed over",
        '            if line.endswith(b"\\n"):\n',
        "            if True:\n",
        "test_a_line_cut_off_by_a_crash_is_passed_over",
    ),
    ledger(
        "what is written outlives its writer",
        'return cls(directory, "r+")',
        'return cls(directory, "c")',
        "test_what_was_recorded_outlives_a_killed_process",
    ),
]

RECOGNIZED = [
    message(
        "the magic of a head",
        "magic == MAGIC",
        "True",
        "test_a_head_with_a_right_checksum_is_sound_only_if_all_else_is_right[magic]",
    ),
    message(
        "the version of a head",
        "version == VERSION",
        "True",
        "test_a_head_with_a_right_checksum_is_sound_only_if_all_else_is_right[version]",
    ),
    message(
        "the run of a head",
        "run == self.run.bytes",
        "True",
        "test_a_head_with_a_right_checksum_is_sound_only_if_all_else_is_right[run]",
    ),
    message(
        "the producer of a head",
        "producer < MAX_PRODUCERS",
        "True",
        "test_a_head_with_a_right_checksum_is_sound_only_if_all_else_is_right[producer]",
    ),
    message(
        "the sequence of a head",
        "0 <= sequence <= MAX_SEQUENCE",
        "True",
        "test_a_head_with_a_right_checksum_is_sound_only_if_all_else_is_right[sequence]",
    ),
    message(
        "the checksum of a head",
        "crc == zlib.crc32(body[: HEAD_SIZE - 4])",
        "True",
        "test_a_wrong_checksum_is_a_damaged_head",
    ),
    message(
        "a body too short for a head",
        "if len(body) < HEAD_SIZE:",
        "if not body:",
        "test_a_shortened_body_is_a_difference[short]",
    ),
    message(
        "a damaged head is a difference",
        '            return "the head of the body"\n',
        "            return None\n",
        "test_every_flipped_byte_of_the_body_is_a_difference",
    ),
    message(
        "the bytes behind the head",
        "if body[HEAD_SIZE:] != self.tail:",
        "if len(body) != self.body_size:",
        "test_every_flipped_byte_of_the_body_is_a_difference",
    ),
    message(
        "bytes that were added",
        "if body[HEAD_SIZE:] != self.tail:",
        "if not body[HEAD_SIZE:].startswith(self.tail):",
        "test_a_shortened_body_is_a_difference[short]",
    ),
    *(
        property_of_a_message(name)
        for name in ("content_type", "headers", "delivery_mode", "message_id", "timestamp")
    ),
    message(
        "a property that was added",
        "            if received != value:\n",
        "            if value is not None and received != value:\n",
        "test_every_changed_property_is_a_difference[reply_to]",
    ),
    message(
        "a property that is gone",
        "            if received != value:\n",
        "            if received and received != value:\n",
        "test_a_property_that_is_gone_is_a_difference[timestamp]",
    ),
    message(
        "a header that was added",
        "if k not in BROKER_HEADERS",
        'if not k.startswith("x-")',
        "test_a_header_that_rabbitmq_adds_is_no_difference_and_any_other_is",
    ),
    message(
        "a header that RabbitMQ adds is no difference",
        "if k not in BROKER_HEADERS",
        "if True",
        "test_a_header_that_rabbitmq_adds_is_no_difference_and_any_other_is",
    ),
    message(
        "the head is asked before the message_id",
        "        sent = self.read_head(body)\n        if sent is not None:\n",
        "        sent = self.read_head(body)\n"
        "        if sent is not None and not self.read_message_id(properties.message_id):\n",
        "test_a_sound_head_under_another_message_id_is_a_difference",
    ),
    message(
        "a damaged head leaves the message_id",
        "        return self.read_message_id(properties.message_id)\n",
        "        return None\n",
        "test_a_message_is_known_by_its_head_or_else_by_its_message_id",
    ),
    message(
        "a message_id of another run",
        "if message_id != self.message_id(producer, sequence):",
        "if not message_id:",
        "test_a_strange_message_id_is_not_of_this_run",
    ),
    message(
        "a recipe computes what was received",
        "if recipe.difference(properties, body, identity) is not None:",
        "if not body:",
        "test_a_damaged_message_has_no_recipe",
    ),
    message(
        "a recipe has a sender and a host of text",
        "if not (isinstance(producer_id, str) and isinstance(host, str)):",
        "if not (producer_id and host):",
        "test_a_message_with_other_headers_has_no_recipe[a number]",
    ),
    message(
        "filling of one byte",
        "size_bytes=len(body) if content.filling_bytes else None",
        "size_bytes=len(body) if content.filling_bytes > 1 else None",
        "test_the_recipe_of_a_message_is_found[one byte of filling]",
    ),
]

ONE_SHAPE = "test_not_one_flipped_byte_of_a_delivery_passes_but_in_tag_and_flag[one]"

READ = [
    frames(
        "the last byte of a delivery",
        "received.view(np.uint8).reshape(shape)\n",
        "received.view(np.uint8).reshape(shape)\n        equal[:, -1] = True\n",
        ONE_SHAPE,
    ),
    frames(
        "the bytes behind the head",
        "received.view(np.uint8).reshape(shape)\n",
        "received.view(np.uint8).reshape(shape)\n"
        "        equal[:, self.frame_offsets[2] + 7 + HEAD_SIZE :] = True\n",
        ONE_SHAPE,
    ),
    frames(
        "the properties",
        "received.view(np.uint8).reshape(shape)\n",
        "received.view(np.uint8).reshape(shape)\n"
        "        equal[:, self.frame_offsets[1] : self.frame_offsets[2]] = True\n",
        ONE_SHAPE,
    ),
    frames(
        "the exchange and the routing key",
        "received.view(np.uint8).reshape(shape)\n",
        "received.view(np.uint8).reshape(shape)\n"
        "        equal[:, : self.frame_offsets[1]] = True\n",
        ONE_SHAPE,
    ),
    frames(
        "the checksum",
        'rows["crc"] = crc ^ self._crc_base ^ _crc_producer_shares()[producers]\n',
        'rows["crc"] = crc ^ self._crc_base ^ _crc_producer_shares()[producers] ^ 1\n',
        "test_a_publish_has_the_documented_bytes",
    ),
    frames(
        "the body frames behind the first",
        "received.view(np.uint8).reshape(shape)\n",
        "received.view(np.uint8).reshape(shape)\n"
        "        equal[:, (*self.frame_offsets, self.stride)[3] :] = True\n",
        "test_not_one_flipped_byte_of_a_delivery_passes_but_in_tag_and_flag[three]",
    ),
    frames(
        "the bits beside the flag",
        'rows["redelivered"] = received["redelivered"] & 1',
        'rows["redelivered"] = received["redelivered"]',
        "test_of_the_octet_with_the_flag_only_the_flag_may_differ[one]",
    ),
    frames(
        "the flag",
        'redelivered=received["redelivered"].astype(np.bool_)',
        "redelivered=np.zeros(len(received), np.bool_)",
        "test_tags_flags_producers_and_sequences_are_read_as_they_stand[one]",
    ),
    frames(
        "a damaged delivery among others",
        "return int(np.argmin(equal.all(axis=1)))",
        "return int(equal.all(axis=1).sum())",
        "test_what_follows_a_damaged_delivery_is_not_taken_for_it[one]",
    ),
    frames(
        "a damaged delivery is not learned",
        "return shape if shape._count_equal(row) == 1 else None",
        "return shape",
        "test_a_shape_is_not_learned_from_a_message_whose_head_is_damaged",
    ),
    frames(
        "a nack is no ack",
        'nack=rows["method"] == NACK',
        "nack=np.zeros(len(rows), np.bool_)",
        "test_acks_and_nacks_multiple_or_not_are_told_apart",
    ),
    frames(
        "a confirm may be multiple",
        'multiple=(rows["bits"] & 1).astype(np.bool_)',
        "multiple=np.zeros(len(rows), np.bool_)",
        "test_acks_and_nacks_multiple_or_not_are_told_apart",
    ),
    frames(
        "multiple is one bit of its octet",
        'multiple=(rows["bits"] & 1).astype(np.bool_)',
        'multiple=rows["bits"].astype(np.bool_)',
        "test_the_requeue_bit_of_a_nack_does_not_make_it_multiple",
    ),
    frames(
        "the channel of a confirm",
        '        & (rows["channel"] == channel)\n',
        "",
        "test_confirms_are_read_up_to_what_is_none_of_this_channel[another channel]",
    ),
    frames(
        "what is no confirm at all",
        '& ((rows["method"] == ACK) | (rows["method"] == NACK))',
        "& True",
        "test_confirms_are_read_up_to_what_is_none_of_this_channel[another method]",
    ),
    frames(
        "acks on a channel without confirms",
        "if method in _CONFIRMS and channel in self._confirming and",
        "if method in _CONFIRMS and",
        "test_acks_are_confirms_only_where_they_are_expected",
    ),
]

TAKEN = [
    subscriber(
        "an acknowledgement is on record before it is sent",
        "        for each in places:\n",
        "        if not self._holds_some:\n"
        "            channel.basic_ack(int(tags[-1][-1]), multiple=True)\n"
        "            for each in places:\n"
        "                self._handler.acknowledge(each)\n"
        "            return\n"
        "        for each in places:\n",
        "test_a_delivery_is_on_record_before_its_acknowledgement_is_sent[many]",
    ),
    subscriber(
        "nothing is acknowledged but what is on record",
        "self._add(np.array([method.delivery_tag], np.int64), taken.places)",
        "self._add(np.array([method.delivery_tag + 1], np.int64), taken.places)",
        "test_a_delivery_is_on_record_before_its_acknowledgement_is_sent[one]",
    ),
    subscriber(
        "what is held back is not acknowledged",
        "                if self._pace.allowance() > 0:\n",
        "                if True:\n",
        "test_what_is_held_back_is_on_record_and_not_acknowledged",
    ),
    consumer(
        "corrupted",
        "if difference := recipe.difference(properties, body, identity):",
        "if difference := None:",
        "test_only_a_message_that_was_right_is_learned_from",
    ),
    consumer(
        "misrouted",
        "elif (method.exchange, method.routing_key) != (plan.exchange, plan.routing_key):",
        "elif method.exchange != plan.exchange:",
        "test_only_a_message_that_was_right_is_learned_from",
    ),
    consumer(
        "what is found is reported",
        "            self._recorder.report(trouble)\n",
        "            pass\n",
        "test_only_a_message_that_was_right_is_learned_from",
    ),
    consumer(
        "a damaged message is not learned from",
        "recipe if trouble is None else None",
        "recipe",
        "test_only_a_message_that_was_right_is_learned_from",
    ),
    consumer(
        "a damaged message is a delivery",
        "            self._recorder.report(trouble)\n",
        "            self._recorder.report(trouble)\n            return Held()\n",
        "test_a_damaged_or_misrouted_message_is_a_delivery_all_the_same",
    ),
    consumer(
        "foreign is reported",
        'self._recorder.report(\n                Incident("foreign"',
        'str(\n                Incident("foreign"',
        "test_a_foreign_message_is_held_while_others_are_acknowledged_one_by_one",
    ),
    subscriber(
        "foreign is never acknowledged",
        "        if self._holds_some:\n",
        "        if False:\n",
        "test_a_foreign_message_is_held_while_others_are_acknowledged_one_by_one",
    ),
    subscriber(
        "a message that is held is taken note of",
        "                self._holds_some = True\n",
        "                pass\n",
        "test_a_foreign_message_is_held_while_others_are_acknowledged_one_by_one",
    ),
    consumer(
        "foreign is held",
        "            return Held()\n",
        "            return Taken(np.empty(0, np.int64))\n",
        "test_a_foreign_message_is_held_while_others_are_acknowledged_one_by_one",
    ),
    consumer(
        "a channel that was lost did not end in order",
        "(self._recorder.channel,)",
        "tuple(range(1, self._recorder.channel + 1))",
        "test_only_channels_that_ended_in_order_are_told",
    ),
    consumer(
        "a channel that ended in order is told by its number",
        "(self._recorder.channel,)",
        "(1,)",
        "test_only_channels_that_ended_in_order_are_told",
    ),
    consumer(
        "a channel with which it was given up did not end in order",
        "() if error else (self._recorder.channel,)",
        "(self._recorder.channel,)",
        "test_a_consumer_that_was_given_up_has_ended_no_channel_in_order",
    ),
    subscriber(
        "the broker cancels the consumer",
        "                if self._cancelled:\n",
        "                if False:\n",
        "test_a_consumer_that_the_broker_cancels_did_not_end_in_order",
    ),
    subscriber(
        "tags of a lost channel are not acknowledged on the next",
        "        self._tags, self._places = [], []\n",
        "",
        "test_what_was_not_acknowledged_before_an_interruption_is_not_acknowledged_after_it",
    ),
    subscriber_alone(
        "what is beyond those that were taken is held",
        "        if taken < len(deliveries.tags):\n",
        "        if False:\n",
        "test_of_many_messages_only_those_that_were_taken_are_acknowledged",
    ),
    subscriber_alone(
        "what is beyond those that were taken is not acknowledged",
        "deliveries.tags[:taken]",
        "deliveries.tags",
        "test_of_many_messages_only_those_that_were_taken_are_acknowledged",
    ),
    subscriber_alone(
        "many messages of which none was taken are held",
        "        if taken < len(deliveries.tags):\n",
        "        if 0 < taken < len(deliveries.tags):\n",
        "test_many_messages_of_which_none_was_taken_are_held",
    ),
    subscriber_alone(
        "what was held on the last channel is not held on this one",
        "        self._holds_some = self._cancelled = False\n",
        "        self._cancelled = False\n",
        "test_on_a_new_channel_nothing_is_held_any_more",
    ),
    taker(
        "messages beyond the limit",
        "wanted = min(wanted, self.limit - self.acknowledged - self._claimed)",
        "pass",
        "test_one_taker_never_takes_more_than_the_limit",
    ),
    taker(
        "what others have taken counts too",
        "self.limit - self.acknowledged - self._claimed)",
        "self.limit - self.acknowledged)",
        "test_several_takers_together_never_take_more_than_the_limit",
    ),
    taker(
        "what was not acknowledged comes again",
        "        self._tally.give_back(self._pending.total())\n",
        "",
        "test_what_was_not_acknowledged_is_given_back_and_counted_once_in_the_end",
    ),
    taker(
        "what was given back is given back once",
        "        self._pending.clear()\n",
        "",
        "test_what_was_not_acknowledged_is_given_back_and_counted_once_in_the_end",
    ),
    taker(
        "what is acknowledged is not given back",
        "        self._pending -= sent\n",
        "",
        "test_what_was_acknowledged_is_not_given_back",
    ),
    taker(
        "a taker that is given up gives back what it has taken",
        "        finally:\n            self._give_back()\n",
        "        finally:\n            pass\n",
        "test_a_taker_that_is_given_up_leaves_what_it_has_taken_to_others",
    ),
    taker(
        "a taker that holds something ends",
        "or self._holds_some or self._tally.full",
        "or self._tally.full",
        "test_a_taker_that_holds_something_ends_and_goes_on_only_on_a_new_channel",
    ),
    taker(
        "a taker that was stopped takes nothing more",
        "claimed = 0 if self._stopping.is_set() else self._tally.claim(wanted)",
        "claimed = self._tally.claim(wanted)",
        "test_a_taker_that_was_stopped_takes_nothing_more",
    ),
    taker(
        "a flood of senders",
        "len(self._names) >= _MOST_SENDERS",
        "len(self._names) == _MOST_SENDERS",
        "test_senders_behind_the_first_thousand_are_counted_together",
    ),
    taker(
        "a message that is shown is shown alone",
        "recipe = None if self._show else recipe_of(properties, body)",
        "recipe = recipe_of(properties, body)",
        "test_each_message_is_shown_before_its_acknowledgement_and_none_is_learned_from",
    ),
    consumer(
        "ready messages that never come",
        "            if not ready and self._recorder.deliveries == self._seen:\n",
        "            if self._recorder.deliveries == self._seen:\n",
        "test_ready_messages_that_never_come_are_an_end_with_a_sentence",
    ),
]

PUBLISHED = [
    producer(
        "sent is written before sending",
        "        ledger.state[sequences] |= SENT\n",
        "",
        "test_all_is_written_down_as_sent_before_it_is_sent[True]",
    ),
    producer(
        "sent is written before sending, not with the confirm",
        "                sequences = self._note_sent(settling, min(room, left, shape.max_rows))\n"
        "                if plan.vector:\n"
        "                    sent_ns = self._ledger.sent_ns[sequences[0]]\n"
        "                    connection.send("
        "shape.render(plan.number, sequences, int(sent_ns)).tobytes())\n",
        "                before = self._ledger.state.copy()\n"
        "                sequences = self._note_sent(settling, min(room, left, shape.max_rows))\n"
        "                if plan.vector:\n"
        "                    sent_ns = self._ledger.sent_ns[sequences[0]]\n"
        "                    after = self._ledger.state.copy()\n"
        "                    self._ledger.state[:] = before\n"
        "                    connection.send("
        "shape.render(plan.number, sequences, int(sent_ns)).tobytes())\n"
        "                    self._ledger.state[:] = after\n",
        "test_all_is_written_down_as_sent_before_it_is_sent[True]",
    ),
    producer(
        "sent again is written down",
        "        ledger.state[sequences[again]] |= SENT_AGAIN\n",
        "",
        "test_only_what_is_indeterminate_is_sent_again_and_marked",
    ),
    producer(
        "what is sent once is not marked as sent again",
        "again = sequences < self._unsent",
        "again = sequences >= 0",
        "test_after_an_interruption_it_goes_on_with_what_was_never_sent",
    ),
    producer(
        "what is known to be nacked is not sent again",
        "known = CONFIRMED | NACKED | RETURNED",
        "known = CONFIRMED | RETURNED",
        "test_only_what_is_indeterminate_is_sent_again_and_marked",
    ),
    producer(
        "what was returned is not sent again",
        "known = CONFIRMED | NACKED | RETURNED",
        "known = CONFIRMED | NACKED",
        "test_what_was_returned_is_not_sent_again",
    ),
    producer(
        "where each publishing channel began",
        "self._channel_starts.append(self._unsent)",
        "self._channel_starts.append(0)",
        "test_after_an_interruption_it_goes_on_with_what_was_never_sent",
    ),
    producer(
        "returned is written down",
        "self._ledger.state[identity.sequence] |= RETURNED",
        "pass",
        "test_what_was_returned_is_not_sent_again",
    ),
    producer(
        "tags of what is sent again",
        "        sequences[early] = self.again[places[early]]\n",
        "",
        "test_what_is_sent_again_comes_first_and_has_the_first_tags",
    ),
    producer(
        "tags behind what is sent again",
        "sequences = places - count + self.first",
        "sequences = places + self.first",
        "test_what_is_sent_again_comes_first_and_has_the_first_tags",
    ),
    producer(
        "a nack is no ack",
        "bit = NACKED if confirms.nack[i] else CONFIRMED",
        "bit = CONFIRMED",
        "test_a_nack_is_told_from_an_ack_in_the_same_burst",
    ),
    producer(
        "multiple covers those below",
        "np.arange(self._low_tag - 1, top)",
        "np.arange(top - 1, top)",
        "test_multiple_covers_all_up_to_its_tag",
    ),
    producer(
        "not multiple covers one",
        "            tags = tags[~multiple]\n",
        "            tags = tags[:0]\n",
        "test_multiple_covers_all_up_to_its_tag",
    ),
    producer(
        "tag 0 covers all",
        "top = self.sent if (below == 0).any() else int(below.max())",
        "top = int(below.max())",
        "test_multiple_with_tag_0_covers_all_that_were_sent",
    ),
    producer(
        "what is settled counts once",
        "[self._ledger.state[sequences] & (CONFIRMED | NACKED) == 0]",
        "[:]",
        "test_what_is_settled_stays_as_it_is_and_counts_once",
    ),
    producer(
        "a tag that was never given",
        "if confirms.tags.max() > self.sent:",
        "if False:",
        "test_a_tag_that_was_never_given_is_an_error_and_settles_nothing",
    ),
    producer(
        "what was written without confirms is read before the end",
        "        if not plan.confirms:\n            self._wait_until_read(connection, channel)\n",
        "",
        "test_without_confirms_it_ends_with_an_answer_that_comes_behind_all_publishes"
        "[False-asked_after0]",
    ),
    producer(
        "the answer is asked for behind all publishes",
        "        total = len(settling.again) + plan.count - settling.first\n",
        "        total = len(settling.again) + plan.count - settling.first\n"
        "        if not plan.confirms:\n"
        "            self._wait_until_read(connection, channel)\n"
        "            self._wait_until_read = lambda *_: None\n",
        "test_without_confirms_it_ends_with_an_answer_that_comes_behind_all_publishes"
        "[False-asked_after0]",
    ),
    producer(
        "the answer behind all publishes is waited for",
        "lambda: bool(answers), self.plan.stall_s",
        "lambda: True, self.plan.stall_s",
        "test_without_confirms_it_ends_with_an_answer_that_comes_behind_all_publishes"
        "[False-asked_after0]",
    ),
]

DRAINED = [
    drain(
        "ready messages",
        "        if ready:\n",
        "        if False:\n",
        "test_a_ready_message_is_no_proof",
    ),
    drain(
        "consumers that are not ours",
        "        if others:\n",
        "        if False:\n",
        "test_somebody_else_s_consumer_is_no_proof",
    ),
    drain(
        "the answer holds still",
        "now - still_since >= _SETTLE_S and now >= certain_at",
        "now >= certain_at",
        "test_a_ready_message_that_shows_late_is_no_proof",
    ),
    drain(
        "no answer is believed too early",
        "now - still_since >= _SETTLE_S and now >= certain_at",
        "now - still_since >= _SETTLE_S",
        "test_no_answer_is_believed_before_it_can_be_certain",
    ),
    drain(
        "a trouble begins the waiting anew",
        "            still_since = None\n",
        "            pass\n",
        "test_an_answer_between_two_troubles_is_no_proof",
    ),
    drain(
        "a trouble that stays is no proof",
        "return Drain(False, 0, trouble)",
        "return Drain(True, 0, trouble)",
        "test_somebody_else_s_consumer_is_no_proof",
    ),
    drain(
        "a queue that cannot be asked",
        'ready, others, trouble = 0, 0, f"it could not be asked ({error.what})"',
        "ready, others = 0, 0",
        "test_a_queue_that_cannot_be_asked_is_no_proof",
    ),
    drain(
        "an empty queue that served nobody to the end",
        "if drain.proven and drain.there and not any(map(_ended_in_order, outcomes)):",
        "if False:",
        "test_a_queue_that_serves_no_consumer_to_the_end_proves_nothing",
    ),
    drain(
        "a dead consumer was not served to the end",
        "outcome.report is not None and bool(outcome.report.closed_channels)",
        "outcome.report is None or bool(outcome.report.closed_channels)",
        "test_a_queue_of_which_every_consumer_died_proves_nothing",
    ),
    drain(
        "a queue that is gone serves nobody",
        "if drain.proven and drain.there and not",
        "if drain.proven and not",
        "test_a_queue_that_is_gone_has_no_consumer_to_serve",
    ),
    drain(
        "what is certain after a restart",
        "certain_at=now.certain_at()",
        "certain_at=0.0",
        "test_a_queue_is_believed_empty_only_when_the_disturbance_allows_it",
    ),
    drain(
        "an interruption shakes a queue",
        "disturbance(bool(interruptions or troubles))",
        "disturbance(bool(troubles))",
        "test_an_interruption_is_told_with_its_consumer_and_shakes_the_queue",
    ),
    drain(
        "the drain is what the queue said last",
        "QueueEvidence(plan.queue, evidence, drain, only_consumer=consumers == 1)",
        "QueueEvidence(plan.queue, evidence, Drain(True), only_consumer=consumers == 1)",
        "test_a_round_that_brings_nothing_new_is_the_last",
    ),
    drain(
        "several consumers share the order",
        "only_consumer=consumers == 1",
        "only_consumer=True",
        "test_consumers_that_share_a_queue_cannot_know_how_much_is_theirs",
    ),
    drain(
        "a queue that still holds messages is gone on with",
        "        if drain.proven or (came_to == before and time.monotonic() >= patience_until):\n",
        "        if True:\n",
        "test_what_a_dead_consumer_recorded_is_kept_and_another_goes_on",
    ),
    drain(
        "a consumer that died leaves its evidence",
        "    for ledger, report in zip(ledgers, reports, strict=True):\n",
        "    for ledger, report in zip(ledgers, reports, strict=True):\n"
        "        if report is None:\n            continue\n",
        "test_what_a_dead_consumer_recorded_is_kept_and_another_goes_on",
    ),
    drain(
        "a consumer that died has closed nothing in order",
        "report.closed_channels if report else ()",
        "report.closed_channels if report else (1,)",
        "test_what_a_dead_consumer_recorded_is_kept_and_another_goes_on",
    ),
    drain(
        "incidents that cannot be read",
        '            missing.append(f"{ledger.incidents_path} cannot be read ({error})")\n',
        "            pass\n",
        "test_incidents_that_cannot_be_read_are_missing_evidence",
    ),
]

DISTURBED = [
    disturbance(
        "no answer is believed soon after a restart",
        "return self.restarted_at + _RECOVERY_S",
        "return 0.0",
        "test_a_queue_is_not_believed_too_soon_after_a_restart",
    ),
    disturbance(
        "a lost connection may have been a restart",
        "if self.unknown and self.shaken:",
        "if False:",
        "test_a_lost_connection_to_a_broker_that_is_not_ours_may_have_been_a_restart",
    ),
    disturbance(
        "after what may have been a restart it takes time",
        "return time.monotonic() + _RECOVERY_S",
        "return time.monotonic()",
        "test_a_lost_connection_to_a_broker_that_is_not_ours_may_have_been_a_restart",
    ),
    disturbance(
        "what is unknown of a broker that is not ours",
        "unknown=not self._broker.owned",
        "unknown=False",
        "test_only_of_a_broker_that_is_not_ours_a_restart_cannot_be_known[external]",
    ),
    disturbance(
        "a restart of our own node",
        "started_at is not None and started_at > self._began_at",
        "False",
        "test_a_start_of_our_node_during_the_run_was_a_restart",
    ),
    disturbance(
        "an interruption shakes a run",
        "shaken=interrupted or self.struck",
        "shaken=self.struck",
        "test_an_interruption_shakes_a_run",
    ),
    disturbance(
        "a fault shakes a run",
        "shaken=interrupted or self.struck",
        "shaken=interrupted",
        "test_a_fault_that_struck_shakes_a_run",
    ),
    disturbance(
        "a fault is over before its run is told of it",
        "        self.settle()\n        started_at",
        "        started_at",
        "test_the_state_is_told_once_a_fault_is_over",
    ),
    disturbance(
        "a fault that failed",
        "if each.failure or each.struck_at is None",
        "if each.struck_at is None",
        "test_a_fault_that_could_not_be_carried_out_is_a_failure",
    ),
    disturbance(
        "a fault that never struck",
        "if each.failure or each.struck_at is None",
        "if each.failure",
        "test_a_fault_that_never_struck_is_a_failure",
    ),
    disturbance(
        "what a fault removed",
        "(*removals(queue), *struck)",
        "removals(queue)",
        "test_a_fault_explains_what_is_missing_from_its_own_queue_only[queue0-endpoint0-True]",
    ),
    disturbance(
        "what the queue's arguments drop",
        "(*removals(queue), *struck)",
        "tuple(struck)",
        "test_a_queue_s_arguments_explain_what_they_drop_and_nothing_else[arguments1-causes1]",
    ),
    disturbance(
        "a fault in another queue explains nothing here",
        "            if name == queue.name\n",
        "",
        "test_a_fault_explains_what_is_missing_from_its_own_queue_only[queue1-endpoint1-False]",
    ),
    disturbance(
        "a fault in another virtual host explains nothing here",
        "            if injection.target.endpoint.virtual_host == self._virtual_host\n",
        "",
        "test_a_fault_explains_what_is_missing_from_its_own_queue_only[queue2-endpoint2-False]",
    ),
    disturbance(
        "what was delivered was not dropped",
        "self._scenario.messages - self._delivered",
        "self._scenario.messages",
        "test_a_limit_explains_no_more_than_all_but_what_it_leaves[given0-changes0-140]",
    ),
    disturbance(
        "what is published again pushes out others",
        "len(self._scenario.faults) == 1 and not self._scenario.publish_again",
        "len(self._scenario.faults) == 1",
        "test_a_limit_explains_no_more_than_all_but_what_it_leaves[given3-changes3-None]",
    ),
    disturbance(
        "what is given back pushes out others",
        "len(self._scenario.faults) == 1 and not self._scenario.publish_again",
        "not self._scenario.publish_again",
        "test_a_limit_explains_no_more_than_all_but_what_it_leaves[given4-changes4-None]",
    ),
    faults(
        "a fault before the run was none of it",
        "e.target.broker is broker and (e.struck_at or 0) >= since",
        "e.target.broker is broker",
        "test_a_fault_of_an_earlier_run_on_the_same_broker_does_not_shake_a_run",
    ),
    strikes(
        "how many a purge removed",
        'Removal(f"a purge of {count} messages", count)',
        'Removal(f"a purge of {count} messages")',
        "test_a_purge_explains_as_many_as_it_removed",
    ),
    strikes(
        "what a limit leaves",
        "target.undelivered() - _LIMIT",
        "target.undelivered()",
        "test_a_limit_explains_no_more_than_all_but_what_it_leaves[given0-changes0-140]",
    ),
    strikes(
        "how many a limit can have removed",
        'the oldest dropped", at_most)',
        'the oldest dropped")',
        "test_a_limit_explains_no_more_than_all_but_what_it_leaves[given0-changes0-140]",
    ),
    topology(
        "what x-message-ttl drops",
        'for name in ("x-message-ttl", "x-expires", "x-delivery-limit")',
        'for name in ("x-no-such", "x-expires", "x-delivery-limit")',
        "test_a_queue_s_arguments_explain_what_they_drop_and_nothing_else[arguments1-causes1]",
    ),
    topology(
        "what x-expires drops",
        'for name in ("x-message-ttl", "x-expires", "x-delivery-limit")',
        'for name in ("x-message-ttl", "x-no-such", "x-delivery-limit")',
        "test_a_queue_s_arguments_explain_what_they_drop_and_nothing_else[arguments2-causes2]",
    ),
    topology(
        "what x-delivery-limit drops",
        'for name in ("x-message-ttl", "x-expires", "x-delivery-limit")',
        'for name in ("x-message-ttl", "x-expires", "x-no-such")',
        "test_a_queue_s_arguments_explain_what_they_drop_and_nothing_else[arguments3-causes3]",
    ),
    topology(
        "what x-max-length drops",
        'for name in ("x-max-length", "x-max-length-bytes")',
        'for name in ("x-no-such", "x-max-length-bytes")',
        "test_a_queue_s_arguments_explain_what_they_drop_and_nothing_else[arguments4-causes4]",
    ),
    topology(
        "what x-max-length-bytes drops",
        'for name in ("x-max-length", "x-max-length-bytes")',
        'for name in ("x-max-length", "x-no-such")',
        "test_a_queue_s_arguments_explain_what_they_drop_and_nothing_else[arguments5-causes5]",
    ),
    topology(
        "what is rejected is not dropped",
        'if not str(asked.get("x-overflow", "drop-head")).startswith("reject-publish"):',
        "if True:",
        "test_a_queue_s_arguments_explain_what_they_drop_and_nothing_else[arguments7-causes7]",
    ),
]

by_hand = "parts/test_producer_and_consumer.py"
consumer_there = partial(Mutation, "rmqbench.clients.consumer", by_hand)
subscriber_there = partial(Mutation, "rmqbench.clients.subscriber", by_hand)
producer_there = partial(Mutation, "rmqbench.clients.producer", by_hand)
connection_there = partial(Mutation, "rmqbench.amqp.connection", by_hand)
verdict_there = partial(Mutation, "rmqbench.verdict.rules", by_hand)
isolation_there = partial(Mutation, "rmqbench.runner.isolation", by_hand)
topology_there = partial(Mutation, "rmqbench.amqp.topology", by_hand)

AGAINST_A_BROKER = [
    consumer_there(
        "corrupted",
        "if difference := recipe.difference(properties, body, identity):",
        "if difference := None:",
        "test_a_damaged_message_is_corrupted_and_named[classic-vector]",
    ),
    consumer_there(
        "misrouted",
        "elif (method.exchange, method.routing_key) != (plan.exchange, plan.routing_key):",
        "elif False:",
        "test_a_message_with_another_routing_key_is_misrouted[classic-pika]",
    ),
    consumer_there(
        "foreign is reported",
        'Incident("foreign", now_ns',
        'Incident("corrupted", now_ns',
        "test_messages_of_others_are_counted_and_left_in_the_queue[classic-vector]",
    ),
    subscriber_there(
        "foreign is never acknowledged",
        "        if self._holds_some:\n",
        "        if False:\n",
        "test_messages_of_others_are_counted_and_left_in_the_queue[classic-vector]",
    ),
    consumer_there(
        "a channel that failed did not end in order",
        "() if error else (self._recorder.channel,)",
        "(self._recorder.channel,)",
        "test_a_deleted_queue_ends_the_consumer_with_a_sentence[classic-vector]",
    ),
    consumer_there(
        "ready messages that never come",
        "error=str(error) if error else self._stuck",
        "error=str(error) if error else None",
        "test_a_queue_that_another_consumer_holds_ends_in_a_sentence[classic-vector-arguments0]",
    ),
    producer_there(
        "returned",
        "self._ledger.state[identity.sequence] |= RETURNED",
        "pass",
        "test_an_unroutable_message_is_returned_and_not_confirmed[classic-vector]",
    ),
    producer_there(
        "publishes are mandatory",
        "            mandatory=plan.mandatory,\n            frame_max",
        "            mandatory=False,\n            frame_max",
        "test_an_unroutable_message_is_returned_and_not_confirmed[classic-vector]",
    ),
    producer_there(
        "publishes are mandatory, one by one",
        "                mandatory=plan.mandatory,\n            )",
        "                mandatory=False,\n            )",
        "test_an_unroutable_message_is_returned_and_not_confirmed[classic-pika]",
    ),
    producer_there(
        "nacked",
        "bit = NACKED if confirms.nack[i] else CONFIRMED",
        "bit = CONFIRMED",
        "test_what_a_full_queue_rejects_is_nacked[classic-vector-arguments0]",
    ),
    connection_there(
        "nacked, by pika's way",
        "np.array([isinstance(method, pika.spec.Basic.Nack)], np.bool_)",
        "np.array([False], np.bool_)",
        "test_what_a_full_queue_rejects_is_nacked[classic-pika-arguments0]",
    ),
    verdict_there(
        "vanished",
        'outcomes["indeterminate"] & ~seen.delivered',
        'outcomes["unsent"] & ~seen.delivered',
        "test_one_that_was_under_way_when_its_connection_ended_did_or_did_not_arrive"
        "[classic-vector-publish-vanished]",
    ),
    verdict_there(
        "survived",
        'outcomes["indeterminate"] & seen.delivered',
        'outcomes["unsent"] & seen.delivered',
        "test_one_that_was_under_way_when_its_connection_ended_did_or_did_not_arrive"
        "[classic-vector-confirm-survived]",
    ),
    verdict_there(
        "how many are stuck",
        "max(1, queue.drain.ready)",
        "1",
        "test_ready_messages_that_never_come_are_stuck_and_not_lost[classic]",
    ),
    isolation_there(
        "a queue that holds messages is no place for a run",
        "        topologies.require_empty(endpoint, topology.queue_names)\n",
        "",
        "test_a_queue_that_holds_messages_is_no_place_for_a_run[classic-vector]",
    ),
    topology_there(
        "a queue that holds messages is not empty",
        "        if count:\n            raise _not_empty(endpoint, name, count)\n",
        "        pass\n",
        "test_a_queue_that_holds_messages_is_no_place_for_a_run[classic-vector]",
    ),
]

WITHOUT_A_BROKER = [
    *JUDGED,
    *RECORDED,
    *RECOGNIZED,
    *READ,
    *TAKEN,
    *PUBLISHED,
    *DRAINED,
    *DISTURBED,
]


def unchanged(mutations: list[Mutation]) -> Plain:
    """Change nothing, and run all tests that are to notice something else."""
    return Plain(tuple(dict.fromkeys(test for each in mutations for test in each.selection)))


def name_of(change: Mutation | Plain) -> str:
    """Name a mutation by its module and the check that is off in it."""
    if isinstance(change, Plain):
        return "nothing"
    return f"{change.module.removeprefix('rmqbench.')}: {change.name}"


def require_noticed(ended, change):
    """One test failed, and no more is wrong than that."""
    print(ended.said)
    if ended.code == 0:
        pytest.fail(f"no test notices that this check is off: {name_of(change)}", pytrace=False)
    assert ended.failed == 1, f"it ended with {ended.code}, which is no failed test"


@pytest.mark.parametrize("change", WITHOUT_A_BROKER, ids=name_of)
def test_a_check_that_is_off_is_noticed(outcome_of, change):
    require_noticed(outcome_of(change), change)


@pytest.mark.parametrize("change", AGAINST_A_BROKER, ids=name_of)
def test_a_check_that_is_off_is_noticed_against_a_broker(outcome_of, broker_environment, change):
    require_noticed(outcome_of(change, broker_environment), change)


@pytest.mark.parametrize("change", [unchanged(WITHOUT_A_BROKER)], ids=name_of)
def test_where_nothing_is_off_nothing_is_noticed(outcome_of, change):
    ended = outcome_of(change)
    assert ended.code == 0, ended.said


@pytest.mark.parametrize("change", [unchanged(AGAINST_A_BROKER)], ids=name_of)
def test_where_nothing_is_off_nothing_is_noticed_against_a_broker(
    outcome_of, broker_environment, change
):
    ended = outcome_of(change, broker_environment)
    assert ended.code == 0, ended.said


ONE_TEST = ("tests/unit/test_verdict.py::test_missing_evidence_is_inconclusive",)


@pytest.mark.parametrize(
    ("change", "environment"),
    [
        (Plain(ONE_TEST, original="import numpy as np\n", mutated="import nowhere\n"), {}),
        (Plain(("tests/unit/test_verdict.py::test_that_is_not_there",)), {}),
        (Plain(ONE_TEST), {"CHANGED_MODULE": "json"}),
    ],
    ids=["an import error", "no such test", "not the copy"],
)
def test_what_could_not_run_has_noticed_nothing(inner_runs, change, environment):
    ended = inner_runs.outcome(change, (), environment)
    assert ended.code != 0
    assert ended.failed == 0


@pytest.mark.parametrize("original", ["no such source", "import"])
def test_a_mutation_of_what_is_not_there_once_no_longer_applies(outcome_of, original):
    with pytest.raises(pytest.fail.Exception, match="no longer applies: update it"):
        outcome_of(Plain(ONE_TEST, original=original), ahead=())


@pytest.mark.parametrize("mutations", [WITHOUT_A_BROKER, AGAINST_A_BROKER])
def test_each_mutation_has_a_name_of_its_own(mutations):
    assert len({name_of(each) for each in mutations}) == len(mutations)
