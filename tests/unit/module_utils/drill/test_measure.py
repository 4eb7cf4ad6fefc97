"""What is concluded from the records of a load: gaps, losses, second runs, verdicts."""

from __future__ import annotations

import base64
import json

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drill.measure import (
    HELD,
    IN_FLIGHT,
    MISSED,
    Measured,
    Request,
    Tick,
    bounds_text,
    in_flight,
    last_failure,
    longest_gap,
    lost,
    measure,
    missed,
    parse_results,
    parse_ticks,
    second_runs,
    steady_for,
    table,
    unclear,
)
from hypothesis import given
from hypothesis import strategies as st

MOMENTS = st.floats(min_value=0, max_value=1000, allow_nan=False)


def request(seq=0, began=0.0, took=0.01, error="", body=b""):
    return Request(seq, began, began + took, error, body)


def every(seconds, begin, end, error=""):
    """A request each so many seconds."""
    count = round((end - begin) / seconds)
    return [request(number, begin + number * seconds, error=error) for number in range(count)]


REQUESTS = st.lists(
    st.builds(
        request,
        seq=st.integers(0, 10_000),
        began=MOMENTS,
        took=st.floats(0, 30),
        error=st.sampled_from(["", "", "EOF"]),
    ),
    unique_by=lambda made: made.seq,
)


# --- records ---------------------------------------------------------------------------------------------------------


def test_records_of_vegeta():
    body = base64.b64encode(b'{"a": 1}').decode()
    text = (
        f"1700000001500000000,200,250000000,2,8,,{body},run,7,POST,https://x/,\n"
        '1700000000000000000,0,3000000000,0,0,"dial tcp: ""refused"", again",,run,6,POST,https://x/,\n'
    )
    earlier, later = parse_results(text, clock_ahead=10)
    assert (earlier.seq, later.seq) == (6, 7)
    assert later == Request(7, 1699999991.5, 1699999991.75, "", b'{"a": 1}')
    assert earlier.error == 'dial tcp: "refused", again'
    assert not earlier.acknowledged


def test_a_record_that_was_cut_off_is_no_record():
    assert parse_results("1700000001500000000,200,25000") == []


# --- gaps ------------------------------------------------------------------------------------------------------------


def test_the_gap_of_an_outage_is_what_a_caller_saw():
    requests = every(0.005, 0, 10) + every(0.005, 14, 20)
    assert longest_gap(requests, since=10.1, until=20) == pytest.approx(4.005)


def test_gaps_before_the_failure_do_not_count():
    requests = every(0.005, 0, 2) + every(0.005, 9, 20)
    assert longest_gap(requests, since=10, until=20) < 0.1


def test_what_never_resumes_is_a_gap_to_the_end():
    assert longest_gap(every(0.005, 0, 10), since=10, until=60) == pytest.approx(50, abs=0.1)


def test_nothing_acknowledged_at_all():
    assert longest_gap(every(0.1, 0, 60, error="refused"), since=10, until=60) == 50


def test_a_second_outage_counts_too():
    requests = every(0.1, 0, 10) + every(0.1, 12, 20) + every(0.1, 27, 40)
    assert longest_gap(requests, since=10, until=40) == pytest.approx(7.1, abs=0.01)


@given(REQUESTS, MOMENTS)
def test_no_gap_is_longer_than_the_load(requests, since):
    until = 1100.0
    gap = longest_gap(requests, since, until)
    assert 0 <= gap <= until
    if not any(made.acknowledged for made in requests):
        assert gap == until - since


@given(REQUESTS, REQUESTS, MOMENTS)
def test_more_acknowledgements_never_lengthen_the_gap(requests, more, since):
    assert longest_gap(requests + more, since, 1100.0) <= longest_gap(requests, since, 1100.0) + 1e-9 or (
        # The first acknowledgement of all moves the gap's beginning back, to where it can be seen.
        min((made.ended for made in more if made.acknowledged), default=since)
        < min((made.ended for made in requests if made.acknowledged), default=since)
    )


