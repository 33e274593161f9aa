from jangin.core.records import Example, Message
from jangin.evaluation.confidence import LEAST, calibrate, group_of, in_words
from jangin.evaluation.results import grade_prediction
from jangin.inference.ask import NOT_TAUGHT, TaughtQuestions, Trace


def made(question, answer, **fields):
    prompt = (Message(role="user", content=question),)
    completion = Message(role="assistant", content=answer)
    return Example.make(prompt, completion, (), kind="original", **fields)


def catalogue(count):
    return [
        made(
            f"P-{n}의 보증 기간은 어떻게 되나요?",
            f"{n}개월",
            family=f"f{n}",
            source="c.pdf",
            page=n,
        )
        for n in range(1, count + 1)
    ]


def answered(example, text, test_set="held_out_paraphrases"):
    return grade_prediction(example, test_set, "tuned", text)


def test_confidence_is_the_share_of_held_out_answers_that_were_right_with_such_a_trace():
    train = catalogue(60)
    asked = [made(f"P-{n} 보증 기간 알려 주세요", f"{n}개월") for n in range(1, 61)]
    rows = [answered(e, e.answer if n % 3 else "999개월") for n, e in enumerate(asked)]
    rows += [answered(e, "999개월", "seen_questions") for e in train]  # not counted
    rows += [answered(made("본사는 어디인가요?", "부산"), "부산")]
    groups = calibrate(rows, train)
    trace = TaughtQuestions(train).trace("P-5의 보증 기간은?", "5개월")
    taught = group_of(groups, trace)
    assert (taught.status, taught.right, taught.n) == ("taught", 40, 40)
    assert in_words(taught).startswith("confidence 100 %: of 40 held-out questions")
    wrong = TaughtQuestions(train).trace("P-5의 보증 기간은?", "6개월")
    assert (wrong.status, wrong.origin) == ("differs", "c.pdf, page 5")
    assert group_of(groups, wrong).right == 0
    few = group_of(groups, NOT_TAUGHT)
    assert (few.n, few.share) == (1, None)
    assert in_words(few).endswith("(1 of 1 were right)")


def test_groups_hold_enough_questions_and_their_shares_grow_with_similarity():
    train = catalogue(90)
    forms = ("P-{}의 보증 기간은 어떻게 되나요?", "P-{} 보증", "이 제품 P-{} 보증은 언제 끝나죠?")
    rows = []
    for n, example in enumerate(train, start=1):
        question = made(forms[n % 3].format(n), example.answer)
        rows.append(answered(question, example.answer if n % 3 != 2 or n % 2 else "1년"))
    groups = [group for group in calibrate(rows, train) if group.status == "taught"]
    assert all(group.n >= LEAST for group in groups)
    shares = [group.right / group.n for group in groups]
    assert shares == sorted(shares)
    assert group_of(groups, Trace("taught", train[0], 1.0)) == groups[-1]


def test_without_held_out_answers_there_is_no_confidence():
    assert calibrate([], catalogue(3)) == []
    assert in_words(group_of([], NOT_TAUGHT)) == "no held-out question was answered like this"
