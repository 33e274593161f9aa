"""Rows of common data sets: which columns they use, and that no column vanishes in silence."""

import json

import pytest

from jangin.core.errors import DataError
from jangin.prepare.command import output_files, propose, write_files
from jangin.prepare.options import PrepareOptions


@pytest.fixture
def prepared(tmp_path):
    """Prepare rows with every suggestion accepted: (training lines, printed lines)."""

    def call(rows, name="rows.jsonl", **options):
        path = tmp_path / name
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        is_array = name.startswith("array") or name.endswith(".json")
        path.write_text(f"[{', '.join(lines)}]" if is_array else "\n".join([*lines, ""]))
        said = []
        options = PrepareOptions(validation=0, test=0, **options)
        plan, records = propose(path, options, lambda _: True, said.append)
        write_files(path, plan, records, tmp_path, overwrite=True)
        lines = output_files(path, tmp_path)["train"].read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines], said

    return call


FRUIT = [
    {"instruction": "Categorize the fruit.", "input": "Banana", "output": "Non-citrus.", "n": "1"},
    {"instruction": "[1, 2]", "input": "  ", "output": "Citrus."},
    {"instruction": "과일을 하나 고르시오.", "output": "사과"},
]


def texts(line):
    return [(message["role"], message["content"]) for message in line["messages"]]


def test_an_instruction_and_its_input_are_one_question(prepared):
    lines, said = prepared(FRUIT)
    assert [texts(line) for line in lines] == [
        [("user", "Categorize the fruit.\n\nBanana"), ("assistant", "Non-citrus.")],
        [("user", "[1, 2]"), ("assistant", "Citrus.")],
        [("user", "과일을 하나 고르시오."), ("assistant", "사과")],
    ]
    assert [line for line in said if line.startswith("left out: n.")]


def test_columns_that_the_user_does_not_name_are_named(prepared):
    lines, said = prepared(FRUIT, prompt="instruction", completion="output")
    assert texts(lines[0])[0] == ("user", "Categorize the fruit.")
    assert [line for line in said if line.startswith("left out: input, n.")]


def test_nothing_is_named_where_every_column_is_used(prepared):
    _, said = prepared([{"question": "a", "answer": "b"}, {"question": "c", "answer": "d"}])
    assert not [line for line in said if line.startswith("left out")]


def test_a_system_column_becomes_the_system_message(prepared):
    rows = [
        {"system_prompt": "Be brief.", "question": "a", "answer": "b"},
        {"system_prompt": "", "question": "c", "answer": "d"},
    ]
    lines, said = prepared(rows)
    assert [texts(line)[0] for line in lines] == [("system", "Be brief."), ("user", "c")]
    assert not [line for line in said if line.startswith("left out")]
    assert texts(prepared(rows, system="Answer.")[0][0])[0] == ("system", "Answer.")


def test_show_data_describes_the_same_questions_and_names_the_other_columns(tmp_path, jangin):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in FRUIT))
    code, printed = jangin("show", "data", path, "--language", "en", "-o", tmp_path / "page.html")
    assert code == 0
    assert "Columns that are left out: n" in printed
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Columns that are left out: n" in page
    assert "Banana" in page


def chat(*turns, **more):
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text, **more} for i, text in enumerate(turns)]


def sharegpt(*turns):
    names = ("human", "gpt")
    return [{"from": names[i % 2], "value": text} for i, text in enumerate(turns)]


LONG = ("안녕", "네, 말씀하세요.", "def f():\n    return 1 # ?", "Yes.\n\n    indented")


@pytest.mark.parametrize(
    "rows",
    [
        [{"messages": chat(*LONG)}, {"messages": chat("a", "b")}],
        [{"conversations": sharegpt(*LONG)}, {"conversations": sharegpt("a", "b")}],
        [{"conversations": chat(*LONG)}, {"conversations": chat("a", "b")}],
    ],
)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonlines", "rows.json", "array.jsonl"])
def test_chats_of_several_turns_are_passed_on_as_they_are(prepared, rows, name):
    lines, said = prepared(rows, name)
    assert [line["messages"] for line in lines] == [chat(*LONG), chat("a", "b")]
    assert not [line for line in said if line.startswith("left out")]


