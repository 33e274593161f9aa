"""`jangin prepare`: suggestions and their order, output files, and reproducible runs."""

import json
import os
import pty
import random
import re
import select
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from jangin.core.errors import ConfigError, DataError
from jangin.prepare.command import (
    PrepareOptions,
    differences,
    output_files,
    propose,
    read_manifest,
    write_files,
)

SPLITS = ("train", "validation", "test")


def words(seed, count=6):
    """Words that no other seed gives."""
    draw = random.Random(seed)
    return " ".join(
        "".join(chr(draw.randrange(0xAC00, 0xD7A4)) for _ in "abc") for _ in range(count)
    )


def reviews(n=200):
    return "review,rating\n" + "".join(f"{words(i)},{i % 4 + 1}\n" for i in range(n))


@pytest.fixture
def offer(tmp_path):
    """Refuse or accept all suggestions for a text: (plan, {name: suggestion}, printed lines)."""

    def call(text, name="rows.csv", take=True, **options):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        offered, said = {}, []

        def accept(suggestion):
            offered[suggestion.name] = suggestion
            return take or suggestion.level == "necessary"

        plan, records = propose(path, PrepareOptions(**options), accept, said.append)
        assert [record.name for record in records] == list(offered)
        return plan, offered, said

    return call


def test_clean_rows_are_offered_nothing_and_their_labels_are_shown(offer):
    plan, offered, said = offer(reviews())
    assert offered == {}
    assert plan.steps == ()
    assert "task: classification, 4 labels" in said
    assert sum("█" in line for line in said) == 4


def test_suggestions_come_in_order_each_with_its_level(offer):
    text = reviews()
    rows = text.splitlines()[1:]
    text += "문의는 hong@example.com 으로  보내요,2\n드문 등급입니다,9\n,1\n"
    text += rows[0].replace(",", "!!,") + "\n" + "하" * 10_001 + ",3\n"
    plan, offered, _ = offer(text)
    assert {name: suggestion.level for name, suggestion in offered.items()} == {
        "unusable rows": "necessary",
        "clean text": "recommended",
        "rare labels": "recommended",
        "long rows": "recommended",
        "personal data": "optional",
        "duplicates": "recommended",
    }
    assert list(offered) == [
        "unusable rows", "clean text", "rare labels", "personal data", "duplicates", "long rows",
    ]  # fmt: skip
    assert offered["unusable rows"].finding == "1 x the prompt is empty"
    kinds = [step.type for step in plan.steps]
    assert kinds == ["clean_text", "labels", "mask_personal", "window", "deduplicate"]


def test_what_is_refused_is_not_done(offer):
    plan, offered, _ = offer(reviews() + "a  b,1\na b!,2\n", take=False)
    assert {"clean text", "duplicates"} <= set(offered)
    assert plan.steps == ()


def test_near_copies_are_offered_after_copies(offer):
    text = "question,answer\n"
    text += "".join(
        f"{c}{c}{c} 항목은 무엇인가요 그리고 {c * 9},답 {c}\n" for c in "가나다라마바사"
    )
    near = "가가가 항목은 무엇인가요 그리고 가가가가가가가가나"
    plan, offered, said = offer(f"{text}{near},답 가\n")
    assert offered["near copies"].rows == 1
    assert plan.steps[-1].type == "near_duplicates"
    assert "near copies" not in offer(f"{text}{near},답 거\n", "other.csv")[1]
    assert "task: free answers" in said
    assert any(line.startswith("8 rows") for line in said)


def test_questions_made_from_one_pattern_stay(offer):
    pattern = "{:02} 번 주문한 상품은 언제쯤 집에 도착하는지 알려 주세요,곧\n"
    rows = "".join(map(pattern.format, range(40)))
    _, offered, said = offer("question,answer\n" + rows)
    assert "near copies" not in offered
    assert any(" of 40 questions " in line for line in said)


def test_a_file_without_rows_gets_no_suggestion_and_is_then_refused(offer, tmp_path):
    plan, offered, _ = offer("question,answer\n")
    assert offered == {}
    with pytest.raises(DataError, match=r"rows\.csv: all 0 rows"):
        write_files(tmp_path / "rows.csv", plan, [], tmp_path)


