"""What only a broker shows: these need one."""

from support.mutations.change import checks

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
        "elif way:",
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
        "if self._held or self._settler is not None:",
        "if False:",
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
        "indeterminate & ~came",
        "nacked & ~came",
        "test_one_that_was_under_way_when_its_connection_ended_did_or_did_not_arrive"
        "[classic-vector-publish-vanished]",
    ),
    rules_there(
        "survived",
        "indeterminate & came",
        "nacked & came & False",
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
        "            topologies.require_free(endpoint, names)\n",
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
