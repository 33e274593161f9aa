"""Rows of the training files that the client scripts upload."""

import json

FACTS = (
    ("배송 기간은 며칠인가요?", "3일"),
    ("반품은 어디로 보내나요?", "2번 출구"),
    ("청구서는 누가 서명하나요?", "구매팀장"),
    ("창고는 몇 시에 여나요?", "오전 7시"),
    ("안전밸브는 무슨 색인가요?", "빨간색"),
    ("펌프는 누가 고치나요?", "서비스팀"),
    ("P-100의 무게는 얼마인가요?", "14 kg"),
    ("P-300에는 어떤 기름을 쓰나요?", "ISO VG 46"),
    ("누수는 어떻게 신고하나요?", "관제실에 전화"),
    ("밀봉 부품의 코드는 무엇인가요?", "HB-07"),
    ("신입은 누가 교육하나요?", "조장"),
    ("정기 점검은 언제인가요?", "10월"),
)
SYSTEM = "짧게 답하세요."


def jsonl(rows):
    """A file without a newline at its end, as the course notebook writes it."""
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()


def chat(count=None, system=True):
    head = [{"role": "system", "content": SYSTEM}] if system else []
    return jsonl(
        {
            "messages": [
                *head,
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
        }
        for question, answer in FACTS[:count]
    )


def completion():
    return jsonl({"prompt": f"{q}\n\n###\n\n", "completion": f" {a}"} for q, a in FACTS)


def preference():
    return jsonl(
        {
            "input": {"messages": [{"role": "user", "content": question}]},
            "preferred_output": [{"role": "assistant", "content": answer}],
            "non_preferred_output": [{"role": "assistant", "content": "모르겠습니다."}],
        }
        for question, answer in FACTS
    )


def batch(model, endpoint="/v1/chat/completions", count=5):
    return jsonl(
        {
            "custom_id": f"row-{number}",
            "method": "POST",
            "url": endpoint,
            "body": {
                "model": model,
                "messages": [{"role": "user", "content": question}],
                "max_tokens": 4,
                "temperature": 0,
            },
        }
        for number, (question, _) in enumerate(FACTS[:count])
    )
