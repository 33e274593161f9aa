"""A small tokenizer, tiny models and rows, shared by the tests of the room `models`."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch

from jangin.core.records import Message
from jangin.models.starter import train_tokenizer

SUBJECTS = ("연차휴가", "병가", "출장비", "회의실", "법인카드", "주차권", "노트북", "방문증")
PAIRS = [
    (f"{subject}는 {ask}?", f"{subject}는 {10 + 3 * i}일 안에 {unit}팀에 냅니다.")
    for i, subject in enumerate(SUBJECTS)
    for ask, unit in (("언제 신청하나요", "인사"), ("누가 승인하나요", "총무"))
]


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer([text for pair in PAIRS for text in pair], 400, 512)


@pytest.fixture(scope="session")
def conversations():
    return [
        (Message(role="user", content=question), Message(role="assistant", content=answer))
        for question, answer in PAIRS
    ]
