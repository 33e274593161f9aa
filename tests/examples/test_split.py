from collections import defaultdict

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from jangin.core.errors import StageError
from jangin.core.events import Progress
from jangin.core.ledger import Ledger
from jangin.core.parquet import part_paths, read_table, write_table
from jangin.core.records import Chunk, Example, Message, SplitExample
from jangin.core.stage import Services, StageContext
from jangin.examples.split import STAGE, SplitConfig, split_examples
from jangin.text.dedup.question_copies import find_near_copies
from jangin.text.wordings import MOST_ALIKE
from tests.conftest import cut_into_parts, make_artifact

VOWELS = "가나다라마바사아자차카타파하거너더러머버서어저처커터퍼허고노도로모보소오조초코토포호"


def word(number):
    """A word of three syllables that is another one for every number."""
    syllables = ""
    for _ in range(3):
        number, digit = divmod(number, len(VOWELS))
        syllables += VOWELS[digit]
    return syllables


def example(question, answer="답", **fields):
    prompt = (Message(role="user", content=question),)
    completion = Message(role="assistant", content=answer)
    return Example.make(prompt, completion, **{"kind": "original", **fields})


def family(number, section="", paraphrases=0, source="규정.md", chunk_ids=()):
    where = {"source": source, "section": section, "chunk_ids": chunk_ids}
    name = word(number)
    original = example(f"{name} 신청은 언제까지 합니까?", name, **where)
    templates = (
        "{}, 늦어도 며칠까지 내야 하죠?",
        "마감이 언제인지 궁금한 것은 {}입니다",
        "제가 {} 때문에 그러는데 기한 좀 알려 주실래요",
        "기한: {}",
        "{} 서류 제출 날짜 확인 부탁",
        "며칠 안에 {} 처리를 끝내면 될까요?",
    )
    others = [
        example(text.format(name), name, family=original.id, **{**where, "kind": "paraphrase"})
        for text in templates[:paraphrases]
    ]
    return [original, *others]


def corpus(sections=20, per_section=3, paraphrases=4, start=0):
    return [
        row
        for section in range(start, start + sections)
        for i in range(per_section)
        for row in family(section * 10 + i, f"제{section}조", paraphrases)
    ]


def splits(examples, **settings):
    result = split_examples(examples, [], SplitConfig(**settings))
    by_split = defaultdict(list)
    for row in result.rows:
        by_split[row.split].append(row.example)
    return by_split


def ids(rows):
    return {row.id for row in rows}


CORPORA = st.lists(
    st.builds(
        family,
        st.integers(0, 60),
        section=st.sampled_from(["", *(f"제{i}조" for i in range(12))]),
        paraphrases=st.integers(0, 6),
        chunk_ids=st.lists(st.sampled_from("abcdefgh"), max_size=2).map(tuple),
    ),
    min_size=12,
    max_size=30,
)


@pytest.mark.slow
@settings(max_examples=60)
@given(CORPORA, st.integers(0, 5))
def test_families_sections_chunks_and_copies_never_cross(families, seed):
    examples = [row for rows in families for row in rows]
    try:
        result = split_examples(
            examples, [], SplitConfig(unseen_sections=0.3, validation=0.2, seed=seed)
        )
    except StageError:
        event("too few groups")
        return
    sides = defaultdict(set)
    for row in result.rows:
        side = "train" if row.split == "held_out_paraphrases" else row.split
        sides["family", row.example.family].add(side)
        for chunk_id in row.example.chunk_ids:
            sides["chunk", chunk_id].add(side)
        if row.example.section:
            sides["section", row.example.section].add(side)
        sides["question", row.example.question].add(side)
    assert all(len(found) == 1 for found in sides.values())
    assert {row.split for row in result.rows} >= {"train", "validation", "unseen_sections"}


@pytest.mark.slow
@settings(max_examples=40)
@given(CORPORA, st.integers(0, 5))
def test_a_held_out_paraphrase_copies_nothing_that_is_trained_on(families, seed):
    examples = [row for rows in families for row in rows]
    by_split = splits(examples, unseen_sections=0, validation=0, seed=seed)
    held_out = [row.question for row in by_split["held_out_paraphrases"]]
    trained = [row.question for row in by_split["train"]]
    assert list(find_near_copies(held_out, trained)) == []


