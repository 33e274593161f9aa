from hypothesis import given
from hypothesis import strategies as st

from jangin.text.dedup.components import first_connected


@st.composite
def graphs(draw):
    count = draw(st.integers(0, 12))
    ends = st.integers(0, max(0, count - 1))
    return count, draw(st.lists(st.tuples(ends, ends), max_size=12)) if count else []


@given(graphs())
def test_the_first_index_that_pairs_lead_to_is_found(graph):
    count, pairs = graph
    firsts = list(range(count))
    for _ in range(count):
        for left, right in pairs:
            firsts[left] = firsts[right] = min(firsts[left], firsts[right])
    assert first_connected(pairs, count).tolist() == firsts


def test_an_index_without_a_pair_is_its_own_component():
    assert first_connected([(3, 1), (1, 4)], 6).tolist() == [0, 1, 2, 1, 1, 5]
