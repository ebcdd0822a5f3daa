"""What a message must be like, and how its bytes are compared."""

from support.mutations.change import checks

message = checks("message", "unit/test_message.py")
shape = checks("amqp.shape", "unit/amqp/test_shape.py")
tail = checks("amqp.tail", "unit/amqp/test_shape.py")
wide = checks("amqp.wide", "unit/amqp/test_vector.py")
splitter = checks("amqp.vector", "unit/amqp/test_vector.py")
connection = checks("amqp.connection", "unit/amqp/test_connection.py")
received = checks("runner.received", "unit/runner/test_received.py")

CHANGED_HEADER = "test_every_changed_header_is_a_difference"
CUT_ANYWHERE = "test_a_stream_cut_anywhere_gives_the_same_and_loses_nothing"
BEFORE_END = "        self.before_end()\n"
KEPT_BACK = "test_what_is_kept_back_is_taken_before_the_end"
ANY_BYTE = "test_not_one_flipped_byte_of_a_delivery_passes_but_in_tag_and_flag"

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
        connection(f"what was kept back when it was {end}", BEFORE_END, "", f"{KEPT_BACK}[{end}]")
        for end in ("lost", "aborted")
    ),
    splitter(
        "that what is kept back comes once",
        "                        cutter.at = end\n",
        "                        pass\n",
        "test_a_large_message_comes_once_where_what_was_before_it_was_left",
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
