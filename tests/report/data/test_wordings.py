import pytest

from jangin.report.data.wordings import means_of
from jangin.report.i18n.translate import Words
from jangin.text.wordings import MOST_ALIKE, WordingSimilarity

CLOSEST = {
    "en": "closest to what users will see",
    "ko": "사용자가 실제로 겪을 정답률에 가장 가깝습니다",
}
REMEDY = "held_out_styles: 1"


@pytest.mark.parametrize("language", ["ko", "en"])
@pytest.mark.parametrize("name", ["held_out_paraphrases", "held_out_styles"])
def test_only_wordings_unlike_the_trained_ones_are_called_closest_to_users(language, name):
    words = Words(language)
    unlike = means_of(name, {name: WordingSimilarity(40, 0.35, 0.1)}, words)
    assert CLOSEST[language] in unlike
    assert "40" in unlike
    assert REMEDY not in unlike
    alike = means_of(name, {name: WordingSimilarity(40, 0.6, MOST_ALIKE)}, words)
    assert CLOSEST[language] not in alike
    assert REMEDY in alike
    assert "test_questions.jsonl" in alike
    unknown = means_of(name, {}, words)
    assert CLOSEST[language] not in unknown
    assert unknown == words(f"means_{name}")
