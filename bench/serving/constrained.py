"""Libraries for constrained decoding side by side: schemas, compile time, time of a mask.

    python bench/serving/constrained.py TOKENIZER... --site llguidance=/venv/site-packages ...

TOKENIZER is a folder with a tokenizer.json, or a GGUF file. `--site` names where each library is
installed: llguidance, xgrammar, outlines-core. Every library gets the same schemas and walks the
tokens of the same documents: a valid one must be accepted to its end, an invalid one refused.
"""

import argparse
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


CASES: dict[str, tuple[dict[str, Any], Any, Any]] = {
    "object": (PERSON, {"name": "김하나", "age": 31}, {"name": "김하나", "age": "31"}),
    "enum": (_object(x={"enum": ["예", "아니요"]}), {"x": "아니요"}, {"x": "모름"}),
    "const": (_object(x={"const": 7}), {"x": 7}, {"x": 8}),
    "array": (
        _object(x={"type": "array", "items": PERSON}),
        {"x": [{"name": "a", "age": 1}, {"name": "b", "age": 2}]},
        {"x": [{"name": "a"}]},
    ),
    "minItems, maxItems": (
        _object(x={"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3}),
        {"x": [1, 2, 3]},
        {"x": [1]},
    ),
    "minimum, maximum": (
        _object(x={"type": "integer", "minimum": 1, "maximum": 5}),
        {"x": 5},
        {"x": 6},
    ),
    "number": (_object(x={"type": "number"}), {"x": -1.5e3}, {"x": True}),
    "maxLength": (
        _object(x={"type": "string", "maxLength": 3}),
        {"x": "가나다"},
        {"x": "가나다라"},
    ),
    "pattern": (
        _object(x={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"}),
        {"x": "AB-123"},
        {"x": "AB-12"},
    ),
    "format date": (
        _object(x={"type": "string", "format": "date"}),
        {"x": "2026-11-22"},
        {"x": "22.11.2026"},
    ),
    "anyOf": (
        _object(x={"anyOf": [{"type": "string"}, {"type": "null"}]}),
        {"x": None},
        {"x": 1},
    ),
    "$ref": (
        {**_object(x={"$ref": "#/$defs/p"}), "$defs": {"p": PERSON}},
        {"x": {"name": "a", "age": 1}},
        {"x": {"name": "a"}},
    ),
    "recursive $ref": (
        {
            "$ref": "#/$defs/node",
            "$defs": {
                "node": _object(
                    v={"type": "integer"},
                    next={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                )
            },
        },
        {"v": 1, "next": {"v": 2, "next": None}},
        {"v": 1, "next": {"v": 2}},
    ),
    "optional properties": (
        {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "additionalProperties": False,
        },
        {"b": 1},
        {"c": 1},
    ),
    "allOf": (
        {"allOf": [_object(x={"type": "integer"}), {"type": "object"}]},
        {"x": 1},
        {"x": "1"},
    ),
    "any object": ({"type": "object"}, {"a": [1, {"b": None}], "c": "x"}, [1]),
}

Walker = Callable[[list[int]], tuple[bool, list[float]]]
"""Takes token ids; whether they are a whole document, and the seconds of each mask."""


def llguidance_compiler(tokenizer: Any, vocabulary: int) -> Callable[[str], Walker]:
    library = importlib.import_module("llguidance")
    wrapped = importlib.import_module("llguidance.hf").from_tokenizer(tokenizer, vocabulary)

    def compiled(schema: str) -> Walker:
        grammar = library.LLMatcher.grammar_from_json_schema(schema)
        first = library.LLMatcher(wrapped, grammar)
        if first.is_error():
            raise ValueError(first.get_error())

        def walk(ids: list[int]) -> tuple[bool, list[float]]:
            matcher, seconds = first.deep_copy(), []
            for token in ids:
                start = time.perf_counter()
                matcher.compute_bitmask()
                seconds.append(time.perf_counter() - start)
                if not matcher.consume_token(token):
                    return False, seconds
            return matcher.is_accepting(), seconds

        return walk

    return compiled


def xgrammar_compiler(tokenizer: Any, vocabulary: int) -> Callable[[str], Walker]:
    library = importlib.import_module("xgrammar")
    info = library.TokenizerInfo.from_huggingface(
        tokenizer, vocab_size=vocabulary, stop_token_ids=[tokenizer.eos_token_id]
    )
    compiler = library.GrammarCompiler(info, max_threads=1, cache_enabled=False)
    bitmask = library.allocate_token_bitmask(1, vocabulary)

    def compiled(schema: str) -> Walker:
        grammar = compiler.compile_json_schema(schema)

        def walk(ids: list[int]) -> tuple[bool, list[float]]:
            matcher, seconds = library.GrammarMatcher(grammar), []
            for token in ids:
                start = time.perf_counter()
                matcher.fill_next_token_bitmask(bitmask)
                seconds.append(time.perf_counter() - start)
                if not matcher.accept_token(token):
                    return False, seconds
            return bool(matcher.accept_token(tokenizer.eos_token_id)), seconds

        return walk

    return compiled


def outlines_compiler(tokenizer: Any, vocabulary: int) -> Callable[[str], Walker]:
    library = importlib.import_module("outlines_core")
    schemas = importlib.import_module("outlines_core.json_schema")
    bytes_of = {chr(code): byte for byte, code in _byte_letters().items()}
    known: dict[bytes, list[int]] = {}
    special = set(tokenizer.all_special_ids)
    for text, token in tokenizer.get_vocab().items():
        if token not in special:
            if all(letter in bytes_of for letter in text):
                spelled = bytes(bytes_of[letter] for letter in text)
            else:
                spelled = text.replace("\u2581", " ").encode()
            if spelled:
                known.setdefault(spelled, []).append(token)
    words = library.Vocabulary(tokenizer.eos_token_id, known)
    memory = (vocabulary + 31) // 32

    def compiled(schema: str) -> Walker:
        pattern = schemas.build_regex_from_schema(schema)
        index = library.Index(pattern, words)
        numpy = importlib.import_module("numpy")
        mask = numpy.zeros(memory, dtype=numpy.int32)

        def walk(ids: list[int]) -> tuple[bool, list[float]]:
            guide, seconds = library.Guide(index), []
            for token in ids:
                start = time.perf_counter()
                guide.write_mask_into(mask.ctypes.data, mask.size, mask.itemsize)
                seconds.append(time.perf_counter() - start)
                try:
                    guide.advance(token, return_tokens=False)
                except ValueError:
                    return False, seconds
            return tokenizer.eos_token_id in guide.get_tokens(), seconds

        return walk

    return compiled


def _byte_letters() -> dict[int, int]:
    """{byte: code point that represents it in a byte-level vocabulary}."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: byte for byte in plain}
    others = (byte for byte in range(256) if byte not in letters)
    return letters | {byte: 256 + n for n, byte in enumerate(others)}


COMPILERS = {
    "llguidance": llguidance_compiler,
    "xgrammar": xgrammar_compiler,
    "outlines-core": outlines_compiler,
}


def open_tokenizer(path: Path) -> Any:
    from transformers import AutoTokenizer

    if path.suffix == ".gguf":
        return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    return AutoTokenizer.from_pretrained(path)


def measure(name: str, tokenizer: Any) -> str:
    """One row of the table."""
    vocabulary = len(tokenizer)
    start = time.perf_counter()
    compiled = COMPILERS[name](tokenizer, vocabulary)
    opened = time.perf_counter() - start
    compile_times, masks, wrong = [], [], []
    for case, (schema, valid, invalid) in CASES.items():
        start = time.perf_counter()
        try:
            walk = compiled(json.dumps(schema, ensure_ascii=False))
        except Exception as error:  # noqa: BLE001  any error of a library is its refusal
            wrong.append(f"{case}: refused ({str(error).splitlines()[0][:60]})")
            continue
        compile_times.append(time.perf_counter() - start)
        outcomes = []
        for document in (valid, invalid):
            text = json.dumps(document, ensure_ascii=False)
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            accepted, seconds = walk(ids)
            outcomes.append(accepted)
            masks += seconds
        if outcomes != [True, False]:
            wrong.append(f"{case}: valid {outcomes[0]}, invalid {outcomes[1]}")
    milliseconds = [1000 * seconds for seconds in masks]
    return (
        f"{name:14} tokenizer {opened:6.2f} s  schemas {len(CASES) - len(wrong)}/{len(CASES)}  "
        f"compile median {1000 * statistics.median(compile_times):8.2f} "
        f"max {1000 * max(compile_times):9.2f} ms  "
        f"mask median {statistics.median(milliseconds):.4f} "
        f"p99 {statistics.quantiles(milliseconds, n=100)[98]:.4f} ms\n    " + "\n    ".join(wrong)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tokenizers", nargs="+", type=Path)
    parser.add_argument("--site", action="append", default=[], help="LIBRARY=FOLDER")
    arguments = parser.parse_args()
    sys.path += [site.split("=", 1)[1] for site in arguments.site]
    for path in arguments.tokenizers:
        tokenizer = open_tokenizer(path)
        print(f"{path.name}: {len(tokenizer):,} tokens")
        for name in [site.split("=", 1)[0] for site in arguments.site]:
            print(measure(name, tokenizer), flush=True)


if __name__ == "__main__":
    main()