def test_turns_that_differ_before_the_same_question_are_different_rows(prepared):
    rows = [{"messages": chat(f"질문 {n}", "네", "계속", f"답 {n}")} for n in range(3)]
    lines, _ = prepared([*rows, rows[0]])
    assert [line["messages"] for line in lines] == [row["messages"] for row in rows]


def test_a_system_column_beside_chats_is_their_system_message(prepared):
    lines, _ = prepared([{"system": "짧게.", "conversations": sharegpt("a", "b")}, *TWO])
    assert lines[0]["messages"] == [{"role": "system", "content": "짧게."}, *chat("a", "b")]


TWO = [{"conversations": sharegpt("c", "d")}]


def test_answers_with_weight_0_are_not_trained(prepared):
    rows = [{"messages": chat("a", "b", "c", "d")}, {"messages": chat("e", "f")}]
    rows[0]["messages"][1]["weight"] = 0
    rows.append({"messages": [*chat("g"), {"role": "assistant", "content": "bad", "weight": 0}]})
    lines, _ = prepared(rows)
    assert [line["messages"] for line in lines] == [rows[0]["messages"], rows[1]["messages"]]


PAIR = {"prompt": chat("a"), "chosen": chat("x", "good")[1:], "rejected": chat("x", "bad")[1:]}


@pytest.mark.slow
@pytest.mark.parametrize(
    "row",
    [
        PAIR,
        {"prompt": "a", "chosen": "good", "rejected": "bad"},
        {"prompt": "a", "chosen": chat("a", "good"), "rejected": chat("a", "bad")},
        {"chosen": chat("a", "good"), "rejected": chat("a", "bad")},
        {
            "chosen": "\n\nHuman: a\n\nAssistant: good",
            "rejected": "\n\nHuman: a\n\nAssistant: bad",
        },
        {
            "input": {"messages": chat("a"), "tools": []},
            "preferred_output": chat("", "good")[1:],
            "non_preferred_output": chat("", "bad")[1:],
        },
        {
            "conversations": sharegpt("a"),
            "chosen": sharegpt("", "good")[1],
            "rejected": sharegpt("", "bad")[1],
        },
    ],
)
def test_every_form_of_a_pair_is_one_and_its_own_output_is_read_again_unchanged(prepared, row):
    other = json.loads(json.dumps(row).replace("good", "fine"))
    lines, _ = prepared([row, other], format="preference")
    assert lines == [PAIR, json.loads(json.dumps(PAIR).replace("good", "fine"))]
    assert prepared(lines, "again.jsonl", format="preference")[0] == lines
    with pytest.raises(DataError, match="--format preference") as error:
        prepared([row], "no.jsonl")
    assert "--completion rejected" not in str(error.value)
    assert "--completion non_preferred_output" not in str(error.value)


def test_pairs_of_several_turns_keep_them_and_those_that_differ_earlier_are_named(prepared):
    turns = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
    rows = [
        {"chosen": f"{turns} good", "rejected": f"{turns} bad"},
        {"chosen": f"{turns} fine", "rejected": f"{turns.replace('b', 'B')} bad"},
        {"chosen": f"{turns} nice", "rejected": f"{turns} bad"},
    ]
    lines, _ = prepared(rows, format="preference")
    assert [line["prompt"] for line in lines] == [chat("a", "b", "c")] * 2
    assert lines[0]["chosen"] == [{"role": "assistant", "content": "good"}]


KTO = [
    {"prompt": "a", "completion": "good", "label": True},
    {"prompt": "a", "completion": "bad", "label": False},
    {"prompt": "b", "completion": "fine", "label": True},
    {"prompt": "c", "completion": "worse", "label": False},
]


@pytest.mark.parametrize("shape", ["columns", "messages"])
def test_bad_answers_are_never_trained_and_pair_with_good_ones(prepared, shape):
    rows = KTO
    if shape == "messages":
        rows = [{"messages": chat(r["prompt"], r["completion"]), "label": r["label"]} for r in KTO]
    lines, said = prepared(rows)
    assert [texts(line)[1][1] for line in lines] == ["good", "fine"]
    assert not [line for line in said if line.startswith("left out")]
    lines, _ = prepared(rows, format="preference")
    assert lines == [PAIR]


def test_labels_of_texts_are_answers(prepared):
    rows = [{"document": f"글 {n} {'가나다라'[n]}", "label": str(n % 2)} for n in range(4)]
    assert [texts(line)[1][1] for line in prepared(rows)[0]] == ["0", "1", "0", "1"]