@pytest.mark.slow
def test_plain_completions_get_separator_and_end_and_lower_case_but_chats_do_not(offer):
    text = "prompt,completion\n"
    text += "".join(
        f"Task: solve it WELL {words(n)},answer to {words(n + 99)}\n" for n in range(1, 27)
    )
    _, offered, _ = offer(text, format="completion")
    assert "common beginning of every question" in offered
    plan, offered, _ = offer(text, format="completion", take=True)
    assert plan.prompt.endswith(" ->")
    assert plan.completion.endswith("\n")
    assert "common beginning of every answer" in offered
    plan, offered, _ = offer(text)
    assert list(offered) == ["common beginning of every question"]
    assert plan.system == "Task: solve it WELL"


def test_capitals_are_said_of_latin_letters_and_never_of_hangul(offer):
    korean = "".join(
        f"한글 질문 {n * 37} 가나다,답 {n * 91}입니다 {chr(0xAC00 + n)}\n" for n in range(26)
    )
    _, offered, _ = offer("prompt,completion\n" + korean, format="completion")
    assert "lower case" not in offered
    loud = "".join(f"LOUD QUESTION {words(n)},{words(-n)}\n" for n in range(1, 27))
    _, offered, _ = offer("prompt,completion\n" + loud, format="completion")
    assert "lower case" in offered


def test_rebalancing_is_a_hint_and_done_only_where_it_is_asked_for(offer):
    text = reviews() + "".join(f"{words(n)},1\n" for n in range(1000, 1300))
    plan, offered, said = offer(text)
    assert "balance" not in offered
    assert any("--balance 50" in line for line in said)
    plan, offered, _ = offer(text, balance=50)
    assert plan.steps[-1].type == "balance"


def test_unrecognised_columns_are_listed_and_can_be_named(offer):
    with pytest.raises(DataError, match=r"글, 별\. Name them with --prompt and --completion\.$"):
        offer("글,별\n가,1\n")
    plan, _, _ = offer("글,별\n가,1\n나,2\n", prompt="글", completion="{별}점")
    assert (plan.prompt, plan.completion) == ("{글}", "{별}점")


@pytest.mark.parametrize(
    ("text", "wanted", "suggested"),
    [
        ("id,번호,내용,별점\n1,10,가,5\n2,20,나,5\n", {}, "--prompt 내용 --completion 별점"),
        (",said,stars,user_id\n7,a,5,x\n8,b,5,y\n", {}, "--prompt said --completion stars"),
        ("글,별,id\n가,1,a\n나,1,b\n", {"prompt": "글"}, "--prompt 글 --completion 별"),
        ("글,별,id\n가,1,a\n나,1,b\n", {"completion": "글"}, "--prompt 별 --completion 글"),
        ("my text,answer\na,1\nb,1\n", {}, "--prompt 'my text' --completion answer"),
        ("id,review,class\n1,a,x\n2,b,x\n", {}, "--prompt review --completion class"),
    ],
)
def test_an_example_has_columns_that_are_known_and_no_ids(offer, text, wanted, suggested):
    with pytest.raises(DataError, match=re.escape(f": {suggested}") + "$"):
        offer(text, **wanted)


@pytest.mark.parametrize(
    "text",
    [
        "no,said,stars\n7,a,5\n7,b,5\n",
        "id,번호\n1,10\n2,20\n",
        "Skill,Evolved\na,1\nb,1\n",
        "query,rejected,source\na,1,x\nb,2,x\n",
    ],
)
def test_no_example_is_given_where_it_would_be_a_guess_or_a_rejected_answer(offer, text):
    with pytest.raises(DataError, match="--prompt") as error:
        offer(text)
    assert "--completion rejected" not in str(error.value)
    assert ("for example" in str(error.value)) == ("query" in text)


def figures(text):
    """Numbers and quoted examples of a sentence, in order."""
    return re.findall(r"'[^']*'|\b\d[\d,]*\b", text)


PRICES = ("1,299.00", "₩1,299,000", "$ 12.50", "3만 5천원", "-$5", "KRW 900", "1000", "12 dollars")


