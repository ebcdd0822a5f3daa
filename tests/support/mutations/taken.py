"""What clients make of confirms and deliveries."""

from support.mutations.change import checks

producer = checks("clients.producer", "unit/clients/test_producer.py")
confirms = checks("clients.producer", "unit/clients/test_confirms.py")
recording = checks("clients.recording_consumer", "unit/clients/test_recording_consumer.py")
consumer = checks("clients.consumer", "unit/clients/test_recording_consumer.py")

CONTRADICTED = "test_what_is_said_twice_is_reported_each_time"

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
        "        self._recorder.send(sequences, self._channels, now_ns, lag_ns)\n",
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
