"""Every common form of training rows through `prepare`: no row and no byte of an answer is lost.

    python bench/shapes [--rows 100 2000 20000]

Each form is written with this number of rows, of which some repeat and some have an empty answer;
every suggestion is accepted that -y accepts. A form fails if the rows that come out and those that
are set aside with a reason are not all the rows, if an output line is not word for word one of the
conversations that were written, or if a conversation is in neither file. Prints rows, lines,
rows set aside, seconds and rows per second; exits with 1 if a form fails.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from jangin.core.errors import DataError
from jangin.prepare.command import output_files, propose, write_files
from jangin.prepare.options import PrepareOptions

SIZES = (100, 2_000, 20_000)
EVERY_REPEATED, EVERY_EMPTY = 10, 25
NAMES = "가나다라마바사아자차카타파하거너더러머버서어저처커터퍼허"

Row = dict[str, Any]
Chat = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Example:
    """One conversation: its turns, a good and a bad answer, an instruction's input."""

    number: int
    system: str
    turns: tuple[str, ...]
    input: str
    good: str
    bad: str

    @property
    def question(self) -> str:
        """The instruction with its input."""
        return f"{self.turns[-1]}\n\n{self.input}" if self.input else self.turns[-1]


def word(number: int) -> str:
    """A word that no other number gives."""
    letters = ""
    while number or not letters:
        number, rest = divmod(number, len(NAMES))
        letters += NAMES[rest]
    return letters


def examples(rows: int) -> Iterator[Example]:
    """Rows with code, quotes, emoji and spaces in their answers; some repeat, some are empty."""
    for index in range(rows):
        number = index - 1 if index % EVERY_REPEATED == EVERY_REPEATED - 1 else index
        key = f"{word(number)}{word(number * 7 + 3)}"
        good = (
            f"def {key}():\n    return {{'값': {number}}}  # \"{key}\" \\n",
            f"{key}입니다. 🙂 <b>{number}</b>, $1,299.00",
            f"1. {key}\n\n\t- {number}\n  - ｆｕｌｌ，\\t 'x'",
        )[number % 3].replace("}  #", "} #")
        empty = index % EVERY_EMPTY == EVERY_EMPTY - 2
        yield Example(
            number=number,
            system=f"너는 {key} 상담원이다." if number % 4 == 0 else "",
            turns=(f"{key} 안녕?", f"네, {key}입니다.", f"{key} 번호는 무엇이며 왜 {number}인가?"),
            input=f"{key} 자료 {number}" if number % 2 else "",
            good="" if empty else good,
            bad=f"{key}: 모릅니다 {number}",
        )


def messages(*turns: str, names: tuple[str, str] = ("user", "assistant")) -> list[Row]:
    return [{"role": names[i % 2], "content": text} for i, text in enumerate(turns)]


def sharegpt(*turns: str) -> list[Row]:
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(turns)]


def transcript(*turns: str) -> str:
    return "".join(f"\n\n{('Human', 'Assistant')[i % 2]}: {t}" for i, t in enumerate(turns))


def system_of(example: Example) -> list[Row]:
    return [{"role": "system", "content": example.system}] if example.system else []


@dataclass(frozen=True)
class Form:
    """A form of rows: how a row is written, and what must come out."""

    row: Callable[[Example], Row]
    expected: Callable[[Example], Row]
    suffix: str = ".jsonl"
    is_array: bool = False
    format: str = "chat"


def one_turn(e: Example) -> Row:
    return {"messages": messages(e.turns[-1], e.good)}


def instruction(e: Example) -> Row:
    return {"messages": messages(e.question, e.good)}


def whole_chat(e: Example) -> Row:
    return {"messages": [*system_of(e), *messages(*e.turns, e.good)]}


def pair(e: Example) -> Row:
    return {
        "prompt": messages(e.turns[-1]),
        "chosen": messages("", e.good)[1:],
        "rejected": messages("", e.bad)[1:],
    }


def long_pair(e: Example) -> Row:
    return {**pair(e), "prompt": messages(*e.turns)}


def alpaca(e: Example) -> Row:
    return {"instruction": e.turns[-1], "input": e.input, "output": e.good}


def openai(e: Example) -> Row:
    return {
        "input": {"messages": messages(*e.turns), "tools": []},
        "preferred_output": messages("", e.good)[1:],
        "non_preferred_output": messages("", e.bad)[1:],
    }


def labelled(e: Example) -> Row:
    is_good = e.number % 2 == 0
    return {
        "prompt": e.turns[-1],
        "completion": e.good if is_good else e.good and e.bad,
        "label": is_good,
    }


def labelled_twice(e: Example) -> list[Row]:
    chat = messages(e.turns[-1], e.good)
    bad = messages(e.turns[-1], e.good and e.bad)
    return [{"messages": chat, "label": True}, {"messages": bad, "label": False}]