def prices(cells):
    return "item,price\n" + "".join(f'{words(n)},"{cell}"\n' for n, cell in enumerate(cells))


@pytest.mark.slow
def test_numbers_as_people_write_them_are_offered_to_be_read(offer, tmp_path):
    cells = [*PRICES, *(f"{n:,}" for n in range(1000, 1100)), "문의", "$12.99 - $45.00"]
    columns = {"prompt": "item", "completion": "price"}
    plan, offered, _ = offer(prices(cells), **columns)
    assert list(offered) == ["numbers"]
    suggestion = offered["numbers"]
    assert figures(suggestion.finding) == ["107", "'1,299.00'", "2", "'문의'"]
    assert figures(suggestion.action) == ["1299"]
    outcome, _ = write_files(tmp_path / "rows.csv", plan, [], tmp_path)
    assert sum(reason.rows for reason in outcome.reasons) == 2
    assert sum(outcome.changed.values()) + 2 == suggestion.rows == 109
    files = output_files(tmp_path / "rows.csv", tmp_path)
    lines = [json.loads(line) for n in SPLITS for line in files[n].read_text().splitlines()]
    answers = {line["messages"][1]["content"] for line in lines}
    read = {"1299", "1299000", "12.5", "35000", "-5", "900", "1000", "12", "1099"}
    assert read <= answers
    assert offer(prices(cells), take=False, **columns)[0].steps == ()


@pytest.mark.parametrize(
    "cells",
    [
        [str(n) for n in range(100)],
        [f"{n:05}" for n in range(100)],
        [f"{n}층" for n in range(100)],
        [f"{n},{n}" for n in range(100)],
        [*(f"₩{n}" for n in range(80)), *(f"글 {n}" for n in range(20))],
        [*(str(n) for n in range(99)), "3/4"],
    ],
)
def test_other_answers_are_not_taken_for_numbers_to_be_read(offer, cells):
    _, offered, _ = offer(prices(cells), prompt="item", completion="price")
    assert offered == {}


def test_cells_without_a_digit_among_plain_numbers_are_offered_to_go(offer, tmp_path):
    cells = [*map(str, range(99)), "ask us"]
    plan, offered, _ = offer(prices(cells), prompt="item", completion="price")
    assert figures(offered["numbers"].finding) == ["99", "1", "'ask us'"]
    outcome, _ = write_files(tmp_path / "rows.csv", plan, [], tmp_path)
    assert [(r.reason, r.rows) for r in outcome.reasons] == [("price is no number", 1)]


def test_a_cell_that_holds_more_than_a_number_is_not_made_one(offer, tmp_path):
    odd = ["1,299,00", "12,5", "$1.2k", "5%", "1300원부터", "2개", "(1,299)", "3만엔진", "3층"]
    cells = [*odd, "₩1,299", "8963.00", *(f"{n}.00" for n in range(100, 190))]
    plan, offered, _ = offer(prices(cells), prompt="item", completion="price")
    finding, rows = offered["numbers"].finding, offered["numbers"].rows
    assert figures(finding)[0] == "93"
    assert figures(finding)[-2:] == ["8", "'1,299,00'"]
    outcome, _ = write_files(tmp_path / "rows.csv", plan, [], tmp_path)
    alone = "price is not a number alone"
    unclear = "price is not understood as a number, such as a date or 12,50"
    assert {r.reason: r.rows for r in outcome.reasons} == {alone: 5, unclear: 3}
    assert sum(outcome.changed.values()) + 8 == rows == 101


def test_numbers_that_are_written_shorter_beside_words_are_announced(offer, tmp_path):
    cells = [*map(str, range(90)), "8963.00", "ask us"]
    plan, offered, _ = offer(prices(cells), prompt="item", completion="price")
    assert figures(offered["numbers"].action) == ["1", "'8963.00'", "'8963'"]
    outcome, _ = write_files(tmp_path / "rows.csv", plan, [], tmp_path)
    assert sum(outcome.changed.values()) + 1 == offered["numbers"].rows == 2


