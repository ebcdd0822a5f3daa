"""What the verdict makes of evidence."""

from support.mutations.change import checks

rules = checks("verdict.rules", "unit/verdict/test_rules.py")
rules_later = checks("verdict.rules", "unit/results/test_judging.py")
dead_letters = checks("verdict.rules", "unit/verdict/test_dead_letters.py")
again = checks("verdict.deliveries", "unit/verdict/test_deliveries.py")
order = checks("verdict.order", "unit/verdict/test_order.py")
parts = checks("verdict.parts", "unit/verdict/test_parts.py")
missing = checks("verdict.missing", "unit/verdict/test_rules.py")
removals = checks("verdict.removals", "unit/verdict/test_removals.py")

WITHOUT_EVIDENCE = "test_without_a_part_of_its_evidence_no_run_passes"
CONTRADICTED = "test_what_is_said_twice_is_reported_each_time"

JUDGED = [
    rules(
        "a failing finding outranks inconclusive",
        "    if failing:\n",
        "    if failing and not open_questions:\n",
        "test_a_failing_finding_outranks_inconclusive",
    ),
    rules(
        "missing evidence is inconclusive",
        "        *evidence.missing,\n",
        "",
        "test_missing_evidence_is_inconclusive",
    ),
    rules(
        "a queue that was not drained is inconclusive",
        "            if not q.drain.proven\n",
        "            if False\n",
        "test_nothing_is_lost_before_the_drain_is_proven",
    ),
    rules(
        "nothing is lost before the drain is proven",
        "return all(each.drained for each in (self._queue, *self._queue.dead_letters))",
        "return all(each.complete for each in (self._queue, *self._queue.dead_letters))",
        "test_nothing_is_lost_before_the_drain_is_proven",
    ),
    rules(
        "lost",
        "count=found.count - removed",
        "count=0",
        "test_confirmed_and_never_delivered_is_lost_and_named",
    ),
    missing(
        "a cause removes no more than its bound",
        "if removal.at_most is None:",
        "if removal.at_most:",
        "test_what_is_missing_beyond_what_the_causes_can_have_removed_is_lost[bounds1-expected1]",
    ),
    rules(
        "delivered although never sent is a phantom",
        "part.producer.readable & ~sends.sent & delivered",
        "part.producer.readable & ~sends.sent & False",
        "test_delivered_although_never_sent_is_a_phantom",
    ),
    rules(
        "what is not of this run leaves the verdict open",
        "            if f.name is FindingName.FOREIGN\n",
        "            if False\n",
        "test_what_is_not_of_this_run_leaves_the_verdict_open_and_says_so",
    ),
    rules(
        "what the broker contradicted",
        "if incident.finding is FindingName.CONTRADICTED",
        "if False",
        "test_what_the_broker_contradicted_fails_each_time_that_it_did",
    ),
    again(
        "duplicate",
        "return self._sum_of_copies(self._duplicates_of_copies)",
        "return self._sum_of_copies(0 * self._duplicates_of_copies)",
        "test_again_without_the_flag_is_a_duplicate_each_time",
    ),
    again(
        "a copy of its own",
        "np.where(self._sends.copied[place], stamp.astype(np.int64), 0)",
        "np.where(self._sends.copied[place], 0, 0)",
        "test_copies_that_arrive_once_each_are_no_finding[copies0]",
    ),
    again(
        "one unflagged delivery between consumers is none too many",
        "np.maximum(unflagged - 1, surely)",
        "np.maximum(unflagged, surely)",
        "test_between_consumers_one_delivery_without_the_flag_is_none_too_many[early]",
    ),
    again(
        "a send time that was never sent",
        "right: BoolArray = self.stamp[places] == stamps",
        "right: BoolArray = self.stamp[places] == self.stamp[places]",
        "test_a_send_time_that_was_never_sent_is_corrupted_though_its_checksum_is_right",
    ),
    again(
        "what is reported as corrupted is told once",
        "(consumer.state & (DELIVERED | REPORTED) == DELIVERED)",
        "(consumer.state & DELIVERED == DELIVERED)",
        "test_what_had_is_corrupted_otherwise_is_reported_and_not_found_once_more[deliveries0]",
    ),
    again(
        "repeated",
        "self.repeats.flagged & self._again_on_channel",
        "self.repeats.flagged & False",
        "test_again_with_the_flag_on_its_channel_is_repeated_however_it_comes[one burst-acked]",
    ),
    again(
        "repeated on the same channel only",
        "table.again_within(table.channel) & (table.channel > 0)",
        "table.again_within() & (table.channel > 0)",
        "test_again_with_the_flag_on_another_channel_is_redelivered_each_time",
    ),
    again(
        "redelivered after ack, on a later channel",
        "later = table.opened_ns >= taken_ns",
        "later = table.opened_ns < 0",
        "test_again_on_a_channel_that_opened_after_a_clean_close_is_a_finding",
    ),
    again(
        "redelivered after ack, between two clean channels",
        "after = later | other",
        "after = later",
        "test_again_between_two_channels_that_both_closed_cleanly_is_a_finding",
    ),
    again(
        "a quorum queue's closing takes no acknowledgement",
        "        if self._close_takes_acks:\n",
        "        if True:\n",
        "test_a_quorum_queue_may_lose_acknowledgements_with_their_channel[long there]",
    ),
    again(
        "a quorum queue gives nothing back while its consumer is there",
        "after = other & (table.at_ns + _APART_NS < table.left_ns[at])",
        "after = other & False",
        "test_a_quorum_queue_may_lose_acknowledgements_with_their_channel[long there]",
    ),
    again(
        "the clocks of hosts differ",
        "table.at_ns + _APART_NS < table",
        "table.at_ns < table",
        "test_a_quorum_queue_may_lose_acknowledgements_with_their_channel[there by other clocks]",
    ),
    again(
        "a restart before it excuses nothing",
        "(restart.before_ns > table.at_ns[at]) & (restart.after_ns < table.at_ns)",
        "restart.after_ns < table.at_ns",
        "test_a_restart_before_or_after_excuses_nothing[before]",
    ),
    order(
        "reordered",
        "return some[self.earliest_ns[higher] < self.at_ns[some]]",
        "return some[self.earliest_ns[higher] > self.at_ns[some]]",
        "test_a_lower_sequence_number_than_one_that_was_there_is_reordered[sequences2-1-alone]",
    ),
    order(
        "what came of a later part",
        "earliest_ns.get(key, _NEVER)",
        "_NEVER",
        "test_a_lower_sequence_number_than_one_that_was_there_is_reordered[sequences4-2-alone]",
    ),
    parts(
        "what came again is counted from the beginning of its part",
        "        rows[self._column] -= start\n",
        "",
        "test_what_came_again_is_in_the_part_of_its_message_and_what_there_is_not_in_none",
    ),
    order(
        "a copy is in the order of its own channel",
        "        channel = _channels_of_copies(sends, place, stamp, channel)\n",
        "        pass\n",
        "test_a_copy_is_in_the_order_of_the_channel_on_which_it_was_sent",
    ),
    removals(
        "expires only where the queue is gone",
        "return None if known.there else Removal(cause)",
        "return Removal(cause)",
        "test_expires_explains_what_is_missing_only_where_the_queue_is_gone",
    ),
    removals(
        "of several limits the least",
        'value < least.get(bare, (math.inf, ""))[0]',
        "bare not in least",
        "test_of_several_limits_the_least_took_all_that_any_of_them_took"
        "[8-7-9-max-length=7 with overflow drop-head (policy p)]",
    ),
    removals(
        "max-length-bytes takes nothing where all fits",
        "elif known.arrived_bytes <= value:",
        "elif False:",
        "test_of_mixed_sizes_those_that_all_fit_lost_none_and_else_the_largest_may_fill_it[5000-0]",
    ),
    removals(
        "max-length takes what arrived beyond it",
        "max(0, known.arrived - fitting)",
        "known.arrived",
        "test_max_length_took_at_most_what_arrived_beyond_it[8-92]",
    ),
    order(
        "an only consumer",
        "judged = queue.only_consumer and ",
        "judged = ",
        "test_a_shared_queue_promises_no_order",
    ),
    order(
        "a glance at the order",
        "(np.diff(times_ns) < 0) & (np.diff(whose) == 0)",
        "np.diff(times_ns) < np.iinfo(np.int64).min",
        "test_what_a_reordered_message_came_behind_is_told",
    ),
    rules_later(
        "a producer without an end accuses nobody",
        "known = ended or name in _SAID_BY_BROKER",
        "known = True",
        "test_a_producer_that_left_no_word_accuses_nobody",
    ),
    rules_later(
        "what an unreadable ledger does not hold is no phantom",
        "part.producer.readable & ~sends.sent & delivered",
        "~sends.sent & delivered",
        f"{WITHOUT_EVIDENCE}[garbage-producer-0/state.npy]",
    ),
    rules_later(
        "what an unreadable ledger does not hold is not lost",
        "return all(each.drained for each in (self._queue, *self._queue.dead_letters))",
        "return all(q.drain.proven for q in (self._queue, *self._queue.dead_letters))",
        f"{WITHOUT_EVIDENCE}[garbage-queue-0/consumer-0/state.npy]",
    ),
    dead_letters(
        "what was rejected has not ended by that",
        "rejecting_settles=not self._dead_letters,",
        "rejecting_settles=True,",
        "test_what_was_rejected_and_came_nowhere_is_lost_by_the_queue_that_gave_it_up",
    ),
    dead_letters(
        "all queues that get a dead letter must be through with it",
        "settled | everywhere, delivered | anywhere",
        "settled | anywhere, delivered | anywhere",
        "test_it_must_come_to_each_of_the_queues_that_get_it",
    ),
    dead_letters(
        "what the queue keeps is not lost",
        "held = min(self._queue.drain.held, found.count)",
        "held = 0",
        "test_what_the_queue_keeps_is_unserved_and_not_lost[3-0]",
    ),
    rules(
        "who broke off may be served in the broker's eyes",
        "_received_between(one, each) or _broke_off_before(one, each) for one in consumers",
        "_received_between(one, each) for one in consumers",
        "test_whom_the_broker_takes_for_a_consumer_may_be_served[one that broke off]",
    ),
    rules(
        "another's consumer may be served",
        "            and not self._queue.drain.others\n",
        "",
        "test_whom_the_broker_takes_for_a_consumer_may_be_served[another's]",
    ),
]