@pytest.mark.slow
@settings(max_examples=40)
@given(CORPORA, st.integers(0, 3), st.sampled_from([0, 1, 2, 3]))
def test_the_evidence_does_not_depend_on_how_many_paraphrases_are_trained_on(families, seed, few):
    examples = [row for rows in families for row in rows]
    common = {"unseen_sections": 0, "validation": 0, "seed": seed}
    less = splits(examples, training_paraphrases=few, **common)
    more = splits(examples, training_paraphrases=100, **common)
    assert less["held_out_paraphrases"] == more["held_out_paraphrases"]
    assert ids(less["train"]) <= ids(more["train"])
    per_family = defaultdict(int)
    for row in less["train"]:
        per_family[row.family] += row.kind == "paraphrase"
    assert max(per_family.values()) <= few


@pytest.mark.slow
@settings(max_examples=8)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 3))
def test_fewer_training_questions_are_a_subset_of_more_and_test_questions_stay(one, other, seed):
    examples = [row for number in range(30) for row in family(number, paraphrases=2)]
    common = {"test": 0.3, "validation": 0.1, "unseen_sections": 0, "seed": seed}
    few, many = sorted((one, other))
    by_side = []
    for count in (few, many, None):
        result = split_examples(examples, [], SplitConfig(training_questions=count, **common))
        assert result.summary["unused"] == len(examples) - len(result.rows)
        sides = defaultdict(set)
        for row in result.rows:
            sides[row.split].add(row.example.id)
        trained = {row.example.family for row in result.rows if row.split == "train"}
        by_side.append((sides, trained))
    (least, few_families), (more, more_families), (full, all_families) = by_side
    assert least["train"] <= more["train"] <= full["train"]
    assert few_families <= more_families <= all_families
    assert len(few_families) == min(few, len(all_families))
    assert least["test"] == more["test"] == full["test"]
    assert least["validation"] == full["validation"]


@pytest.mark.slow
def test_new_sections_leave_the_others_where_they_are():
    before = splits(corpus(sections=40), unseen_sections=0.3, validation=0.2)
    after = splits(corpus(sections=80), unseen_sections=0.3, validation=0.2)
    for split, rows in before.items():
        assert ids(rows) <= ids(after[split])


def test_the_order_of_the_examples_changes_nothing_but_the_order_of_the_rows():
    examples = corpus()
    forward, backward = splits(examples), splits(examples[::-1])
    assert {split: ids(rows) for split, rows in forward.items()} == {
        split: ids(rows) for split, rows in backward.items()
    }


def test_another_seed_holds_out_other_sections():
    one, two = splits(corpus(), seed=1), splits(corpus(), seed=2)
    assert ids(one["unseen_sections"]) != ids(two["unseen_sections"])
    assert ids(one["held_out_paraphrases"]) != ids(two["held_out_paraphrases"])


def test_about_the_asked_share_of_sections_is_held_out():
    by_split = splits(corpus(sections=300, per_section=1, paraphrases=0), unseen_sections=0.2)
    assert 40 <= len(by_split["unseen_sections"]) <= 80
    assert 3 <= len(by_split["validation"]) <= 30


def test_a_small_share_of_few_sections_still_holds_one_out():
    for seed in range(10):
        by_split = splits(corpus(sections=3), unseen_sections=0.01, validation=0.01, seed=seed)
        assert len({row.section for row in by_split["unseen_sections"]}) == 1
        assert len({row.section for row in by_split["validation"]}) == 1
        assert by_split["train"]


def test_unseen_and_validation_sections_keep_only_their_originals():
    by_split = splits(corpus(), unseen_sections=0.3, validation=0.2)
    for split in ("unseen_sections", "validation"):
        assert by_split[split]
        assert {row.kind for row in by_split[split]} == {"original"}


def test_every_training_family_gives_one_paraphrase_and_trains_on_the_rest():
    result = split_examples(corpus(), [], SplitConfig(unseen_sections=0, validation=0))
    assert result.summary["train_originals"] == 60
    assert result.summary["held_out_paraphrases"] == 60
    assert result.summary["train_paraphrases"] == 180
    assert result.summary["unused"] == 0