@pytest.mark.parametrize(
    ("cells", "numbers", "others"),
    [
        ([*map(str, range(250)), *["N/A"] * 150], 250, 150),
        ([*map(str, range(99)), "3/4"], 99, 1),
    ],
)
def test_numbers_among_others_are_reported_where_nothing_is_suggested(
    offer, cells, numbers, others
):
    _, offered, said = offer(prices(cells), prompt="item", completion="price")
    assert "numbers" not in offered
    (line,) = [line for line in said if "answers are numbers" in line]
    assert figures(line) == [str(numbers), str(len(cells)), str(others), f"'{cells[-1]}'"]
    some = [*map(str, range(40)), *(f"a word {n}" for n in range(60))]
    _, _, said = offer(prices(some), prompt="item", completion="price")
    assert not [line for line in said if "answers are numbers" in line]


def test_the_rest_of_a_shortened_list_is_counted(offer):
    rare = "".join(f"{words(1000 + n)},rare{n}\n" for n in range(10))
    finding = offer(reviews() + rare)[1]["rare labels"].finding
    assert figures(finding)[:2] == ["10", "5"]
    assert "rare0, rare1, " in finding
    assert finding.endswith("rare7 and 2 more")


@pytest.mark.slow
def test_what_is_announced_is_what_goes(offer, tmp_path):
    """Rows with several faults, and long rows that differ from each other by a few letters."""
    long = "하나 둘 " * 2600
    rows = [(words(n), n % 4 + 1) for n in range(200)]
    rows += [(f"{words(n)}!", n % 4 + 1) for n in range(12)]
    rows += [(f"{words(n)} {words(n + 1)}", n % 4 + 1) for n in range(300, 340)]
    rows += [(f"{words(n)} {words(n + 1)}가", n % 4 + 1) for n in range(300, 310)]
    rows += [(words(3), 2), (words(900), 9), (f"{words(900)} ", 9), (long, 3), (f"{long}!", 3)]
    rows += [(f"{words(700)} {mail}@example.com", 1) for mail in ("kim", "lee")]
    rows += [(f"{long} ", 3), (f"{long}\u200b가", 3)]
    plan, offered, said = offer("review,rating\n" + "".join(f"{q},{a}\n" for q, a in rows))
    outcome, _ = write_files(tmp_path / "rows.csv", plan, [], tmp_path)

    def gone(*reasons):
        return sum(r.rows for r in outcome.reasons if any(word in r.reason for word in reasons))

    assert offered["rare labels"].rows == gone("is no label") == 2
    assert offered["long rows"].rows == gone("is over") == 4
    assert figures(offered["long rows"].finding) == ["4", "10,000", "2"]
    assert gone("same text", "another answer") == 14
    assert offered["duplicates"].rows == 14 + 2
    assert offered["near copies"].rows == gone("copy of an earlier row") == 10
    assert not [line for line in said if "--balance" in line]


@pytest.mark.slow
def test_labels_are_balanced_by_the_rows_that_will_be_there(offer, tmp_path):
    text = reviews() + "".join(f"{words(n)},9\n" for n in range(900, 903))
    assert not [line for line in offer(text)[2] if "--balance" in line]
    assert [line for line in offer(text, take=False)[2] if "--balance 5" in line]
    copies = reviews() + f"{words(0)},1\n" * 400
    assert not [line for line in offer(copies)[2] if "--balance" in line]
    assert [line for line in offer(copies, take=False)[2] if "--balance 50" in line]
    plan, offered, _ = offer(copies, balance=30)
    outcome, _ = write_files(tmp_path / "rows.csv", plan, [], tmp_path)
    assert offered["balance"].rows == sum(r.rows for r in outcome.reasons if "slot" in r.reason)
    assert offered["balance"].rows == 80
    _, offered, said = offer(reviews(), balance=30, completion="{rating}점")
    assert "balance" not in offered
    assert any(line.startswith("--balance 30 ") for line in said)


def test_long_rows_are_those_whose_question_is_too_long(offer):
    short = "".join(f"{words(n)},{words(-n)}\n" for n in range(1, 20))
    near = "하나 둘 " * 1999
    rows = short + f"{near},{'가 ' * 5000}\n{near} 또 {near},답\n"
    _, offered, _ = offer("question,answer\n" + rows)
    assert offered["long rows"].rows == 1
    assert figures(offered["long rows"].finding) == ["2", "10,000", "1"]