def test_answers_without_a_partner_are_refused_as_pairs(prepared):
    with pytest.raises(DataError, match="no bad answer to its prompt"):
        prepared([KTO[0], KTO[2]], format="preference")


def test_one_text_a_line_has_no_question(tmp_path):
    path = tmp_path / "rows.txt"
    path.write_text("Great app, I like it.\nBad, bad, bad\nIt crashes\n하나, 둘\n")
    with pytest.raises(DataError, match="one text a row"):
        propose(path, PrepareOptions(), lambda _: True, lambda _: None)
    path.write_text("question\tanswer\na\tb\nc\td\n")
    plan, _ = propose(path, PrepareOptions(), lambda _: True, lambda _: None)
    assert plan.prompt == "{question}"


def test_control_tokens_at_the_ends_go_and_those_within_are_named(prepared):
    rows = [
        {"prompt": "a", "completion": "b<|endoftext|>"},
        {"prompt": "c", "completion": "d<|im_end|>\n<|im_start|>e"},
        {"prompt": "f", "completion": "<|endoftext|>"},
    ]
    lines, said = prepared(rows)
    assert [texts(line)[1][1] for line in lines] == ["b", rows[1]["completion"]]
    assert [line for line in said if "control tokens" in line and line.startswith("1 row ")]


def test_a_plain_yes_changes_nothing_that_only_the_user_can_know(tmp_path, jangin):
    path = tmp_path / "rows.jsonl"
    said = [f"고객 hong{n}@example.com 님, 주문은 {n}번입니다" for n in range(4)]
    rows = [{"prompt": text, "completion": f"네 {n}"} for n, text in enumerate(said)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ("prepare", path, "-y", "--test", "0", "--validation", "0", "--overwrite")
    code, printed = jangin(*options)
    assert (code, printed.count("[optional]")) == (0, 1)
    train = output_files(path, tmp_path)["train"]
    lines = [json.loads(line) for line in train.read_text().splitlines()]
    assert [texts(line)[0] for line in lines] == [("user", text) for text in said]
    jangin(*options, "--mask-personal")
    assert train.read_text().count("[email]") == 4


def test_rows_without_a_letter_are_merged(prepared):
    rows = [
        {"review": text, "rating": "5"} for text in ("👍", "👍 👍!", "!👍", "ㅋㅋㅋ", "ㅋㅋ", "👎")
    ]
    lines, _ = prepared([*rows, {"review": "bad", "rating": "1"}])
    assert [texts(line)[0][1] for line in lines] == ["👍", "👍 👍!", "ㅋㅋㅋ", "👎", "bad"]


def test_a_column_of_texts_called_conversation_is_no_chat(prepared):
    rows = [{"conversation": f"말 {n}", "rating": str(n)} for n in range(3)]
    with pytest.raises(DataError, match="conversation, rating"):
        prepared(rows)
    lines, _ = prepared(rows, "named.jsonl", prompt="conversation", completion="rating")
    assert texts(lines[0]) == [("user", "말 0"), ("assistant", "0")]


@pytest.mark.parametrize(
    ("question", "answer"), [("질문", "답변"), ("문제", "정답"), ("질의", "회신"), ("Q", "A")]
)
def test_korean_names_of_question_and_answer_are_recognised(prepared, question, answer):
    rows = [{question: f"{i}번 창구의 담당자는?", answer: f"담당 {i * 7}"} for i in range(3)]
    lines, _ = prepared(rows)
    assert texts(lines[1]) == [("user", "1번 창구의 담당자는?"), ("assistant", "담당 7")]


def test_conversations_that_end_alike_are_not_labels_and_all_stay(prepared):
    turns = [
        (f"{i}번 창구는 어디인가요?", f"{i}층입니다.", "고맙습니다.", "네.") for i in range(1, 31)
    ]
    roles = ("user", "assistant", "user", "assistant")
    rows = [
        {"messages": [{"role": r, "content": t} for r, t in zip(roles, chat, strict=True)]}
        for chat in turns
    ]
    lines, said = prepared(rows)
    assert sorted(texts(line)[1][1] for line in lines) == sorted(chat[1] for chat in turns)
    assert "task: free answers" in said