def test_recovery_ends_with_the_last_failure_before_the_healing():
    requests = [request(1, 5, error="x"), request(2, 12, took=2, error="x"), request(3, 30, error="x"), request(4, 13)]
    assert last_failure(requests, since=10, until=20) == pytest.approx(4)
    assert last_failure([request(1, 11)], since=10, until=20) == 0


# --- losses ----------------------------------------------------------------------------------------------------------


@given(REQUESTS, st.sets(st.integers(0, 10_000)))
def test_lost_is_acknowledged_and_not_stored(requests, stored):
    gone = set(lost(requests, stored))
    assert gone.isdisjoint(stored)
    for made in requests:
        assert (made.seq in gone) == (made.acknowledged and made.seq not in stored)


def test_a_write_that_failed_and_is_there_all_the_same_is_no_loss():
    assert lost([request(1, error="timeout"), request(2)], {1, 2}) == []


@given(REQUESTS, MOMENTS, MOMENTS)
def test_in_flight_are_those_that_overlap(requests, one, other):
    begin, end = min(one, other), max(one, other)
    outside = sum(made.ended < begin or made.began > end for made in requests)
    assert in_flight(requests, begin, end) + outside == len(requests)


def answer(began):
    return json.dumps({"result": {"began": began}}).encode()


def refusal(code):
    return json.dumps({"error": {"code": code, "message": "because"}}).encode()


@pytest.mark.parametrize(
    ("made", "twice"),
    [
        (request(1, 8, took=4, body=answer(8.01)), False),  # began before the failure, and went on
        (request(2, 8, took=4, body=answer(10.2)), True),  # its first run was lost with the pod
        (request(3, 9.9, took=2, body=answer(10.1)), False),  # may have waited for a place
        (request(4, 11, took=2, body=answer(11.1)), False),  # came later
        (request(5, 8, took=4, error="500 Internal Server Error"), False),  # was told
        (request(6, 8, took=4, body=b"not json"), False),
        (request(7, 8, took=4, error="500", body=refusal("INTERNAL_ERROR")), False),
        # A client that believes it sends it again.
        (request(8, 8, took=4, error="503", body=refusal("UNAVAILABLE")), True),
        (request(9, 9.9, took=2, error="503", body=refusal("UNAVAILABLE")), False),
        (request(10, 11, took=2, error="503", body=refusal("UNAVAILABLE")), False),
    ],
)
def test_a_run_that_begins_after_the_failure_is_a_second_one(made, twice):
    assert bool(second_runs([made], failed_at=10, margin=0.5)) is twice


@pytest.mark.parametrize(
    ("body", "clear"),
    [
        (b'{"error": {"code": "INTERNAL_ERROR", "message": "the runtime was lost"}}', True),
        (b'{"error": {"message": "no code"}}', False),
        (b"upstream connect error", False),
        (b"[1]", False),
        (b"", False),
    ],
)
def test_an_error_is_clear_if_it_has_a_code(body, clear):
    assert bool(unclear([request(error="500", body=body)])) is not clear


# --- bounds ----------------------------------------------------------------------------------------------------------


def measured(**changed):
    given_ = {
        "sent": 100,
        "acknowledged": 98,
        "failed": 2,
        "in_flight": 3,
        "longest_gap_seconds": 4.2,
        "last_failure_seconds": 6.0,
        "lost": 0,
        "unclear": 0,
        "second_runs": 0,
    }
    return Measured(**{**given_, **changed})


@pytest.mark.parametrize(
    ("bounds", "changed", "kept"),
    [
        ({"resumes_within_seconds": 5.0}, {}, True),
        ({"resumes_within_seconds": 4.0}, {}, False),
        ({"recovers_within_seconds": 6.0}, {}, True),
        ({"recovers_within_seconds": 5.9}, {}, False),
        ({"lost_at_most": 0}, {}, True),
        ({"lost_at_most": 0}, {"lost": 1}, False),
        ({"lost_at_most": 0}, {"lost": None}, False),
        ({"failed_at_most": "2"}, {}, True),
        ({"failed_at_most": "1"}, {}, False),
        ({"failed_at_most": IN_FLIGHT}, {}, True),
        ({"failed_at_most": IN_FLIGHT}, {"failed": 4}, False),
        ({"unclear_at_most": 0}, {"unclear": 1}, False),
        ({"second_runs_at_most": 0}, {"second_runs": 1}, False),
        ({"second_runs_at_most": 0}, {"second_runs": None}, False),
        ({"resumes_within_seconds": None, "lost_at_most": None, "failed_at_most": None}, {"failed": 100}, True),
    ],
)
def test_bounds(bounds, changed, kept):
    assert (missed(measured(**changed), bounds) == []) is kept


