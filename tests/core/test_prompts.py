from string import Template

import pytest

from jangin.core.prompts import Prompt, Prompts, Wording, wording_problems

PROMPTS = Prompts().all()

TEXT = "연차휴가는 15일 $text {}"


def values_of(prompt):
    """Something to fill in for every field, with signs in it that must stay as they are."""
    return {name: f"{name}: {TEXT}" for name in prompt.fields}


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
    *system, user = prompt.messages(**values_of(prompt))
    assert [turn.role for turn in system] == (["system"] if prompt.system else [])
    assert user.role == "user"
    for name in Template(prompt.user).get_identifiers():
        assert f"{name}: {TEXT}" in user.content


@pytest.mark.parametrize("prompt", PROMPTS, ids=ids)
def test_both_languages_fill_in_the_same_values(prompt):
    for other in PROMPTS:
        if other.name == prompt.name:
            for part in ("system", "user"):
                texts = (getattr(prompt, part), getattr(other, part))
                assert len({frozenset(Template(t).get_identifiers()) for t in texts}) == 1


def test_a_missing_value_is_an_error_and_not_a_hole():
    with pytest.raises(KeyError, match="text"):
        Prompts().find("synthesize", "ko").messages(source="", section="", count=1)


@pytest.mark.parametrize(("language", "found"), [("ko", "ko"), ("en", "en"), ("fr", "en")])
def test_a_language_without_prompts_gets_the_english_ones(language, found):
    assert Prompts().find("paraphrase", language).language == found


def test_a_digest_is_of_the_wording_alone():
    prompt = Prompt("a", "en", "system", "user")
    assert Prompt("b", "ko", "system", "user").digest == prompt.digest
    assert Prompt("a", "en", "system", "user ").digest != prompt.digest
    assert Prompt("a", "en", "systemu", "ser").digest != prompt.digest


OWN = {"paraphrase": {"ko": Wording(system="", user="$question / $answer / $count")}}


def test_a_projects_own_wording_comes_first_and_the_other_languages_stay():
    prompts = Prompts(OWN)
    assert prompts.find("paraphrase", "ko").user == "$question / $answer / $count"
    assert prompts.find("paraphrase", "en") == Prompts().find("paraphrase", "en")
    assert prompts.digest("paraphrase") != Prompts().digest("paraphrase")
    assert prompts.digest("synthesize") == Prompts().digest("synthesize")


def test_an_empty_system_text_makes_no_system_turn():
    turns = Prompts(OWN).find("paraphrase", "ko").messages(question="Q", answer="A", count=2)
    assert [(turn.role, turn.content) for turn in turns] == [("user", "Q / A / 2")]


@pytest.mark.parametrize(
    ("own", "where", "said"),
    [
        ({"paraphase": {}}, ("paraphase",), "prompts.paraphase: "),
        ({"paraphrase": {"ko": ("", "$question $answer")}}, ("paraphrase", "ko"), "$count is"),
        (
            {"paraphrase": {"en": ("$tone", "$question $answer $count")}},
            ("paraphrase", "en"),
            "$tone",
        ),
        (
            {"paraphrase": {"en": ("5 $ each", "$question $answer $count")}},
            ("paraphrase", "en"),
            "single $",
        ),
    ],
)
def test_a_wording_that_cannot_be_filled_in_is_named(own, where, said):
    wordings = {
        name: {lang: Wording(system=w[0], user=w[1]) for lang, w in languages.items()}
        for name, languages in own.items()
    }
    ((location, text),) = wording_problems(wordings)
    assert location == where
    assert said in text


def test_a_dollar_sign_is_written_twice():
    own = {"repair": {"en": Wording(system="", user="$$5: $problem")}}
    assert list(wording_problems(own)) == []
    (turn,) = Prompts(own).find("repair", "en").messages(problem="x")
    assert turn.content == "$5: x"
