"""Words tokenized once give what the tokenizer gives for whole texts, or are left to it."""

import copy
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from jangin.models.tokens import rendering
from jangin.models.tokens.rendering import (
    ESCAPE,
    FEW,
    ROWS_PER_BATCH,
    encode_plain,
    open_cached_tokenizer,
)

SPECIAL = ["<|bos|>", "<|end|>", "<|user|>"]
CORPUS = [
    "연차휴가는 언제 신청하나요? 10일 안에 인사팀에 냅니다.",
    "It's 2024, isn't it? We'll see (he's) the  end...\n\n\tDon't",
    "price: 12,345.67원 -> A/B/c\r\n  - 한국어 + ENGLISH MiXed ",
    "1  2  3   4    5\n\n\n  6  7  " * 3,
]
CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
ENDING = r"\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = (
    rf"{CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|"
    + ENDING
)
QWEN2 = LLAMA3.replace("{1,3}", "")
QWEN35 = (
    rf"{CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}|"
    rf" ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{ENDING}"
)
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTION}?|"
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTION}?|"
    rf"\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{ENDING}"
)
TEKKEN = O200K.replace(f"{CONTRACTION}?", "").replace("{1,3}", "")
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def byte_level(*, own_pattern=True, prefix=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=own_pattern)


def split(pattern, behavior="isolated", *, invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def parts(*pieces):
    return pre_tokenizers.Sequence(list(pieces))


def by_pattern(*patterns):
    return parts(*map(split, patterns), byte_level(own_pattern=False))


CUTTING = {
    "gpt2": (None, byte_level()),
    "gpt2 written out": (None, by_pattern(GPT2)),
    "starter": (normalizers.NFC(), parts(pre_tokenizers.Digits(True), byte_level())),
    "digits together": (None, parts(pre_tokenizers.Digits(False), byte_level())),
    "llama3": (None, by_pattern(LLAMA3)),
    "qwen2": (normalizers.NFC(), by_pattern(QWEN2)),
    "qwen3.5": (normalizers.NFC(), by_pattern(QWEN35)),
    "o200k": (None, by_pattern(O200K)),
    "tekken": (None, by_pattern(TEKKEN)),
    "digits by pattern": (None, by_pattern(r"\p{N}{1,3}", LLAMA3)),
    "no bytes": (None, split(LLAMA3)),
}
OTHER = {
    "metaspace": (None, pre_tokenizers.Metaspace()),
    "metaspace first": (None, pre_tokenizers.Metaspace(prepend_scheme="first")),
    "gemma": (normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous")),
    "space before": (None, byte_level(prefix=True)),
    "space before by normalizer": (normalizers.Prepend(" "), byte_level()),
    "nfkc": (normalizers.NFKC(), byte_level()),
    "white space lost": (None, pre_tokenizers.Whitespace()),
    "no cut": (None, byte_level(own_pattern=False)),
    "only digits": (None, parts(split(r"\p{N}"), byte_level(own_pattern=False))),
    "bytes first": (None, parts(byte_level(own_pattern=False), split(GPT2))),
    "two words": (None, by_pattern(rf"\p{{L}}+ \p{{L}}+|{GPT2}")),
    "looks behind": (None, by_pattern(rf"(?<=a) \p{{L}}|{GPT2}")),
    "removed": (None, parts(split(GPT2, "removed"))),
    "inverted": (None, parts(split(GPT2, invert=True), byte_level(own_pattern=False))),
    "none": (None, None),
}


def make(normalizer, pre_tokenizer, model=None):
    backend = Tokenizer(model or models.BPE(unk_token="<|end|>"))
    if normalizer:
        backend.normalizer = normalizer
    if pre_tokenizer:
        backend.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|bos|>", eos_token="<|end|>"
    )


@pytest.fixture(scope="module")
def kinds():
    return {name: make(*kind) for name, kind in (CUTTING | OTHER).items()}


def ids_of(tokenizer, texts):
    """Among more texts, as few of them would go to the tokenizer itself."""
    found = [
        flat[start:end].tolist()
        for flat, bounds in encode_plain(tokenizer, [*texts, *[""] * (FEW + 1)])
        for start, end in pairwise(bounds)
    ]
    return found[: len(texts)]


def plainly(tokenizer, texts):
    return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]


PIECES = (
    *(" ", "  ", "\n", "\t", "\r\n", "\x00", "\x1c", "\x85", "\xa0", "\u2000", "\u3000", "\u200b"),
    *("가", "나다", "각", "a", "B", "Don", "7", "12", "³", "中", "😀", "é", "ﬁ", "\u180e"),
    *("\u0301", "\u0338", "\u11a8", "\u1100", "'s", "'LL", "(", ".", "/", "<", ">", "|", "▁", "Ġ"),
    *SPECIAL,
    *("<|end", "K", "\u212a", "\ufeff", "안녕 하세요", "it's a b"),
)
# The noncharacter is no text: `encode_plain` encodes in parts there.
any_text = st.text(st.characters(codec="utf-8", exclude_characters=ESCAPE), max_size=12)
text = st.lists(st.sampled_from(PIECES), max_size=14).map("".join) | any_text


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(text, max_size=5))
@example(
    ["a b", " b", "b", "a  b", "a  7", " ", "", "<|user|> b <|end|>\n a", "\u1100 \u1161 \u0301x"]
)
@pytest.mark.parametrize("name", [*CUTTING, *OTHER])
def test_every_kind_of_tokenizer_gives_the_ids_it_gives_for_whole_texts(kinds, name, texts):
    tokenizer = kinds[name]
    assert ids_of(tokenizer, texts) == plainly(tokenizer, texts)
    assert (open_cached_tokenizer(tokenizer) is None) == (name in OTHER)


