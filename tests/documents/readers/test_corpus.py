"""Every file of the corpus gives the text that a person reads in it."""

import pytest

from jangin.core.events import Progress
from jangin.core.ledger import Ledger
from jangin.documents.formats import format_of
from jangin.documents.readers.reader import ReaderSettings, SourceFile
from tests.documents.corpus.every import all_cases

CASES = all_cases()


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.sqlite")
    yield ReaderSettings(ledger, Progress())
    ledger.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_file_is_read_as_a_person_reads_it(case, settings, tmp_path):
    path = tmp_path / case.name
    path.write_bytes(case.data)
    pages = format_of(path.suffix).read(SourceFile(case.name, path, "0" * 64), settings)
    assert "\n\n".join(page.text for page in pages) == case.text
