"""The work of stages beside `load` gives on two nodes what it gives in this process."""

import random
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from jangin.core.errors import MachineError
from jangin.core.execution.local import Local
from jangin.core.executor import InProcess, Resources, map_all
from jangin.core.ledger import Ledger
from jangin.core.model_protocols import LocalEncoder
from jangin.core.records import Message
from jangin.evaluation.evaluate import STAGE as EVALUATE
from jangin.evaluation.systems import local
from jangin.examples.checks import row_checks
from jangin.examples.checks.row_checks import AcceptanceThresholds, PassageRow, check_rows
from jangin.inference.encoder import open_encoder
from jangin.models.starter import make_starter
from jangin.text.dedup import lsh, near_duplicates
from jangin.text.dedup.near_duplicates import DuplicateRules, find_duplicates
from jangin.text.dedup.spread import Spread
from jangin.training.preferences import Sampling, _Prompts, _Sampler
from tests.core.execution.cluster.machines import wait_for_nodes
from tests.evaluation.test_evaluate import context_of
from tests.evaluation.test_local import context, on, tables
from tests.inference.test_encoder import TEXTS, tiny

__all__ = ("context", "context_of", "tiny")
"""Fixtures of other files."""

WORDS = ["연차", "휴가", "출장비", "신청", "기한", "서류", "팀장", "승인", "며칠", "언제"]


def questions(count):
    """Questions, every second with a copy in which a character differs."""
    chance = random.Random(0)
    texts = []
    for number in range(count):
        text = f"{' '.join(chance.choices(WORDS, k=9))} {number}번 문서에서 어떻게 됩니까?"
        texts += [text, text.replace("어떻게", "어떠케") if number % 2 else f"{text} "]
    return texts


def on_cpus(executor, stage="rank"):
    """The executor as `cluster.resources` has it for nodes without a GPU."""
    return replace(executor, overrides={stage: Resources(cpus=1)}).for_stage(stage)


def test_near_duplicates_are_those_of_one_process(executor, tmp_path, monkeypatch):
    monkeypatch.setattr(lsh, "PART", 1500)
    monkeypatch.setattr(near_duplicates, "PAIRS_AT_ONCE", 2000)
    texts = questions(2000)
    rules, groups = DuplicateRules(guard=True), [index // 2 for index in range(len(texts))]
    here = find_duplicates(texts, rules, groups=groups)
    assert len(here) > 900
    spread = Spread(executor, tmp_path / "journal", texts_from=1, pairs_from=1)
    assert find_duplicates(texts, rules, groups=groups, spread=spread) == here
    assert not list((tmp_path / "journal").iterdir())


def test_a_node_that_dies_during_the_search_changes_nothing(
    executor, cluster, tmp_path, monkeypatch
):
    monkeypatch.setattr(lsh, "PART", 100)
    texts = questions(2000)
    spread = Spread(executor, tmp_path / "journal", texts_from=1, pairs_from=1)
    asked = 0

    def dying():
        nonlocal asked
        asked += 1
        if asked == 9:
            cluster.machines[1].kill()

    class Texts(list):
        def __getitem__(self, index):
            if isinstance(index, slice):
                dying()
            return super().__getitem__(index)

    try:
        gone = find_duplicates(Texts(texts), spread=spread)
    finally:
        cluster.replace()
        wait_for_nodes(2)
    assert asked >= 9
    assert gone == find_duplicates(texts)


def test_rows_are_checked_as_in_one_process(executor, monkeypatch):
    monkeypatch.setattr(row_checks, "SPREAD_FROM", 1)
    monkeypatch.setattr(row_checks, "ROWS_AT_ONCE", 7)
    source = "연차 휴가는 15일이며 팀장이 승인합니다."
    rows = [
        PassageRow(
            f"연차 휴가는 며칠입니까? {number}번",
            f"{number}일입니다.",
            "연차 휴가는 15일이며",
            source,
            source,
            "ko",
        )
        for number in range(40)
    ]
    thresholds = AcceptanceThresholds(min_support=0.5, min_grounded=0.5, same_language=True)
    there = check_rows(rows, thresholds, executor)
    assert there == check_rows(rows, thresholds, InProcess())
    assert {decision.keep for decision in there} == {True, False}


def check_vectors(executor, model, folder):
    """Vectors of the same texts are computed by `executor` and in this process, and are equal."""
    ledger = Ledger(folder / "ledger.sqlite")
    config = LocalEncoder(type="local", path=model)
    here = open_encoder(config, folder, ledger).encode(TEXTS * 40, "query")
    there = open_encoder(config, folder, ledger, executor=executor)
    np.testing.assert_array_equal(there.encode(TEXTS * 40, "query"), here)
    ledger.close()


def test_an_encoder_on_nodes_gives_the_vectors_of_this_process(executor, tiny, tmp_path):
    check_vectors(on_cpus(executor), tiny, tmp_path)


def test_an_encoder_on_a_cluster_without_gpus_is_one_sentence(
    executor,
    tiny,
    tmp_path,
):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    waiting = replace(executor, wait_seconds=0, stage="rank")
    encoder = open_encoder(
        LocalEncoder(type="local", path=tiny), tmp_path, ledger, executor=waiting
    )
    with pytest.raises(
        MachineError,
        match=r"needs 1 CPU and 1 GPU, which none of the 2 nodes .*`rank: \{cpus: 1\}` under "
        r"`cluster.resources`",
    ) as caught:
        encoder.encode(TEXTS, "query")
    assert "\n" not in str(caught.value)
    ledger.close()


def test_answers_of_a_model_are_those_of_this_process(executor, tmp_path):
    folder = tmp_path / "base"
    texts = questions(20)
    make_starter(
        folder / "model", texts, size="0.5M", vocabulary_size=400, context_length=128, seed=0
    )
    source = Sampling(type="sampling", max_new_tokens=12)
    batches = [
        _Prompts(
            number,
            (f"{number}a", f"{number}b"),
            tuple((Message(role="user", content=text),) for text in texts[number : number + 2]),
        )
        for number in range(4)
    ]

    work = partial(_Sampler, folder, folder, source)
    sampler = work()
    here = [sampler(batch) for batch in batches]
    there = dict(map_all(on_cpus(executor, "preferences"), work, batches, "answered prompts"))
    assert [there[number] for number in range(4)] == here
    assert any(sample.text for samples in here for sample in samples)


def test_an_evaluation_is_that_of_this_process_also_where_a_node_dies(
    executor,
    context,
    cluster,
    monkeypatch,
):
    monkeypatch.setattr(local, "PROMPTS_AT_ONCE", 2)
    here = on(context, InProcess(), "here")
    EVALUATE.run(here)
    expected = tables(here)
    two = on(context, Local(2), "two")
    EVALUATE.run(two)
    assert tables(two) == expected
    there = on(context, on_cpus(executor, "evaluate"), "there")
    kills, answered = [], 0

    def advance(_bar, steps=1, note=""):
        nonlocal answered
        answered += 1
        if answered == 5:
            kills.append(cluster.machines[1].kill())

    monkeypatch.setattr(there.services.progress, "advance", advance)
    try:
        EVALUATE.run(there)
    finally:
        cluster.replace()
        wait_for_nodes(2)
    assert kills
    assert tables(there) == expected
    assert there.summary == here.summary