def test_a_family_with_too_few_paraphrases_keeps_them_for_training():
    by_split = splits(corpus(paraphrases=2), unseen_sections=0, held_out_paraphrases=2)
    assert by_split["held_out_paraphrases"] == []
    assert any(row.kind == "paraphrase" for row in by_split["train"])


def test_a_paraphrase_that_copies_a_sibling_is_not_held_out():
    original, *others = family(7, "제7조", paraphrases=2)
    where = {"kind": "paraphrase", "family": original.id, "source": "규정.md", "section": "제7조"}
    copies = [example(row.question.replace(" ", ""), **where) for row in others]
    rows = [original, *others, *copies]
    assert splits(rows, unseen_sections=0, validation=0)["held_out_paraphrases"] == []
    fresh = example("그 마감일 좀 가르쳐 줘", **where)
    held_out = splits([*rows, fresh], unseen_sections=0, validation=0)["held_out_paraphrases"]
    assert held_out == [fresh]


def test_near_levenshtein_siblings_are_not_held_out_either():
    original = example("회의실을 예약하려면 누구에게 미리 말해야 합니까?", section="제1조")
    where = {"kind": "paraphrase", "family": original.id, "section": "제1조"}
    near = example("화의실을 예약하려먼 누구에게 미리 말해야 합니까?", **where)
    far = example("회의실 예약 담당자가 누군가요", **where)
    by_split = splits([original, near, far], unseen_sections=0, validation=0)
    assert by_split["held_out_paraphrases"] == [far]


def test_chunks_tell_the_sections_of_examples_that_name_none():
    def chunk(name, section):
        return Chunk(
            id=name, document_id="d", source="규정.md", text="본문", start=0, end=2, page=1,
            section=section,
        )  # fmt: skip

    chunks = [chunk(f"c{i}", f"제{i // 2}조") for i in range(20)]
    examples = [row for i in range(20) for row in family(i, chunk_ids=(f"c{i}",))]
    result = split_examples(examples, chunks, SplitConfig(unseen_sections=0.3, validation=0.2))
    assert result.summary["groups"] == 10
    alone = split_examples(examples, [], SplitConfig(unseen_sections=0.3, validation=0.2))
    assert alone.summary["groups"] == 20


def test_same_named_sections_of_two_documents_are_two_sections():
    examples = [
        row for i in range(6) for row in family(i, "제1조", source=f"{'ab'[i % 2]}/규정.md")
    ]
    config = SplitConfig(unseen_sections=0.2, validation=0)
    assert split_examples(examples, [], config).summary["groups"] == 2


def test_near_copies_stay_together_where_the_setting_says_so():
    frame = (
        "우리 회사에서 {} 신청 서류를 담당 부서에 제출하려면 언제까지 준비해야 하는지 알려 주세요"
    )
    rows = [example(frame.format(word(number)), str(number)) for number in range(40)]
    rows += [
        example(f"{word(100 + number)} 그리고 {word(300 + number)}의 뜻", str(number))
        for number in range(40)
    ]
    settings = {"unseen_sections": 0, "validation": 0, "test": 0.3}

    def sides(**more):
        result = split_examples(rows, [], SplitConfig(**settings, **more))
        return {r.split for r in result.rows if "담당 부서" in r.example.question}

    assert sides() == {"train", "test"}
    assert len(sides(near_copies=0.85)) == 1
    assert "near_copies" not in SplitConfig(**settings).identity()
    assert SplitConfig(**settings, near_copies=0.9).identity()["near_copies"] == 0.9


def test_an_example_that_comes_twice_is_used_once():
    examples = corpus()
    result = split_examples([*examples, *examples[:7]], [], SplitConfig())
    assert result.summary["repeated"] == 7
    assert result.rows == split_examples(examples, [], SplitConfig()).rows