def test_long_rows_are_counted_in_tokens_where_there_is_a_tokenizer(offer, tmp_path):
    tokenizer = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    rows = "".join(f"{words(n)},{words(-n)}\n" for n in range(1, 20))
    rows += f"{words(30, 5)},{words(31, 9)}\n{words(32, 13)},{words(33, 1)}\n"
    text = "question,answer\n" + rows
    plan, offered, _ = offer(text, tokenizer=tmp_path, context=12)
    assert figures(offered["long rows"].finding) == ["2", "12", "1"]
    outcome, _ = write_files(tmp_path / "rows.csv", plan, [], tmp_path)
    assert sum(reason.rows for reason in outcome.reasons) == offered["long rows"].rows == 1
    assert "long rows" not in offer(text, tokenizer=tmp_path, context=14)[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": 0.6, "test": 0.6}, r"--validation 0\.6 and --test 0\.6 .* 1\.2"),
        ({"validation": float("nan")}, "--validation nan .* below 1"),
        ({"context": 100}, "--context 100 .*--tokenizer"),
        ({"tokenizer": Path("model")}, "--tokenizer .*--context"),
        ({"rejected": "b"}, "--rejected .*--format preference, not chat"),
    ],
)
def test_options_that_would_be_ignored_are_refused(offer, options, message):
    with pytest.raises(ConfigError, match=message):
        offer(reviews(), **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prompt": "x {review"}, "--prompt 'x {review'"),
        ({"completion": "{{{rating"}, "--completion '{{{rating'"),
        ({"prompt": "rating", "completion": "{rating}"}, "rating is used as both"),
        ({"prompt": "rating"}, "rating is used as both"),
    ],
)
def test_patterns_that_cannot_be_meant_are_refused(offer, options, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        offer(reviews(), **options)
    assert offer(reviews(), prompt="{{ {review}", completion="rating")[0].prompt == "{{ {review}"


@pytest.mark.parametrize(
    ("row", "wanted", "words"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, {}, "--prompt prompt"),
        ({"topic": "q", "chosen": "a", "rejected": "b"}, {}, "--prompt topic"),
        (
            {"topic": "q", "chosen": "a", "Rejected": "b"},
            {"format": "preference"},
            "--prompt topic",
        ),
    ],
)
def test_two_answers_suggest_the_format_that_learns_from_both(offer, row, wanted, words):
    line = json.dumps(row) + "\n"
    rejected = list(row)[2]
    options = f"--format preference {words} --completion chosen --rejected {rejected}"
    with pytest.raises(DataError, match=f": {options}$"):
        offer(line, "p.jsonl", **wanted)


def test_a_pair_without_its_worse_answer_is_refused(offer):
    line = json.dumps({"prompt": "q", "chosen": "a", "worse": "b"}) + "\n"
    with pytest.raises(DataError, match=r"p\.jsonl: .*no column rejected.*--rejected"):
        offer(line, "p.jsonl", format="preference")
    assert offer(line, "p.jsonl", format="preference", rejected="worse")[0].rejected == "{worse}"


def test_a_system_message_beside_chats_is_refused(offer):
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    with pytest.raises(DataError, match=r"c\.jsonl .*--system"):
        offer(json.dumps({"messages": turns}) + "\n", "c.jsonl", system="Be kind.")


def test_chats_and_pairs_are_known_by_their_columns(offer):
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    plan, _, _ = offer(json.dumps({"messages": turns}) + "\n", "c.jsonl")
    assert (plan.source, plan.system) == ("messages", "{system}")
    line = json.dumps({"prompt": "q", "chosen": "a", "rejected": "b"}) + "\n"
    plan, _, _ = offer(line, "p.jsonl", format="preference")
    assert (plan.completion, plan.rejected) == ("{chosen}", "{rejected}")