@pytest.mark.parametrize("limit", ["MAX_WORDS", "MAX_TOKENS"])
def test_the_cache_changes_no_ids_and_neither_does_its_reset(kinds, monkeypatch, limit):
    tokenizer = kinds["qwen2"]
    expected = plainly(tokenizer, CORPUS)
    words = open_cached_tokenizer(tokenizer)

    def encoded():
        ids, bounds = words.encode(CORPUS)
        return [part.tolist() for part in np.split(ids, bounds[1:-1])]

    assert encoded() == expected
    size = len(words)
    assert encoded() == expected
    assert len(words) == size
    monkeypatch.setattr(rendering, limit, 1)
    assert encoded() == expected
    assert len(words) == size
    assert words.encode(["가"])[0].tolist() == plainly(tokenizer, ["가"])[0]
    assert len(words) < size


def test_more_texts_than_are_encoded_at_once_come_back_whole_and_in_order(kinds):
    texts = [f"{index} {CORPUS[index % 4]}" for index in range(ROWS_PER_BATCH + 3)]
    for name in ("starter", "metaspace"):
        assert ids_of(kinds[name], texts) == plainly(kinds[name], texts)


def test_texts_whose_words_do_not_come_back_are_left_to_the_tokenizer(kinds):
    words = open_cached_tokenizer(kinds["starter"])
    words.encode([f"{index} {CORPUS[0]}" for index in range(50)])
    assert words.saves_time
    words.encode([" ".join(map(str, range(50, 99)))])
    assert not words.saves_time
    texts = [f"{index}_{index}" for index in range(2 * ROWS_PER_BATCH)]
    assert ids_of(kinds["starter"], texts) == plainly(kinds["starter"], texts)


@pytest.mark.parametrize(
    "token",
    [
        AddedToken("<sp>", lstrip=True),
        AddedToken("<sp>", rstrip=True),
        AddedToken("<sp>", single_word=True),
        AddedToken("<s p>", normalized=False),
        AddedToken("<sp>", special=True, normalized=True),
    ],
    ids=["lstrip", "rstrip", "single_word", "white space", "normalized"],
)
@settings(max_examples=25)
@given(st.lists(st.sampled_from([*PIECES, "<sp>", "<s p>"]), max_size=12).map("".join))
@example("a <sp> b<sp>c <s p> d")
def test_an_added_token_that_reaches_around_itself_leaves_all_to_the_tokenizer(kinds, token, line):
    changed = copy.deepcopy(kinds["qwen2"])
    changed.add_tokens([token])
    assert open_cached_tokenizer(changed) is None
    assert ids_of(changed, [line]) == plainly(changed, [line])


@settings(max_examples=60)
@given(st.lists(st.sampled_from([*PIECES, "<t>", "<t>x", "K;"]), max_size=12).map("".join))
def test_added_tokens_of_the_plain_kind_are_found_as_the_tokenizer_finds_them(kinds, line):
    changed = copy.deepcopy(kinds["qwen2"])
    plain = [AddedToken("<t>", normalized=False), AddedToken("<t>x", normalized=False)]
    changed.add_tokens(
        [*plain, AddedToken("K;", normalized=True), AddedToken("나", normalized=True)]
    )
    assert open_cached_tokenizer(changed) is not None
    assert ids_of(changed, [line]) == plainly(changed, [line])


def test_a_tokenizer_that_reads_special_tokens_as_text_is_left_alone(kinds):
    changed = copy.deepcopy(kinds["qwen2"])
    changed.backend_tokenizer.encode_special_tokens = True
    assert open_cached_tokenizer(changed) is None


def test_a_model_that_merges_at_random_or_is_no_bpe_is_left_alone(kinds):
    changed = copy.deepcopy(kinds["gpt2"])
    changed.backend_tokenizer.model.dropout = 0.5
    assert open_cached_tokenizer(changed) is None
    words = Tokenizer(models.WordLevel({"<|end|>": 0}, unk_token="<|end|>"))
    words.pre_tokenizer = byte_level()
    assert open_cached_tokenizer(PreTrainedTokenizerFast(tokenizer_object=words)) is None


def test_a_word_that_becomes_the_separator_only_when_normalized_is_tokenized_alone():
    vocabulary = {"<": 0, "K": 1, "<K": 2, "a": 3, "Ġ": 4, "Ġa": 5}
    backend = Tokenizer(models.BPE(vocabulary, [("<", "K"), ("Ġ", "a")]))
    backend.normalizer, backend.pre_tokenizer = CUTTING["qwen2"]
    backend.add_special_tokens([AddedToken("<K", special=True, normalized=False)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<K")
    texts = ["a<\u212a a<K a", "a"]  # a Kelvin sign, which normalizing makes a K
    assert open_cached_tokenizer(tokenizer) is not None
    assert ids_of(tokenizer, texts) == plainly(tokenizer, texts) == [[3, 2, 5, 2, 5], [3]]