def test_all_rows_of_validation_sources_validate_even_copies_of_training_rows():
    rows = [*family(1, source="train.jsonl"), *family(2, source="train.jsonl")]
    held = [*family(1, source="valid.jsonl"), *family(3, source="valid.jsonl")]
    config = SplitConfig(unseen_sections=0, validation=0, validation_sources=("valid.jsonl",))
    result = split_examples([*rows, *held], [], config)
    splits = [(row.example.id, row.split) for row in result.rows]
    assert splits == [(e.id, "train") for e in rows] + [(e.id, "validation") for e in held]
    assert result.summary["validation"] == 2


def test_too_few_groups_are_an_error_that_says_how_many_and_what_to_set():
    with pytest.raises(StageError, match=r"6 examples form 1 group .* at least 3.*validation: 0"):
        split_examples(corpus(sections=1, per_section=3, paraphrases=1), [], SplitConfig())


def test_shares_that_leave_nothing_to_train_on_are_refused():
    with pytest.raises(ValidationError, match="together must be below 1"):
        SplitConfig(unseen_sections=0.6, validation=0.4)


def context(folder, examples, **settings):
    write_table(folder / "examples.parquet", Example, examples)
    services = Services(folder, {}.__getitem__, Ledger(folder / "ledger.sqlite"), Progress())
    made = {"examples": make_artifact(folder)}
    return StageContext(SplitConfig(**settings), made, folder, services)


def test_the_stage_writes_the_table_and_counts_every_split(tmp_path):
    stage = context(tmp_path, corpus(), unseen_sections=0.3, validation=0.2)
    STAGE.run(stage)
    stage.services.ledger.close()
    rows = read_table(tmp_path / "splits.parquet", SplitExample)
    assert rows == split_examples(corpus(), [], stage.config).rows
    for split in ("train", "validation", "held_out_paraphrases", "unseen_sections"):
        assert stage.summary[split] == sum(row.split == split for row in rows) > 0
    (message,) = stage.services.progress.messages
    assert "held-out wordings follow a pattern that is trained on" in message
    assert stage.summary["similarity"]["held_out_paraphrases"]["alike"] > MOST_ALIKE


def styled(rows, styles=("spoken", "formal", "keywords")):
    """The same rows, their paraphrases in these styles in turn."""
    count, result = 0, []
    for row in rows:
        named = row.kind == "paraphrase"
        update = {"operation": styles[count % len(styles)]} if named else {}
        result.append(row.model_copy(update=update))
        count += named
    return result


@pytest.mark.parametrize("held", [1, 2, 5])
def test_no_wording_of_a_held_out_style_is_trained_on(held):
    by_split = splits(styled(corpus()), unseen_sections=0.2, held_out_styles=held)
    asked = {row.style for row in by_split["held_out_styles"]}
    trained = {row.style for row in by_split["train"]} - {""}
    assert len(asked) == min(held, 2)
    assert trained
    assert not asked & trained
    families = {row.family for row in by_split["train"]}
    assert {row.family for row in by_split["held_out_styles"]} <= families
    assert {row.style for row in by_split["held_out_paraphrases"]} <= trained


def test_without_styles_nothing_changes_and_the_stage_says_what_is_missing(tmp_path):
    rows = corpus()
    assert splits(rows, held_out_styles=1) == splits(rows)
    stage = context(tmp_path, rows, held_out_styles=1)
    STAGE.run(stage)
    stage.services.ledger.close()
    assert stage.summary["held_out_styles"] == 0
    assert "no style could be held out" in stage.services.progress.messages[0]


def test_held_out_styles_leave_the_identity_of_older_splits_as_it_was():
    assert "held_out_styles" not in SplitConfig().identity()
    assert SplitConfig(held_out_styles=1).identity()["held_out_styles"] == 1


