"""A queue counts as empty only when it has said so, to nobody else's benefit, for long enough."""

import pytest
from support.asking import AWAY, GONE, REFUSED, SILENT, answering
from support.clocks import ToldClock

from rmqbench.amqp.network import Network
from rmqbench.endpoint import Endpoint
from rmqbench.runner.emptiness import SETTLE_S, Patience, Prover
from rmqbench.verdict.evidence import Drain

HALF_OPEN_S = 95.0
COUNTED = {"counted": True}


@pytest.fixture
def answers(monkeypatch):
    return answering(monkeypatch)


@pytest.fixture
def clock():
    return ToldClock()


@pytest.fixture
def prove(answers, clock):
    """Ask a queue that gives these answers; return what came of it and how long it took."""
    prover = Prover(Endpoint(), "work.queue", Network(clock.clock), heartbeat_s=30)

    def prove(
        *given,
        certain_in_s=0.0,
        patience_s=2.0,
        away_s=2.0,
        others_s=2.0,
        still_s=SETTLE_S,
        back=None,
    ):
        answers.say(*given)
        began = clock.now
        if back is not None:
            prover.expect_back(began, **back)
        drain = prover.prove(
            Patience(
                certain_at=began + certain_in_s,
                until=began + patience_s,
                away_s=away_s,
                others_until=began + others_s,
                still_s=still_s,
            )
        )
        return drain, clock.now - began

    return prove


def test_an_empty_queue_is_proven_once_its_answer_has_held_still(prove):
    drain, took_s = prove((0, 0))
    assert drain == Drain(True)
    assert took_s >= 0.5


def test_it_must_hold_still_for_as_long_as_is_asked(prove):
    drain, took_s = prove((0, 0), still_s=20)
    assert drain.proven
    assert took_s >= 20
    assert not prove(*[(0, 0)] * 70, (1, 0), still_s=20)[0].proven


def test_a_ready_message_is_no_proof(prove):
    assert prove((3, 0))[0] == Drain(False, 3, "3 messages are still ready in it")


def test_a_ready_message_that_shows_late_is_no_proof(prove):
    assert prove((0, 0), (0, 0), (2, 0))[0].ready == 2


def test_no_answer_is_believed_before_it_can_be_certain(prove):
    drain, took_s = prove((0, 0), certain_in_s=8)
    assert drain.proven
    assert took_s >= 8
    early_zeros = [(0, 0)] * 20
    assert not prove(*early_zeros, (7, 0), certain_in_s=8)[0].proven


def test_an_answer_is_as_old_as_its_question(prove, clock):
    """Given while no answer was certain, and read when it could have been."""

    def late():
        clock.now += 9
        return 0, 0

    early_zeros = [(0, 0)] * 4
    assert not prove(*early_zeros, late, (7, 0), certain_in_s=8)[0].proven


def test_a_link_that_breaks_while_a_half_open_channel_is_waited_for_is_made_again(prove):
    drain, _ = prove(*[(0, 0)] * 100, AWAY, (0, 0), back={}, patience_s=2)
    assert drain.proven


@pytest.mark.parametrize("answer", [AWAY, (0, 0, SILENT)], ids=["away", "silent"])
def test_a_queue_that_never_answers_is_given_up_however_long_it_was_to_be_waited_for(prove, answer):
    drain, took_s = prove(answer, back={}, patience_s=2)
    assert not drain.proven
    assert took_s < HALF_OPEN_S + 15


def taking(clock, seconds, answer=(0, 0)):
    """Return an answer that takes so long."""

    def late():
        clock.now += seconds
        return answer

    return late


@pytest.fixture
def slow(clock):
    """An answer that comes when RabbitMQ does not wait for a quorum queue's figures any more."""
    return taking(clock, 0.25)


@pytest.mark.parametrize("took_s", [0.0, 0.19])
def test_an_answer_that_is_quick_knows_of_the_consumer_of_a_half_open_channel(prove, clock, took_s):
    drain, proven_after_s = prove(taking(clock, took_s), back=COUNTED)
    assert drain.proven
    assert proven_after_s < 3


@pytest.mark.parametrize("link_s", [0.0, 0.4])
def test_a_slow_answer_may_not_know_of_it_and_is_not_believed(prove, slow, answers, link_s):
    """Of a slow link it is not known which answer was quick."""
    answers.link_s = link_s
    drain, took_s = prove(slow, back=COUNTED)
    assert drain.proven
    assert HALF_OPEN_S <= took_s < HALF_OPEN_S + 1
    assert not prove(*[slow] * 50, (0, 1), back=COUNTED)[0].proven
    assert not prove(*[slow] * 50, (3, 0), back=COUNTED)[0].proven