FORMS: dict[str, Form] = {
    "prompt, completion": Form(lambda e: {"prompt": e.turns[-1], "completion": e.good}, one_turn),
    "question, answer (.csv)": Form(
        lambda e: {"question": e.turns[-1], "answer": e.good}, one_turn, suffix=".csv"
    ),
    "Alpaca": Form(alpaca, instruction),
    "Alpaca (.json)": Form(alpaca, instruction, suffix=".json", is_array=True),
    "ChatML lists": Form(whole_chat, whole_chat),
    "ChatML lists, array in .jsonl": Form(whole_chat, whole_chat, is_array=True),
    "ChatML lists (.jsonlines)": Form(whole_chat, whole_chat, suffix=".jsonlines"),
    "ShareGPT": Form(
        lambda e: {"system": e.system, "conversations": sharegpt(*e.turns, e.good)}, whole_chat
    ),
    "KTO, for chats": Form(labelled, one_turn),
    "KTO, for pairs": Form(lambda e: {"rows": labelled_twice(e)}, pair, format="preference"),
    "OpenAI preference": Form(openai, long_pair, format="preference"),
    "TRL preference, texts": Form(
        lambda e: {"prompt": e.turns[-1], "chosen": e.good, "rejected": e.bad},
        pair,
        format="preference",
    ),
    "TRL preference, messages": Form(long_pair, long_pair, format="preference"),
    "TRL preference, prompt within": Form(
        lambda e: {
            "chosen": messages(*e.turns, e.good),
            "rejected": messages(*e.turns, e.bad),
        },
        long_pair,
        format="preference",
    ),
    "ShareGPT preference": Form(
        lambda e: {
            "conversations": sharegpt(*e.turns),
            "chosen": sharegpt("", e.good)[1],
            "rejected": sharegpt("", e.bad)[1],
        },
        long_pair,
        format="preference",
    ),
    "hh-rlhf": Form(
        lambda e: {
            "chosen": transcript(*e.turns, e.good),
            "rejected": transcript(*e.turns, e.bad),
        },
        long_pair,
        format="preference",
    ),
}


def write(form: Form, rows: int, path: Path) -> tuple[int, dict[str, int]]:
    """(number of rows written, {expected output line: rows that may give it})."""
    written: list[Row] = []
    expected: dict[str, int] = {}
    for example in examples(rows):
        row = form.row(example)
        written += row.get("rows", [row])
        if example.good and row.get("label", True):
            line = json.dumps(form.expected(example), ensure_ascii=False, sort_keys=True)
            expected[line] = expected.get(line, 0) + 1
    if form.suffix == ".csv":
        import csv

        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, written[0].keys())
            writer.writeheader()
            writer.writerows(written)
        return len(written), expected
    lines = [json.dumps(row, ensure_ascii=False) for row in written]
    path.write_text("[\n" + ",\n".join(lines) + "\n]" if form.is_array else "\n".join(lines) + "\n")
    return len(written), expected


def measure(form: Form, rows: int, folder: Path) -> dict[str, Any]:
    """Counts of one form, and its faults in words."""
    path = folder / f"rows{form.suffix}"
    count, expected = write(form, rows, path)
    options = PrepareOptions(format=form.format, validation=0, test=0)
    start = time.perf_counter()
    plan, records = propose(path, options, lambda s: s.level != "optional", lambda _: None)
    write_files(path, plan, records, folder, overwrite=True)
    seconds = time.perf_counter() - start
    files = output_files(path, folder)
    lines = files["train"].read_text(encoding="utf-8").splitlines()
    aside = files["aside"].read_text(encoding="utf-8").splitlines()
    made = [json.dumps(json.loads(x), ensure_ascii=False, sort_keys=True) for x in lines]
    changed = [line for line in made if line not in expected]
    lost = expected.keys() - set(made)
    unnamed = [line for line in aside if not json.loads(line)["reason"]]
    faults = []
    if len(lines) + len(aside) != count:
        faults.append(f"{count} rows became {len(lines)} lines and {len(aside)} set aside")
    if changed:
        faults.append(f"{len(changed)} lines differ from every row, such as {changed[0][:120]}")
    if lost:
        faults.append(f"{len(lost)} conversations are in no file, such as {min(lost)[:120]}")
    if unnamed:
        faults.append(f"{len(unnamed)} rows are set aside without a reason")
    return {
        "rows": count, "lines": len(lines), "aside": len(aside), "seconds": seconds,
        "faults": faults,
    }  # fmt: skip


def refusal(folder: Path) -> str:
    """What one text a line is answered with; empty if it is taken for rows."""
    path = folder / "texts.txt"
    path.write_text("".join(f"{e.turns[-1]}, {e.bad}\n" for e in examples(100)), encoding="utf-8")
    try:
        propose(path, PrepareOptions(), lambda _: True, lambda _: None)
    except DataError as error:
        return str(error)
    return ""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=list(SIZES))
    sizes = parser.parse_args().rows
    table = Table("form", "rows", "lines", "set aside", "s", "rows/s", "faults")
    failed = False
    with tempfile.TemporaryDirectory() as name:
        for title, form in FORMS.items():
            for size in sizes:
                result = measure(form, size, Path(name))
                failed = failed or bool(result["faults"])
                counts = [f"{result[key]:,}" for key in ("rows", "lines", "aside")]
                speed = f"{result['rows'] / result['seconds']:,.0f}"
                faults = "; ".join(result["faults"]) or "-"
                table.add_row(title, *counts, f"{result['seconds']:.2f}", speed, faults)
        if not refusal(Path(name)):
            failed = True
            table.add_row("one text a line", *["-"] * 5, "was taken for rows")
    Console(width=150).print(table)
    sys.exit(failed)


if __name__ == "__main__":
    main()