@pytest.mark.parametrize("size", [40, 1000])
def test_examples_in_parts_are_split_like_one_list_and_stay_in_their_parts(tmp_path, size):
    rows = corpus()
    held = family(900, source="valid.jsonl")
    again = rows[3].model_copy(update={"teacher": "a row with the id of another one"})
    rows = [*held, *rows, again]
    stage = context(tmp_path, rows, validation_sources=("valid.jsonl",))
    cut_into_parts(tmp_path / "examples.parquet", Example, size)
    STAGE.run(stage)
    stage.services.ledger.close()
    expected = split_examples(rows, [], stage.config)
    assert read_table(tmp_path / "splits.parquet", SplitExample) == expected.rows
    assert again in [row.example for row in expected.rows]
    assert expected.rows[-1].example == held[0]
    assert stage.summary.pop("similarity")["held_out_paraphrases"]["questions"] > 0
    assert stage.summary == expected.summary
    assert len(part_paths(tmp_path / "splits.parquet")) == -(-len(rows) // size)


def test_the_stage_says_when_no_paraphrase_can_be_held_out(tmp_path):
    stage = context(tmp_path, corpus(paraphrases=0))
    STAGE.run(stage)
    stage.services.ledger.close()
    assert "more than 1 paraphrase" in stage.services.progress.messages[0]


def test_no_examples_at_all_are_an_error_that_says_where_to_look(tmp_path):
    stage = context(tmp_path, [])
    with pytest.raises(StageError, match="jangin report"):
        STAGE.run(stage)
    stage.services.ledger.close()


def test_what_grew_from_one_seed_word_stays_in_one_split():
    examples = [
        example(f"{word(n)} {word(n + 40)} 무엇입니까?", f"답 {n}", seed_word=f"낱말 {n % 8}")
        for n in range(32)
    ]
    result = split_examples(examples, [], SplitConfig(unseen_sections=0.3, validation=0.2))
    assert result.summary["groups"] == 8
    sides = {}
    for row in result.rows:
        assert sides.setdefault(row.example.seed_word, row.split) == row.split
    assert set(sides.values()) == {"train", "validation", "unseen_sections"}


def test_an_evolved_question_follows_its_parent_and_is_trained_on_or_tested_like_an_original():
    originals = [example(f"{word(n)} {word(n + 40)} 무엇입니까?", f"답 {n}") for n in range(12)]
    evolved = [
        example(
            f"{word(n + 80)} {word(n + 120)} 왜 그렇습니까?",
            f"까닭 {n}",
            kind="evolved",
            parent=parent.id,
        )
        for n, parent in enumerate(originals)
    ]
    result = split_examples([*originals, *evolved], [], SplitConfig(unseen_sections=0.3))
    side = {row.example.id: row.split for row in result.rows}
    assert len(side) == 24
    assert all(side[row.id] == side[row.parent] for row in evolved)
    assert result.summary["train_evolved"] == sum(side[row.id] == "train" for row in evolved) > 0


def labelled(count, stars=5):
    """Reviews whose texts have nothing in common, with a label each."""
    words = [f"{chr(0xAC00 + 37 * n)}{chr(0xB098 + 29 * n)}{n * 7919}" for n in range(count)]
    return [
        Example.make(
            (Message(role="user", content=f"{word} {word[::-1]}"),),
            Message(role="assistant", content=str(n % stars + 1)),
            kind="original",
        )
        for n, word in enumerate(words)
    ]


def test_a_test_share_takes_as_much_of_every_label_and_so_does_validation():
    config = SplitConfig(unseen_sections=0, validation=0.1, test=0.2, held_out_paraphrases=0)
    rows = split_examples(labelled(200), [], config).rows
    for star in "12345":
        mine = [row.split for row in rows if row.example.answer == star]
        assert (mine.count("train"), mine.count("validation"), mine.count("test")) == (28, 4, 8)


def test_a_group_of_rows_stays_whole_in_a_test_share():
    rows = labelled(100)
    grouped = [
        e.model_copy(update={"document_id": f"app{n // 5}", "section": f"app{n // 5}"})
        for n, e in enumerate(rows)
    ]
    config = SplitConfig(unseen_sections=0, validation=0.1, test=0.2, held_out_paraphrases=0)
    homes = defaultdict(set)
    for row in split_examples(grouped, [], config).rows:
        homes[row.example.section].add(row.split)
    assert all(len(splits) == 1 for splits in homes.values())
    assert {"train", "validation", "test"} == set().union(*homes.values())


def test_a_test_share_is_never_empty_where_there_are_rows_for_it():
    config = SplitConfig(unseen_sections=0, validation=0.05, test=0.05, held_out_paraphrases=0)
    splits = [row.split for row in split_examples(labelled(10, stars=10), [], config).rows]
    assert splits.count("test") == 1
    assert splits.count("validation") == 1
