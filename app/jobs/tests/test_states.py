"""The table of states is complete."""

from app.jobs.states import FINAL, NOTES, TRANSITIONS, MediaEvent, MediaStatus, chart


def test_every_event_is_in_the_table_or_only_recorded():
    assert set(TRANSITIONS) | NOTES == set(MediaEvent)
    assert not set(TRANSITIONS) & NOTES


def test_only_a_retry_leads_out_of_a_final_state_and_none_out_of_success():
    out = {event for event, transition in TRANSITIONS.items() if transition.sources & FINAL}

    assert out == {MediaEvent.RETRY_ASKED}
    assert MediaStatus.COMPLETED not in TRANSITIONS[MediaEvent.RETRY_ASKED].sources


def test_every_state_that_is_not_final_can_be_left():
    left = frozenset().union(*(transition.sources for transition in TRANSITIONS.values()))

    assert left >= set(MediaStatus) - FINAL


def test_chart_shows_every_event():
    assert all(f": {event}" in chart() for event in TRANSITIONS)
