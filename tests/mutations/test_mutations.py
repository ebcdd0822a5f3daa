"""The checks on which the verdict's honesty rests, each switched off in turn: a test must fail.

A check that can be switched off unnoticed is one that nobody would miss if it broke. Each mutation
is made in a copy of the package, on which the one test runs that is to notice it; the same tests
pass on an unchanged copy.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

pytest.importorskip("hypothesis", reason="the dev extra brings hypothesis")
pytestmark = pytest.mark.mutation


@dataclass(frozen=True)
class Mutation:
    """One check switched off: ``name`` says which, and ``tests`` are run, of which one must fail.

    ``original`` stands exactly once in the source of ``module``.
    """

    module: str
    name: str
    original: str
    mutated: str
    tests: tuple[str, ...]


def checks(module: str, file: str) -> Callable[[str, str, str, str], Mutation]:
    """Return a function that makes mutations of a module, each noticed by a test of this file."""

    def check(name: str, original: str, mutated: str, noticed_by: str) -> Mutation:
        test = f"tests/{file}::{noticed_by}"
        return Mutation(f"rmqbench.{module}", name, original, mutated, (test,))

    return check


rules = checks("verdict.rules", "unit/verdict/test_rules.py")
rules_later = checks("verdict.rules", "unit/results/test_judging.py")
reading = checks("run_directory.reading", "unit/results/test_judging.py")
directory = checks("run_directory.directory", "unit/results/test_judging.py")
again = checks("verdict.deliveries", "unit/verdict/test_deliveries.py")
order = checks("verdict.order", "unit/verdict/test_order.py")
parts = checks("verdict.parts", "unit/verdict/test_parts.py")
of_parts = checks("verdict.parts", "unit/verdict/test_clean.py")
clean = checks("verdict.clean", "unit/verdict/test_clean.py")
let_go = checks("run_directory.recorder", "unit/run_directory/test_let_go.py")
missing = checks("verdict.missing", "unit/verdict/test_rules.py")
removals = checks("verdict.removals", "unit/verdict/test_removals.py")
ledger = checks("run_directory.ledger", "unit/run_directory/test_ledger.py")
recorder = checks("run_directory.recorder", "unit/run_directory/test_recorder.py")
message = checks("message", "unit/test_message.py")
shape = checks("amqp.shape", "unit/amqp/test_shape.py")
tail = checks("amqp.tail", "unit/amqp/test_shape.py")
wide = checks("amqp.wide", "unit/amqp/test_vector.py")
splitter = checks("amqp.vector", "unit/amqp/test_vector.py")
connection = checks("amqp.connection", "unit/amqp/test_connection.py")
producer = checks("clients.producer", "unit/clients/test_producer.py")
confirms = checks("clients.producer", "unit/clients/test_confirms.py")
recording = checks("clients.recording_consumer", "unit/clients/test_recording_consumer.py")
consumer = checks("clients.consumer", "unit/clients/test_recording_consumer.py")
drain = checks("runner.drain", "unit/runner/test_drain.py")
received = checks("runner.received", "unit/runner/test_received.py")
emptiness = checks("runner.emptiness", "unit/runner/test_emptiness.py")
inspection = checks("runner.inspection", "unit/runner/test_inspection.py")
watching = checks("runner.watch", "unit/runner/test_watch.py")
disturbance = checks("faults.disturbance", "unit/faults/test_disturbance.py")

WITHOUT_EVIDENCE = "test_without_a_part_of_its_evidence_no_run_passes"
CHANGED_HEADER = "test_every_changed_header_is_a_difference"
CUT_ANYWHERE = "test_a_stream_cut_anywhere_gives_the_same_and_loses_nothing"
KEPT_BACK = "test_what_is_kept_back_is_taken_before_the_end"
ANY_BYTE = "test_not_one_flipped_byte_of_a_delivery_passes_but_in_tag_and_flag"
IN_ORDER = "test_that_it_was_delivered_is_written_last"
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
        "if queue.drain.proven and queue.complete:",
        "if queue.complete:",
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
        "if queue.drain.proven and queue.complete:",
        "if queue.drain.proven:",
        f"{WITHOUT_EVIDENCE}[garbage-queue-0/consumer-0/state.npy]",
    ),
]

READ = [
    reading(
        "incidents that are not there any more",
        "len(incidents) < worker.end.incidents",
        "False",
        "test_incidents_that_are_not_there_any_more_are_missing_evidence",
    ),
    reading(
        "a journal that is not there",
        "if not journal and ledger.state.any():",
        "if False:",
        f"{WITHOUT_EVIDENCE}[gone-queue-0/consumer-0/journal.jsonl]",
    ),
    reading(
        "a ledger that cannot be read",
        'self._missing.append(f"the ledger of {whose}',
        'str(f"the ledger of {whose}',
        f"{WITHOUT_EVIDENCE}[garbage-queue-0/consumer-0/state.npy]",
    ),
    reading(
        "rows that are not there any more",
        "there < worker.end.repeats",
        "False",
        "test_what_came_again_and_is_not_there_any_more_is_missing_evidence"
        "[queue-0/consumer-0/again.bin-row1-consumer 0 of work.queue recorded "
        "2 repeated deliveries, and-none]",
    ),
    directory(
        "a directory of another format",
        "if found != FORMAT:",
        "if found is None:",
        "test_a_directory_of_another_format_is_refused_with_a_sentence",
    ),
]

RECORDED = [
    recorder(
        "delivered is written last",
        "        ledger.first_ns[places] = at_ns\n",
        "        ledger.state[places] = DELIVERED\n        ledger.first_ns[places] = at_ns\n",
        f"{IN_ORDER}[sequences0]",
    ),
    recorder(
        "each delivery has a moment of its own",
        "max(now_ns, self._last_ns + 1) + np.arange(len(places))",
        "np.full(len(places), max(now_ns, self._last_ns + 1))",
        "test_each_delivery_has_a_moment_of_its_own_which_keeps_the_order",
    ),
    recorder(
        "what is sent again leaves its first send as it was",
        "            sequences = sequences[~again]\n",
        "",
        "test_what_is_sent_again_is_a_row_and_leaves_the_first_send_as_it_was",
    ),
    checks("run_directory.ledger", "unit/run_directory/test_recorder.py")(
        "a line that a crash cut off is passed over",
        '            if line.endswith(b"\\n"):\n',
        "            if True:\n",
        "test_a_line_cut_off_by_a_crash_is_passed_over",
    ),
    ledger(
        "what is written outlives its writer",
        'cls._map(directory, "r+")',
        'cls._map(directory, "c")',
        "test_what_was_recorded_outlives_a_killed_process",
    ),
]

RECOGNIZED = [
    message(
        "the checksum of a head",
        "crc == zlib.crc32(body[: HEAD_SIZE - 4])",
        "True",
        "test_a_wrong_checksum_is_a_damaged_head",
    ),
    *(
        message(
            f"the property {name}",
            "elif received != value and not (",
            f'elif received != value and name != "{name}" and not (',
            f"test_every_changed_property_is_a_difference[{name}]",
        )
        for name in ("content_type", "delivery_mode", "message_id", "timestamp")
    ),
    *(
        message(f"a header that was {what}", original, mutated, f"{CHANGED_HEADER}[{what}]")
        for what, original, mutated in (
            ("changed", "if received[name] != sent[name]:", "if False:"),
            ("taken away", "if name not in received:", "if False:"),
            ("added", "if name not in sent:", "if False:"),
        )
    ),
    message(
        "a timestamp that RabbitMQ did not overwrite",
        "timestamp == milliseconds // 1000",
        "True",
        "test_a_timestamp_that_rabbitmq_overwrites_is_the_one_that_its_header_says"
        "[1800000000999-1800000001-False]",
    ),
    message(
        "a length that is another one's",
        "if len(body) != size:",
        "if False:",
        "test_a_body_of_another_size_than_its_own_is_a_difference",
    ),
    *(
        check(f"any byte of {what}", original, mutated, f"{ANY_BYTE}[{case}]")
        for check, what, case, original, mutated in (
            (
                shape,
                "a delivery, among many",
                "one",
                "reshape(octets.shape) == octets\n",
                "reshape(octets.shape) == octets\n        equal[:, -1] = True\n",
            ),
            (
                shape,
                "a large delivery",
                "three",
                "not buffer.startswith(self._rest, offset",
                "not buffer.startswith(self._rest[:-1], offset",
            ),
            (
                tail,
                "a body of its own size",
                "mixed",
                "buffer.startswith(payload, at)",
                "buffer.startswith(payload[:-1], at)",
            ),
            (
                tail,
                "the end of a body of its own size",
                "mixed",
                "return buffer[end] == FRAME_END and ",
                "return ",
            ),
            (
                tail,
                "a large body of its own size",
                "one and three",
                "if not buffer.startswith(piece, at):",
                "if not buffer.startswith(piece[:-1], at):",
            ),
        )
    ),
    shape(
        "a size that is none of theirs, before the message is whole",
        "            return 0, ()\n",
        "            size = self._sizes.largest\n",
        "test_what_claims_to_be_of_any_size_is_waited_for_only_as_far_as_its_frames_say",
    ),
    shape(
        "a whole message is waited for no longer",
        "return here < length and all(",
        "return all(",
        "test_what_has_begun_may_become_whole_and_what_is_whole_does_not_grow[mixed]",
    ),
    wide(
        "a large message with a wrong head, among those that came with it",
        "for row in octets[matched:])",
        "for row in octets[matched + 1 :])",
        CUT_ANYWHERE,
    ),
    splitter(
        "what of the same shape is odd, behind large messages",
        "            if self._wide.count:\n                return True\n",
        "",
        CUT_ANYWHERE,
    ),
    splitter(
        "what comes between large messages",
        "            if not self._wide.takes(shape):\n                return True\n",
        "",
        CUT_ANYWHERE,
    ),
    splitter(
        "a large message that has begun behind one with a wrong head",
        "                self._cutter.put_back(self._growing[1].so_far())\n",
        "",
        "test_what_has_begun_behind_a_wrong_one_is_put_back_behind_it",
    ),
    *(
        connection(f"what was kept back when {what}", original, mutated, f"{KEPT_BACK}[{case}]")
        for what, case, original, mutated in (
            ("the stream ended", "closed", "        if not received:\n", "        if False:\n"),
            ("the connection was reset", "reset", "except ConnectionError:", "except EOFError:"),
        )
    ),
    connection(
        "that what is kept back waits only so long",
        "min(self.longest_pause_s, MAX_PAUSE_S)",
        "MAX_PAUSE_S",
        "test_nothing_is_kept_back_where_nothing_may_wait",
    ),
    connection(
        "that something is kept back",
        "more=self._more)",
        "more=False)",
        "test_what_came_in_several_turns_is_compared_together_where_it_may_wait",
    ),
]

TAKEN = [
    confirms(
        "ack and nack of one tag",
        "        for tag in tags[~fresh & ~everything].tolist():\n",
        "        for tag in ():\n",
        f"{CONTRADICTED}[rows1-told1-one]",
    ),
    confirms(
        "a tag that was never given",
        "known = (tags >= 1) & (tags <= self.sent)",
        "known = tags >= 0",
        "test_a_tag_that_was_never_given_is_reported_and_an_error[row0-4]",
    ),
    producer(
        "sent is on record before it is sent",
        "        self._recorder.send(sequences, self._channels, now_ns)\n",
        "",
        "test_all_is_written_down_as_sent_before_it_is_sent[True]",
    ),
    consumer(
        "a delivery is on record before its acknowledgement is sent",
        "        for each in places:\n",
        "        channel.basic_ack(int(tags[-1][-1]), True)\n        for each in places:\n",
        "test_a_delivery_is_on_record_before_its_acknowledgement_is_sent[many]",
    ),
    consumer(
        "a channel that failed did not end in order",
        "            look = Look(",
        "            self._handler.end()\n            look = Look(",
        "test_only_channels_that_ended_in_order_are_told",
    ),
    recording(
        "foreign is held",
        "            return None\n",
        "            return Taken(np.empty(0, np.int64))\n",
        "test_a_foreign_message_is_held_while_others_are_acknowledged_one_by_one",
    ),
]

DRAINED = [
    received(
        "what two consumers received counts once",
        "        if len(self._ledgers) == 1:\n",
        "        if True:\n",
        "test_of_several_only_the_blocks_are_looked_at_in_which_something_is_new",
    ),
    received(
        "what is received is watched at the cost of what is new",
        "np.flatnonzero(changed)",
        "np.arange(len(changed))",
        "test_of_several_only_the_blocks_are_looked_at_in_which_something_is_new",
    ),
    received(
        "what a killed consumer had not counted",
        "        for block in range(len(counts)):\n",
        "        for block in ():\n",
        "test_what_a_killed_consumer_recorded_and_had_not_counted_is_counted_in_the_end[1]",
    ),
    emptiness(
        "the answer holds still",
        "still_since + patience.still_s, ",
        "0.0, ",
        "test_a_ready_message_that_shows_late_is_no_proof",
    ),
    emptiness(
        "no answer is believed too early",
        "still_s, certain_at, ",
        "still_s, ",
        "test_no_answer_is_believed_before_it_can_be_certain",
    ),
    emptiness(
        "consumers that are not ours",
        "        if answer.others:\n            who",
        "        if False:\n            who",
        "test_somebody_else_s_consumer_is_no_proof",
    ),
    emptiness(
        "zeros that nobody stands behind",
        "replace(answer, ready=self._get())",
        "answer",
        "test_a_queue_whose_leader_is_silent_is_no_proof_though_its_figures_are_zeros",
    ),
    emptiness(
        "a queue that could not be asked may have been restarted",
        "max(certain_at, now + RECOVERY_S)",
        "certain_at",
        "test_a_queue_that_could_not_be_asked_may_have_been_restarted_and_is_not_believed_at_once",
    ),
    emptiness(
        "what a half-open channel may hold",
        "max(self._all_back_at, self",
        "max(0.0, self",
        "test_what_a_half_open_channel_may_hold_is_waited_for_in_each_proof_until_it_is_back",
    ),
    emptiness(
        "a get without an answer",
        "        self.may_hold_one = True\n",
        "",
        "test_a_message_that_a_get_of_ours_may_hold_is_waited_for[get]",
    ),
    emptiness(
        "a return that may not have come",
        "        self._connection.close_channel(self._channel, _ANSWER_S)\n",
        "",
        "test_a_message_that_a_get_of_ours_may_hold_is_waited_for[return]",
    ),
    drain(
        "a cancelled consumer whose channel did not end",
        "if any(_left_open(each, ConsumerLeaving) for each in self._round):",
        "if False:",
        "test_what_a_cancelled_consumer_may_hold_on_a_half_open_channel_is_waited_for[how3-True]",
    ),
    drain(
        "a consumer that broke off is counted",
        "            self._prover.expect_back(self._ended_at, counted=True)\n",
        "            pass\n",
        "test_what_a_busy_leader_may_leave_out_is_waited_for_where_a_channel_broke_off",
    ),
    drain(
        "what is half-open may stand before our consumers",
        "if ready and self._broke_off:",
        "if False:",
        "test_what_a_half_open_consumer_of_ours_stands_before_is_taken_once_it_is_gone",
    ),
    drain(
        "what ended before all was published is followed by another round",
        "        if self._lingers:",
        "        if False:",
        "test_what_ended_before_all_was_published_is_followed_by_another_round",
    ),
    drain(
        "a queue that answers again",
        " or may_serve",
        "",
        "test_a_queue_that_answers_only_after_a_round_gets_another",
    ),
    drain(
        "what a queue hides of what was given back",
        "min(hidden_s, _MOST_HIDDEN_S)",
        "0.0",
        "test_what_a_queue_hides_of_what_was_given_back_is_waited_for[6-5-True]",
    ),
    drain(
        "what a queue hides for too long",
        "if hides:",
        "if False:",
        "test_what_a_queue_hides_for_longer_than_anybody_waits_leaves_its_drain_open",
    ),
    drain(
        "what a proof has waited for does not count",
        "            self._came_on_at += self._monotonic() - ended_at\n",
        "            pass\n",
        "test_what_its_proof_waits_for_is_not_taken_from_a_queue_s_time",
    ),
    drain(
        "what comes back late",
        "came_back or ",
        "",
        "test_what_comes_back_after_a_consumer_found_nothing_is_taken_by_another",
    ),
    drain(
        "what a quorum queue gives back",
        " or ready < self._left",
        "",
        "test_as_long_as_less_comes_back_each_time_there_is_another_round",
    ),
    drain(
        "a message of somebody else is not looked at for nothing",
        "            return nothing_new or all(map(_ended_in_order, self._round))\n",
        "            pass\n",
        "test_a_message_of_somebody_else_is_not_looked_at_once_more_for_nothing"
        "[brought1-closed1-True-1]",
    ),
    emptiness(
        "zeros that a busy leader did not say",
        "self._consumers_gone_at if answer.slow else 0.0",
        "0.0",
        "test_a_slow_answer_may_not_know_of_it_and_is_not_believed",
    ),
    emptiness(
        "a link that breaks is made again",
        "away_until or now + away_s",
        "0.0",
        "test_a_link_that_breaks_is_made_again_however_late_it_is",
    ),
    emptiness(
        "a refused get of a leader that is busy",
        "            if self._declared_in_s < self._link_s + _SLOW_S:\n",
        "            if True:\n",
        "test_where_a_get_is_refused_and_the_declared_answer_was_slow_nothing_is_known",
    ),
    emptiness(
        "figures that a slow link may hide nothing in",
        "slow = self._declared_in_s >= _SLOW_S",
        "slow = self._declared_in_s >= self._link_s + _SLOW_S",
        "test_a_slow_answer_may_not_know_of_it_and_is_not_believed",
    ),
    emptiness(
        "a busy leader is asked for a while",
        "busy_until = busy_until or now + _BUSY_S",
        "busy_until = now",
        "test_where_a_get_is_refused_and_the_declared_answer_was_slow_nothing_is_known",
    ),
    emptiness(
        "a look whose end is unknown",
        "        self.looks += 1  # until",
        "        self.looks += 0  # until",
        "test_it_says_how_many_messages_it_may_have_been_given[said4-1]",
    ),
    emptiness(
        "a half-open consumer of ours",
        "3 * self._heartbeat_s",
        "2 * self._heartbeat_s",
        "test_a_message_that_a_get_of_ours_may_hold_is_waited_for[get]",
    ),
    inspection(
        "who cannot be asked for holders proves nothing",
        "        return replace(proof, proven=False, detail=why)\n",
        "        return proof\n",
        "test_where_the_api_does_not_say_it_there_is_no_proof",
    ),
    inspection(
        "what a fault of ours limits is no policy besides",
        " and each.name != limit_policy(queue.name):",
        ":",
        "test_what_a_fault_of_ours_limits_is_no_policy_besides",
    ),
    watching(
        "since when nothing was heard",
        "if connection.received_bytes != received:",
        "if True:",
        "test_what_is_not_heard_of_any_more_may_have_been_started_anew_since_then",
    ),
    drain(
        "a queue that serves no consumer",
        "elif says_empty and not served:",
        "elif False:",
        "test_a_queue_that_serves_no_consumer_to_the_end_proves_nothing",
    ),
    disturbance(
        "a restart of our own node",
        "started_at is not None and started_at > self._began_at",
        "False",
        "test_a_start_of_our_node_during_the_run_was_a_restart",
    ),
    disturbance(
        "no answer is believed soon after a restart",
        "return self.restarted_at + RECOVERY_S",
        "return 0.0",
        "test_a_queue_is_not_believed_too_soon_after_a_restart",
    ),
    disturbance(
        "a fault on another broker is none of the run",
        "injection.target.broker is self._broker and ",
        "",
        "test_a_fault_around_a_run_on_another_broker_is_none_of_it",
    ),
]

LET_GO = [
    clean(
        "what is let go was confirmed",
        "bool((producer.state == SENT | CONFIRMED).all())",
        "True",
        "test_what_is_not_all_confirmed_at_once_is_not_clean[nacked]",
    ),
    clean(
        "what is let go was sent once",
        "        and not len(producer.copies)\n",
        "",
        "test_what_is_not_all_confirmed_at_once_is_not_clean[sent again]",
    ),
    clean(
        "what is let go was published on one channel",
        "        and not any(part.first < each < part.first + len(part) for each in begun)\n",
        "",
        "test_what_is_not_all_confirmed_at_once_is_not_clean[on two channels]",
    ),
    clean(
        "what is let go was delivered",
        "not deliveries.delivered.all() or ",
        "",
        "test_what_was_not_delivered_just_once_is_not_clean[not delivered]",
    ),
    clean(
        "what is let go was delivered once",
        " or deliveries.any_repeated:",
        ":",
        "test_what_was_not_delivered_just_once_is_not_clean[duplicate]",
    ),
    clean(
        "what is let go was acknowledged",
        "consumer.state[there] | REDELIVERED == DELIVERED | REDELIVERED | ACKED",
        "consumer.state[there] | REDELIVERED | ACKED == DELIVERED | REDELIVERED | ACKED",
        "test_what_was_not_acknowledged_is_not_clean",
    ),
    clean(
        "what is let go came in order",
        "piece_of(late.sequence).tolist()",
        "(-1 - late.sequence).tolist()",
        "test_what_came_in_another_order_is_not_clean_where_order_is_judged",
    ),
    clean(
        "of what is let go nothing was reported",
        "each.producer is not None and each.sequence is not None",
        "False",
        "test_what_was_not_delivered_just_once_is_not_clean[an incident]",
    ),
    of_parts(
        "what comes again of what was let go",
        "later = np.flatnonzero((state & DELIVERED != 0) & (first_ns > last_ns))",
        "later = np.zeros(0, np.int64)",
        "test_what_comes_again_where_nobody_knows_who_had_it_counts_all_the_same",
    ),
    of_parts(
        "rows that nobody freed are no deliveries",
        " & (first_ns > last_ns))",
        ")",
        "test_rows_that_nobody_freed_count_once",
    ),
    of_parts(
        "rows of what came again before it was let go",
        "np.concatenate([again, consumer.again])",
        "np.concatenate([again, consumer.again[consumer.again['at_ns'] > last_ns]])",
        "test_what_came_again_while_the_last_of_its_segment_came_counts",
    ),
    of_parts(
        "a flag that the first may have had",
        '    if row["flagged"]:\n        taken |= REDELIVERED\n',
        "",
        "test_without_the_flag_once_more_is_none_too_many_where_the_first_may_have_had_it",
    ),
    let_go(
        "nobody frees what has changed",
        'return int(self.ledger.first_ns[these].max()) <= int(segment["last_ns"])',
        "return True",
        "test_a_consumer_keeps_what_has_changed_since_it_was_judged",
    ),
    let_go(
        "what was let go is not sent again",
        "unknown &= ~self.ledger.let_go.among(0, sent)",
        "pass",
        "test_a_producer_frees_what_was_let_go_and_forgets_nothing_that_counts",
    ),
]

WITHOUT_A_BROKER = [*JUDGED, *READ, *RECORDED, *RECOGNIZED, *TAKEN, *DRAINED, *LET_GO]

BY_HAND = "parts/test_producer_and_consumer.py"
recording_there = checks("clients.recording_consumer", BY_HAND)
consumer_there = checks("clients.consumer", BY_HAND)
producer_there = checks("clients.producer", BY_HAND)
connection_there = checks("amqp.connection", BY_HAND)
rules_there = checks("verdict.rules", BY_HAND)
isolation_there = checks("runner.isolation", BY_HAND)
topology_there = checks("amqp.topology", BY_HAND)

AGAINST_A_BROKER = [
    recording_there(
        "corrupted",
        "difference = recipe.difference(properties, body, identity)",
        "difference = None",
        "test_a_damaged_message_is_corrupted_and_named[classic-vector]",
    ),
    recording_there(
        "misrouted",
        "elif (method.exchange, method.routing_key) != (plan.exchange, plan.routing_key):",
        "elif False:",
        "test_a_message_with_another_routing_key_is_misrouted[classic-pika]",
    ),
    recording_there(
        "foreign is reported",
        "Incident(FindingName.FOREIGN, now_ns",
        "Incident(FindingName.CORRUPTED, now_ns",
        "test_messages_of_others_are_counted_and_left_in_the_queue[classic-vector]",
    ),
    consumer_there(
        "foreign is never acknowledged",
        "        if self._holds_some:\n",
        "        if False:\n",
        "test_messages_of_others_are_counted_and_left_in_the_queue[classic-vector]",
    ),
    recording_there(
        "ready messages that never come",
        "error=why_it_ended(error) if error else self._stuck",
        "error=why_it_ended(error) if error else None",
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
        "            mandatory=True,\n            frame_max",
        "            mandatory=False,\n            frame_max",
        "test_an_unroutable_message_is_returned_and_not_confirmed[classic-vector]",
    ),
    producer_there(
        "publishes are mandatory, one by one",
        "                mandatory=True,\n            )",
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
    rules_there(
        "vanished",
        "indeterminate & ~delivered",
        "nacked & ~delivered",
        "test_one_that_was_under_way_when_its_connection_ended_did_or_did_not_arrive"
        "[classic-vector-publish-vanished]",
    ),
    rules_there(
        "survived",
        "indeterminate & delivered",
        "nacked & delivered & False",
        "test_one_that_was_under_way_when_its_connection_ended_did_or_did_not_arrive"
        "[classic-vector-confirm-survived]",
    ),
    rules_there(
        "how many are stuck",
        "max(1, queue.drain.ready)",
        "1",
        "test_ready_messages_that_never_come_are_stuck_and_not_lost[classic]",
    ),
    isolation_there(
        "a queue that holds messages is no place for a run",
        "            topologies.require_free(endpoint, topology.queue_names)\n",
        "",
        "test_a_queue_that_holds_messages_is_no_place_for_a_run[classic-vector]",
    ),
    topology_there(
        "a queue that holds messages is not empty",
        "            if ready or consumers:\n",
        "            if consumers:\n",
        "test_a_queue_that_holds_messages_is_no_place_for_a_run[classic-vector]",
    ),
]


def unchanged(mutations: list[Mutation]) -> Mutation:
    """Switch nothing off, and run all tests that are to notice something."""
    tests = tuple(dict.fromkeys(test for each in mutations for test in each.tests))
    return Mutation("rmqbench.verdict.rules", "nothing", "", "", tests)


def name_of(change: Mutation) -> str:
    """Name a mutation by its module and the check that is off in it."""
    return f"{change.module.removeprefix('rmqbench.')}: {change.name}"


def require_noticed(ended, change):
    """One test failed, and no more is wrong than that."""
    print(ended.output)
    if ended.code == 0:
        pytest.fail(f"no test notices that this check is off: {name_of(change)}", pytrace=False)
    assert ended.failed == 1, f"it ended with {ended.code}, which is no failed test"


@pytest.mark.parametrize("change", WITHOUT_A_BROKER, ids=name_of)
def test_a_check_that_is_off_is_noticed(copy, change):
    require_noticed(copy.run(change), change)


@pytest.mark.parametrize("change", AGAINST_A_BROKER, ids=name_of)
def test_a_check_that_is_off_is_noticed_against_a_broker(copy, broker_environment, change):
    require_noticed(copy.run(change, broker_environment), change)


def test_where_nothing_is_off_nothing_is_noticed(copy):
    ended = copy.run(unchanged(WITHOUT_A_BROKER))
    assert ended.code == 0, ended.output


def test_where_nothing_is_off_nothing_is_noticed_against_a_broker(copy, broker_environment):
    ended = copy.run(unchanged(AGAINST_A_BROKER), broker_environment)
    assert ended.code == 0, ended.output


NO_IMPORT = rules(
    "none", "import numpy as np\n", "import nowhere\n", "test_missing_evidence_is_inconclusive"
)
NO_TEST = rules("none", "", "", "test_that_is_not_there")


@pytest.mark.parametrize("change", [NO_IMPORT, NO_TEST], ids=["import", "test"])
def test_what_could_not_run_has_noticed_nothing(copy, change):
    ended = copy.run(change)
    assert ended.code != 0
    assert ended.failed == 0


def test_nothing_but_the_copy_is_run(copy):
    ended = copy.run(unchanged([NO_IMPORT]), {"CHANGED_MODULE": "json"})
    assert "json was imported from" in ended.output
    assert ended.code != 0


@pytest.mark.parametrize("original", ["no such source", "import"])
def test_a_mutation_of_what_is_not_there_once_no_longer_applies(copy, original):
    with pytest.raises(pytest.fail.Exception, match="no longer applies: update it"):
        copy.run(replace(NO_IMPORT, original=original))
