from hypothesis import given
from hypothesis import strategies as st

from itera_nb.scoring.limiter import COOLDOWN_S, CUT, START, USED, Limiter


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def limiter(ceiling, **options):
    clock = Clock()
    return Limiter(ceiling, clock=clock, **options), clock


def fill(one):
    while one.free:
        one.begin()


def clean_round(one):
    """As many answers as the limit is, with all places taken."""
    for _ in range(one.limit):
        fill(one)
        one.end()
        one.answered()


def test_the_limit_doubles_until_the_first_rate_limit_then_creeps():
    one, clock = limiter(200)
    seen = [one.limit]
    for _ in range(3):
        clean_round(one)
        seen.append(one.limit)
    assert seen == [START, 2 * START, 4 * START, 8 * START]
    assert one.rate_limited()
    assert one.limit == int(8 * START * CUT)
    clock.now += COOLDOWN_S
    clean_round(one)
    assert one.limit == round(int(8 * START * CUT) * 1.05)


def test_a_burst_of_rate_limits_is_one_cut():
    one, clock = limiter(20)
    assert [one.rate_limited() for _ in range(5)] == [True, False, False, False, False]
    clock.now += COOLDOWN_S
    assert one.rate_limited()
    assert one.limit == int(int(START * CUT) * CUT)


def test_a_limit_that_is_not_used_does_not_grow():
    one, _ = limiter(100)
    for _ in range(10 * START):
        one.begin()
        one.end()
        one.answered()
    assert one.limit == START


def test_other_failures_hold_growth_up_but_do_not_cut():
    one, _ = limiter(100)
    for _ in range(5 * START):
        fill(one)
        one.end()
        one.answered()
        one.end()
        one.faltered()
    assert one.limit == START


def test_a_fixed_limit_stays():
    one, _ = limiter(64, adaptive=False)
    assert one.limit == 64
    assert not one.rate_limited()
    clean_round(one)
    assert one.limit == 64


@given(
    st.integers(1, 80),
    st.lists(
        st.tuples(st.sampled_from(["begin", "answered", "rate_limited", "faltered"]), st.floats(0, 9)),
        max_size=400,
    ),
)
def test_whatever_happens_the_limit_keeps_its_rules(ceiling, events):
    one, clock = limiter(ceiling)
    most, cut_at = 0, -COOLDOWN_S
    for event, seconds in events:
        clock.now += seconds
        before = one.limit
        if event == "begin":
            if one.free:
                one.begin()
                most = max(most, one.in_flight)
            continue
        if one.in_flight:
            one.end()
        changed = getattr(one, event)()
        assert 1 <= one.limit <= ceiling
        assert bool(changed) == (one.limit != before)
        if one.limit < before:
            assert event == "rate_limited"
            assert clock.now >= cut_at + COOLDOWN_S
            assert one.limit >= int(before * CUT)
        if one.limit > before:
            assert event == "answered"
            assert clock.now >= cut_at + COOLDOWN_S
            assert most >= USED * before
        if event == "rate_limited" and one.limit < before:
            cut_at = clock.now
        if one.limit != before:
            most = one.in_flight
