"""The same bytes, cut in every way hypothesis thinks of."""

from itertools import pairwise

from hypothesis import strategies as st


@st.composite
def cuts_of(draw: st.DrawFn, content: bytes) -> list[bytes]:
    """`content` in pieces; some of them may be empty."""
    places = draw(st.lists(st.integers(0, len(content)), max_size=12))
    edges = [0, *sorted(places), len(content)]
    return [content[a:b] for a, b in pairwise(edges)]
