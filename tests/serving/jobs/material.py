"""Training files of jobs."""

import json


def chats(count, start=0, words=2):
    return [
        {
            "messages": [
                {"role": "user", "content": f"What costs item {n}? " + "please " * words},
                {"role": "assistant", "content": f"Item {n} costs {n * 7 % 100} won."},
            ]
        }
        for n in range(start, start + count)
    ]


def pairs(count, start=0):
    return [
        {
            "input": {"messages": row["messages"][:1]},
            "preferred_output": row["messages"][1:],
            "non_preferred_output": [{"role": "assistant", "content": "No idea, ask somebody."}],
        }
        for row in chats(count, start)
    ]


def as_jsonl(rows):
    return "\n".join(json.dumps(row) for row in rows).encode()
