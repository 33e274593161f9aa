"""What the page of one row shows."""

from jangin.report.i18n.translate import Words
from jangin.serving.pages.review.routes import REASON_LETTERS, make_screen
from tests.examples.reviews.test_index import PASSAGE, make_index, make_row


def test_a_row_whose_chunk_is_gone_says_so_and_can_be_decided_on(tmp_path):
    here, gone = make_row(1), make_row(2, chunk_ids=("gone",), evidence="없어진 글")
    index = make_index(tmp_path, [here, gone])
    shown = {row.id: make_screen(index, row.id, "kim", Words("ko"), ()) for row in (here, gone)}
    assert not shown[here.id].passage_is_gone
    assert "".join(part.text for part in shown[here.id].parts) == PASSAGE
    assert shown[gone.id].passage_is_gone
    assert shown[gone.id].parts == ()
    assert shown[gone.id].wording.evidence == "없어진 글"
    index.save([shown[gone.id].item.decide("accept", "kim")])
    assert index.counts["accept"] == 1


def test_reasons_have_letters_that_no_other_key_of_the_page_has():
    letters = set(REASON_LETTERS.values()) - {REASON_LETTERS["duplicate"]}
    assert REASON_LETTERS["duplicate"] == "d"
    assert letters.isdisjoint("aersjkuf12345/?")