@given(
    st.fixed_dictionaries(
        {}, optional={"resumes_within_seconds": MOMENTS, "recovers_within_seconds": MOMENTS, "lost_at_most": st.just(0)}
    )
)
def test_every_bound_that_can_be_missed_is_named_in_the_table(bounds):
    bad = measured(longest_gap_seconds=2000.0, last_failure_seconds=2000.0, lost=5)
    assert len(missed(bad, bounds)) == len(bounds)
    assert (bounds_text(bounds) == "") is (bounds == {})


def test_a_whole_run():
    requests = every(0.005, 0, 10) + [
        request(9000 + number, 10 + number, took=3, error="i/o timeout") for number in range(4)
    ]
    requests += [request(5000 + made.seq, made.began) for made in every(0.005, 14, 30)]
    stored = {made.seq for made in requests if made.acknowledged} - {3}
    found = measure(requests, (10.0, 10.1), healed=20.0, until=30.0, stored=stored)
    assert (found.sent, found.failed, found.lost, found.second_runs) == (len(requests), 4, 1, None)
    assert found.longest_gap_seconds == pytest.approx(4, abs=0.02)
    assert found.last_failure_seconds == pytest.approx(6)
    assert found.errors == ["4 x i/o timeout"]


def test_an_error_at_many_addresses_is_one():
    errors = [f'Get "https://localhost:8443/api/v1/sessions/{number}": TLS handshake timeout' for number in range(3)]
    requests = [request(number, number, error=error) for number, error in enumerate(errors)]
    assert measure(requests, (0.0, 0.1), healed=5.0, until=5.0).errors == ["3 x TLS handshake timeout"]


def test_the_table_is_aligned_and_shows_what_was_not_measured_as_nothing():
    rows = [
        {
            "drill": "Redis master killed",
            "load": "redis 200/s",
            "bounds": "resumes in 5 s, 0 lost",
            "verdict": HELD,
            **vars(measured()),
        },
        {"drill": "node drained", "load": "edge 50/s", "bounds": "0 fail", "verdict": MISSED},
    ]
    lines = table(rows)
    assert len(lines) == 4
    assert lines[2].split()[-1] == HELD
    assert "4.2 s" in lines[2]
    begin = lines[0].index("verdict")
    assert all(line[begin - 2 : begin] == "  " for line in lines)
    assert lines[3][begin:] == MISSED


# --- a load under way ------------------------------------------------------------------------------------------------


def test_progress_among_other_lines():
    log = 'load: warming up\n{"at": 5.5, "acknowledged": 10, "failed": 1, "last_error": "EOF"}\n{"x": 1}\n7\n'
    assert parse_ticks(log) == [Tick(5.5, 10, 1, "EOF")]


def ticks(*counts):
    return [Tick(float(second), acknowledged, failed) for second, (acknowledged, failed) in enumerate(counts)]


@pytest.mark.parametrize(
    ("seen", "seconds"),
    [
        ([], 0),
        (ticks((200, 0)), 0),
        (ticks((0, 0), (200, 0), (400, 0), (600, 0)), 3),
        (ticks((0, 0), (200, 5), (400, 5), (600, 5)), 2),
        (ticks((0, 0), (200, 0), (400, 0), (400, 0)), 0),
        (ticks((0, 0), (20, 0), (220, 0), (405, 0)), 2),
    ],
)
def test_steady_is_served_without_a_failure_up_to_now(seen, seconds):
    assert steady_for(seen, rate=200) == seconds
