from string import Template

import pytest

from jangin.examples.prompts import PROMPTS, Prompt, find_prompt

VALUES = {
    "source": "handbook.pdf",
    "section": "제12조",
    "text": "연차휴가는 15일 $text {}",
    "count": 3,
    "question": "연차는?",
    "answer": "15일",
    "problem": "pairs: Field required",
    "system": "",
}


def ids(prompt):
    return f"{prompt.name}-{prompt.language}"


def test_every_prompt_is_there_in_korean_and_in_english_once():
    assert sorted(map(ids, PROMPTS)) == sorted(
        f"{name}-{language}"
        for name in {prompt.name for prompt in PROMPTS}
        for language in ("ko", "en")
    )


@pytest.mark.parametrize("prompt", PROMPTS, ids=ids)
def test_a_prompt_is_filled_in_completely_and_values_are_taken_as_they_are(prompt):
    system, user = prompt.messages(**VALUES)
    assert (system.role, user.role) == ("system", "user")
    for name in Template(prompt.user).get_identifiers():
        assert str(VALUES[name]) in user.content
    if "text" in Template(prompt.user).get_identifiers():
        assert user.content.count("$text") == 1


@pytest.mark.parametrize("prompt", PROMPTS, ids=ids)
def test_both_languages_fill_in_the_same_values(prompt):
    for other in PROMPTS:
        if other.name == prompt.name:
            for part in ("system", "user"):
                texts = (getattr(prompt, part), getattr(other, part))
                assert len({frozenset(Template(t).get_identifiers()) for t in texts}) == 1


def test_a_missing_value_is_an_error_and_not_a_hole():
    with pytest.raises(KeyError, match="text"):
        find_prompt("synthesize", "ko").messages(source="", section="", count=1)


@pytest.mark.parametrize(("language", "found"), [("ko", "ko"), ("en", "en"), ("fr", "en")])
def test_a_language_without_prompts_gets_the_english_ones(language, found):
    assert find_prompt("paraphrase", language).language == found


def test_a_digest_is_of_the_wording_alone():
    prompt = Prompt("a", "en", "system", "user")
    assert Prompt("b", "ko", "system", "user").digest == prompt.digest
    assert Prompt("a", "en", "system", "user ").digest != prompt.digest
    assert Prompt("a", "en", "systemu", "ser").digest != prompt.digest
