"""The plan of a batch: the quick way, where nothing of it is stored yet, plans what the way of each result plans."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from ricloud_connector.listed import Listed
from ricloud_connector.model import AVAILABLE, CONSUMED, Proven, Rejection, Result, SignedUrl
from ricloud_connector.plan import plan_batch

MOMENT = datetime(2026, 11, 20, tzinfo=UTC)

results = st.builds(
    lambda name, state, checksum, size, url: Result(name, name, state, MOMENT, checksum, size, signed_url=url),
    st.sampled_from("abcdef"),
    st.sampled_from([AVAILABLE, AVAILABLE, CONSUMED]),
    st.sampled_from(["0" * 32, "1" * 32, None]) | st.just("0" * 32),
    st.sampled_from([7, None]) | st.just(7),
    st.sampled_from([None, SignedUrl("https://host/a", None)]),
)
items = results | st.sampled_from("abxy").map(lambda name: Rejection(name, "malformed", "no date"))


@given(st.lists(items, max_size=8), st.sampled_from([AVAILABLE, CONSUMED]))
def test_a_batch_of_which_nothing_is_stored(found, state):
    batch = Listed.of(found)
    quick, each = plan_batch(batch, {}, state=state), plan_batch(batch, {"z": Proven("0" * 32, 7)}, state=state)
    assert quick == each
    wanted = {result.id: result for result in found if isinstance(result, Result)}
    assert {result.id for result in quick.fetch.results()} == {
        name
        for name, result in wanted.items()
        if result.state == state and result.checksum and result.size is not None and (state == AVAILABLE or result.signed_url)
    }
    assert not len(quick.stored)