def test_a_manifest_replays_the_same_bytes_and_names_what_differs(offer, tmp_path):
    plan, _, _ = offer(reviews() + "a  b,1\n")
    source, again = tmp_path / "rows.csv", tmp_path / "again"
    again.mkdir()
    _, first = write_files(source, plan, [], tmp_path)
    old = read_manifest(output_files(source, tmp_path)["manifest"])
    assert old == first
    _, second = write_files(source, old.plan, [], again)
    assert list(differences(old, second)) == []
    for name in (*SPLITS, "aside"):
        mine, theirs = output_files(source, tmp_path)[name], output_files(source, again)[name]
        assert mine.read_bytes() == theirs.read_bytes()
    source.write_text(reviews(100), encoding="utf-8")
    _, third = write_files(source, old.plan, [], again, overwrite=True)
    (difference,) = differences(old, third)
    assert "rows.csv" in difference
    with pytest.raises(ConfigError, match=r"rows\.csv: : Invalid JSON"):
        read_manifest(source)


def test_nothing_is_overwritten_unasked_and_nothing_half_written(offer, tmp_path):
    plan, _, _ = offer(reviews())
    source = tmp_path / "rows.csv"
    write_files(source, plan, [], tmp_path)
    with pytest.raises(DataError, match=r"rows_prepared_train\.jsonl.*--overwrite"):
        write_files(source, plan, [], tmp_path)
    source.write_text("review,rating\n가,1\n나,1\n", encoding="utf-8")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(DataError, match="same answer"):
        write_files(source, plan, [], tmp_path, overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_without_a_terminal_the_command_line_asks_no_question(jangin, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(reviews() + "a  b,1\n", encoding="utf-8")
    code, printed = jangin("prepare", path)
    assert code == 2
    assert "there is no terminal to ask at. Use -y" in printed
    assert "no terminal" not in jangin("prepare", tmp_path / "missing.csv")[1]
    assert "-y" in printed
    code, printed = jangin("prepare", path, "-y")
    assert code == 0, printed
    assert "[recommended] 1 row " in printed
    assert "201 of 201 rows: train 161, validation 20, test 20" in printed
    report = json.loads((tmp_path / "rows_prepared_report.json").read_text())
    assert report["remedies"] == [{"name": "clean text", "taken": True, "rows": 1}]
    code, printed = jangin(
        "prepare", path, "--apply", tmp_path / "rows_prepared_manifest.json", "--overwrite"
    )
    assert code == 0
    assert "!" not in printed
    code, printed = jangin(
        "prepare", path, "--apply", tmp_path / "rows_prepared_manifest.json", "--prompt", "review",
        "--seed", 42, "-y",
    )  # fmt: skip
    assert code == 2
    assert "--prompt, --seed" in printed


def at_a_terminal(fork, path, typed):
    """(exit code, what was printed) of `prepare`; these keys are typed whenever it asks."""
    screen, side = pty.openpty()
    words, terminal = ["prepare", path], os.ttyname(side)
    process = fork("tests.forked:run_command", words, stdin=terminal, output=terminal)
    printed, questions, ended = b"", 0, False
    while True:
        if select.select([screen], [], [], 0.02)[0]:
            printed += os.read(screen, 4096)
            if printed.count(b"Do it?") > questions:
                questions += 1
                os.write(screen, typed)
        elif ended:
            break
        ended = process.poll() is not None
    os.close(screen)
    os.close(side)
    return process.returncode, printed.decode()


@pytest.mark.slow
def test_the_command_line_asks_where_there_is_a_terminal_and_takes_no_for_an_answer(tmp_path, fork):
    path = tmp_path / "rows.csv"
    path.write_text(reviews() + "a  b,1\n", encoding="utf-8")
    code, printed = at_a_terminal(fork, path, b"n\n")
    assert code == 0, printed
    manifest = read_manifest(tmp_path / "rows_prepared_manifest.json")
    assert [(a.name, a.taken) for a in manifest.remedies] == [("clean text", False)]
    assert manifest.plan.steps == ()
    code, printed = at_a_terminal(fork, path, b"n\n")
    assert code == 2
    assert "Do it?" not in printed
    assert "--overwrite" in printed


@pytest.mark.slow
def test_ctrl_c_at_a_question_leaves_nothing_behind_and_says_so(tmp_path, fork):
    path = tmp_path / "rows.csv"
    path.write_text(reviews() + "a  b,1\n", encoding="utf-8")
    code, printed = at_a_terminal(fork, path, b"\x03")
    assert code == 130, printed
    assert "Nothing was written." in printed
    assert "is kept" not in printed
    assert [entry.name for entry in tmp_path.iterdir()] == ["rows.csv"]


@pytest.mark.parametrize(("more", "kept"), [("", 0), ("{text},3\n", 1)])
def test_a_text_with_two_labels_equally_often_is_set_aside(jangin, tmp_path, more, kept):
    text = "한 글에 별점이 둘"
    path = tmp_path / "rows.csv"
    path.write_text(reviews() + f"{text},1\n{text}!,3\n" + more.format(text=text), "utf-8")
    code, printed = jangin("prepare", path, "-y", "--validation", 0, "--test", 0)
    assert code == 0, printed
    assert ("1 of them equally often" in printed) == (not kept)
    assert ("the rows are set aside" in printed) == (not kept)
    train, aside = (
        (tmp_path / f"rows_prepared_{name}.jsonl").read_text("utf-8") for name in ("train", "aside")
    )
    assert (train.count(text), aside.count(text)) == (kept, 2)


def test_of_two_free_answers_equally_often_the_first_is_kept(jangin, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("question,answer\n" + "".join(f"{words(n)},{words(n)}!\n" for n in range(60)))
    with path.open("a", encoding="utf-8") as file:
        file.write("몇 시에 여나요?,아홉 시입니다.\n몇 시에 여나요?,아침에 엽니다.\n")
    code, printed = jangin("prepare", path, "-y", "--validation", 0, "--test", 0)
    assert code == 0, printed
    train = (tmp_path / "rows_prepared_train.jsonl").read_text("utf-8")
    assert "아홉 시입니다." in train
    assert "아침에 엽니다." not in train


def test_a_file_is_shown_in_words_and_as_a_page(jangin, tmp_path):
    path = tmp_path / "rows.csv"
    text = reviews() + "문의 <b>hong@example.com</b> 로,1\n" + words(0) + ",4\n"
    path.write_text(text, encoding="utf-8")
    page = tmp_path / "data.html"
    code, printed = jangin("show", "data", path, "-o", page)
    assert code == 0, printed
    assert "질문과 답 202행입니다" in printed
    assert "답이 여럿인 질문: 1" in printed
    html = page.read_text(encoding="utf-8")
    assert html.count("<svg") >= 3
    assert "<b>hong" not in html
    assert "hong@example.com" not in html.split("data_longest")[0].split("<h2>가장")[0]
    code, printed = jangin("show", "data", path, "--language", "en")
    assert "Questions with several answers: 1" in printed
    code, printed = jangin("show", "data", tmp_path / "none.csv")
    assert (code, "none.csv" in printed) == (2, True)


PROJECT = """\
name: stars
examples:
  read:
    path: rows.csv
    format:
      type: table
      prompt: "{review}"
      completion: "{rating}"
      steps:
        - {type: clean_text}
        - {type: labels, column: rating, labels: ["1", "2", "3", "4"]}
        - {type: deduplicate}
  split: {unseen_sections: 0, held_out_paraphrases: 0, validation: 0.1, test: 0.1}
models:
  catalog:
    base: {type: starter, size: 0.5M, vocabulary_size: 300, context_length: 32}
"""


def test_the_data_of_a_project_is_shown_with_its_splits(jangin, tmp_path):
    (tmp_path / "rows.csv").write_text(reviews(), encoding="utf-8")
    (tmp_path / "project.yaml").write_text(PROJECT, encoding="utf-8")
    code, printed = jangin("show", "data", "-p", tmp_path)
    assert code == 2
    assert "jangin run" in printed
    code, printed = jangin("run", "split", "-p", tmp_path)
    assert code == 0, printed
    code, printed = jangin("show", "data", "-p", tmp_path)
    assert code == 0, printed
    assert "질문과 답" in printed
    assert "분할" in printed
