from jangin.metrics.text import find_leaks

TRAIN = {
    "t1": "입사 후 1년이 지난 직원의 연차휴가는 모두 며칠입니까?",
    "t2": "경조휴가를 신청하려면 어떤 서류를 내야 합니까?",
    "t3": "재택근무는 한 주에 며칠까지 할 수 있습니까?",
}


def test_white_space_punctuation_and_width_do_not_hide_a_copy():
    leaks = find_leaks(TRAIN, {"e1": "입사 후 １년이 지난 직원의 연차 휴가는, 모두 며칠 입니까"})
    assert [(leak.train_id, leak.evaluation_id, leak.kind) for leak in leaks] == [
        ("t1", "e1", "exact")
    ]
    assert leaks[0].similarity == 1


def test_another_ending_is_a_near_copy():
    (leak,) = find_leaks(TRAIN, {"e1": "입사 후 1년이 지난 직원의 연차휴가는 모두 며칠인가요?"})
    assert (leak.train_id, leak.kind) == ("t1", "near")
    assert 0.8 <= leak.similarity < 1


def test_a_paraphrase_is_no_leak():
    assert find_leaks(TRAIN, {"e1": "일 년 넘게 다니면 연차가 며칠 나오나요?"}) == []


def test_a_longer_question_that_quotes_a_training_question_is_no_leak():
    longer = "신입 사원이 아니라 오래 다닌 사람에게 묻습니다. " + TRAIN["t3"]
    assert find_leaks(TRAIN, {"e1": longer}) == []


def test_a_template_with_another_word_or_number_is_no_leak():
    siblings = {
        "word": "입사 후 1년이 지난 직원의 출산휴가는 모두 며칠입니까?",
        "number": "입사 후 3년이 지난 직원의 연차휴가는 모두 며칠입니까?",
    }
    assert find_leaks(TRAIN, siblings) == []


def test_each_leaked_question_is_listed_once_with_its_closest_twin():
    train = {"far": TRAIN["t1"].replace("며칠입니까", "며칠인지요"), "same": TRAIN["t1"]}
    leaks = find_leaks(train, {"e1": TRAIN["t1"], "e2": "전혀 다른 질문입니다", "e3": TRAIN["t1"]})
    assert [(leak.evaluation_id, leak.train_id) for leak in leaks] == [
        ("e1", "same"),
        ("e3", "same"),
    ]


def test_empty_sets_and_texts_without_letters_leak_nothing():
    assert find_leaks({}, {"e1": "질문"}) == []
    assert find_leaks(TRAIN, {}) == []
    assert find_leaks({"t": "?!"}, {"e": "..."}) == []