def test_where_no_channel_ended_out_of_order_an_answer_may_take_its_time(prove, slow):
    drain, took_s = prove(slow)
    assert drain.proven
    assert took_s < 2


@pytest.mark.parametrize("back", [{}, COUNTED], ids=["cancelled", "counted"])
def test_a_queue_that_is_gone_holds_nothing_however_long_it_takes_to_say_so(
    prove, slow, clock, back
):
    drain, took_s = prove(slow, taking(clock, 0.25, GONE), back=back)
    assert drain == Drain(True, there=False)
    assert took_s < 2


@pytest.mark.parametrize(
    ("said", "looks"),
    [
        ([(0, 0)], 0),
        ([(3, 0)], 0),
        ([(0, 0, REFUSED)], 0),
        ([(0, 0, 5)], 1),
        ([(0, 0, SILENT), (0, 0)], 1),
        ([(0, 0, SILENT), (0, 0, SILENT), (0, 0)], 2),
        ([(0, 0, 5, SILENT), (0, 0)], 1),
        ([AWAY, (0, 0)], 0),
    ],
)
def test_it_says_how_many_messages_it_may_have_been_given(prove, said, looks):
    """The queue counts each against its delivery limit."""
    assert prove(*said, patience_s=60)[0].looks == looks


def test_somebody_else_s_consumer_is_no_proof(prove):
    drain, took_s = prove((0, 2))
    assert drain == Drain(False, 0, "2 consumers that are not ours are still there")
    assert 2 <= took_s < 3


@pytest.mark.parametrize(("answer", "waits_s"), [((0, 1), 30), (AWAY, 2), ((0, 0, SILENT), 2)])
def test_the_end_of_others_is_waited_for_longer_than_an_answer(prove, answer, waits_s):
    drain, took_s = prove(answer, patience_s=2, others_s=30)
    assert not drain.proven
    assert waits_s <= took_s < waits_s + 11  # the last question may go without an answer


def test_a_consumer_that_goes_away_in_time_is_waited_for(prove):
    drain, took_s = prove((0, 1), (0, 1), (0, 0))
    assert drain.proven
    assert took_s >= 1


def test_an_answer_between_two_troubles_is_no_proof(prove):
    drain, took_s = prove((0, 0), (0, 1), (0, 0), (0, 1), (0, 0))
    assert drain.proven
    assert 1.5 <= took_s < 2, "it must hold still anew after each trouble"


def test_a_queue_that_could_not_be_asked_may_have_been_restarted_and_is_not_believed_at_once(prove):
    drain, took_s = prove((0, 0), AWAY, (0, 0), patience_s=30)
    assert drain.proven
    assert 8 <= took_s < 9
    early_zeros = [(0, 0)] * 20
    assert prove(AWAY, *early_zeros, (7, 0), patience_s=30)[0].ready == 7


def test_a_queue_that_cannot_be_asked_is_no_proof(prove):
    drain, took_s = prove(AWAY, patience_s=30)
    assert drain == Drain(False, 0, "it could not be asked (Nobody is there.)")
    assert 30 <= took_s < 31
    assert prove(AWAY, AWAY, AWAY, (0, 0))[0].proven


def test_a_link_that_breaks_is_made_again_however_late_it_is(prove, clock):
    late = taking(clock, 10, AWAY)
    assert prove(late, (0, 0))[0].proven
    assert prove(late, late, (0, 0))[0].proven, "the way to the broker broke twice"
    assert not prove(late, late, late, (0, 0))[0].proven


def test_an_answer_that_stays_away_in_between_is_waited_for_as_long_as_one_at_first(prove):
    """However long it had answered before."""
    answered = [(0, 0)] * 100
    assert prove(*answered, *[AWAY] * 80, (0, 0), still_s=60, away_s=30)[0].proven
    assert not prove(*answered, *[AWAY] * 200, (0, 0), still_s=60, away_s=30)[0].proven
    assert not prove(*[AWAY] * 80, (0, 0), still_s=60, away_s=30)[0].proven, "it never answered"


@pytest.mark.parametrize("broken", [AWAY, (0, 0, SILENT)], ids=["away", "silent"])
def test_a_link_that_breaks_again_and_again_is_given_up(prove, broken):
    drain, took_s = prove(*[broken, (0, 0)] * 5000, away_s=30)
    assert not drain.proven
    assert took_s < 2 * HALF_OPEN_S + 60


def test_a_queue_that_does_not_exist_holds_nothing(prove):
    assert prove(GONE)[0] == Drain(True, there=False)


# --- statistics that nobody stands behind ---------------------------------------------------------


def test_a_message_that_only_a_get_shows_is_no_proof_and_is_given_back(prove, answers):
    drain, _ = prove((0, 0, 5))
    assert drain == Drain(False, 5, "5 messages are still ready in it", looks=1)
    assert (answers.got, answers.given_back) == (1, 1)


@pytest.mark.parametrize("lost", [(0, 0, SILENT), (0, 0, 5, SILENT)], ids=["get", "return"])
def test_a_message_that_a_get_of_ours_may_hold_is_waited_for(prove, lost):
    """On a connection that is half-open: its broker has not noticed yet."""
    drain, took_s = prove(lost, (0, 0), patience_s=30)
    assert drain.proven
    assert HALF_OPEN_S <= took_s < HALF_OPEN_S + 11
    assert not prove(lost, *[(0, 0)] * 300, (1, 0), patience_s=30)[0].proven


def test_its_own_connection_has_the_heartbeat_by_which_it_waits(answers, clock):
    prover = Prover(Endpoint(), "work.queue", Network(clock.clock), heartbeat_s=7)
    prover.prove(Patience(0.0, clock.now, 0.0, clock.now))
    assert answers.heartbeat_s == 7
    assert prover.half_open_s == 3 * 7 + 5


def test_what_a_half_open_channel_may_hold_is_waited_for_in_each_proof_until_it_is_back(prove):
    assert not prove(*[(0, 0)] * 200, (1, 0), back={})[0].proven
    drain, took_s = prove((0, 0))
    assert drain.proven
    assert 40 < took_s < 50, "it takes from the time that the channel ended"
    assert prove((0, 0))[1] < 1


def test_a_queue_whose_leader_is_silent_is_no_proof_though_its_figures_are_zeros(prove):
    drain, _ = prove((0, 0, SILENT))
    assert not drain.proven
    assert "it could not be asked" in drain.detail


def test_where_a_get_is_refused_the_declared_answer_stands(prove):
    """A quorum queue with a single active consumer refuses it: its leader is there."""
    assert prove((0, 0, REFUSED))[0] == Drain(True)
    assert prove((0, 0, REFUSED), (2, 0))[0] == Drain(False, 2, "2 messages are still ready in it")


def test_where_a_get_is_refused_and_the_declared_answer_was_slow_nothing_is_known(prove, clock):
    """The zeros may be nobody's, and what is ready cannot be asked for."""
    refused = taking(clock, 0.25, (0, 0, REFUSED))
    drain, took_s = prove(refused)
    assert drain == Drain(False, 0, "its leader is too busy to say what it holds")
    assert 30 <= took_s < 31, "it is asked for a while"
    drain, took_s = prove(refused, back=COUNTED)
    assert not drain.proven
    assert HALF_OPEN_S <= took_s < HALF_OPEN_S + 5
    assert prove(*[refused] * 50, (0, 0, REFUSED))[0].proven
    assert prove(*[refused] * 50, (2, 0))[0].ready == 2


def test_what_a_busy_leader_does_not_say_takes_nothing_from_what_it_said(prove, clock):
    quick, busy = (taking(clock, took_s, (0, 0, REFUSED)) for took_s in (0.1, 0.25))
    drain, took_s = prove(*[quick, busy] * 50)
    assert drain.proven
    assert took_s < 2
    assert not prove(*[quick, busy] * 50, busy, still_s=60)[0].proven, "not what it says itself"


@pytest.mark.parametrize("over_s", [0.19, 0.21])
def test_on_a_slow_link_a_leader_is_busy_that_takes_longer_than_the_link(
    prove, clock, answers, over_s
):
    answers.link_s = 0.4
    drain, _ = prove(taking(clock, 0.4 + over_s, (0, 0, REFUSED)))
    assert drain.proven == (over_s < 0.2)


@pytest.mark.parametrize("answer", [(3, 0), (0, 1)], ids=["ready", "other"])
def test_nothing_is_taken_from_a_queue_that_is_not_empty_or_not_alone(prove, answers, answer):
    prove(answer)
    assert answers.got == 0


def test_each_answer_that_is_believed_came_with_a_get(prove, answers):
    prove((0, 0))
    assert answers.got == answers.asked >= 2
