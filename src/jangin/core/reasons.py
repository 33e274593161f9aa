"""Why a row was dropped, failed or not used: a key and values, of which a sentence is made.

Tables and the ledger hold `{"key": ..., VALUES}` as JSON; those of older versions hold the finished
English sentence, which stays as it is. `report.i18n` says them in other languages.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from string import Formatter
from typing import Any, Self

from pydantic_core import core_schema

from jangin.core.errors import counted

ELSE = "…"
"""In place of a value that differs between reasons of one kind."""
STORED = '{"key":'
"""How a stored reason begins."""
_JOINED = "joined"
SENTENCES: Mapping[str, str] = {
    # Files that are not read
    "drm": "its text is encrypted (DRM).",
    "too_large": "it is larger than {figure} MiB.",
    "too_many_parts": "it has more parts than mails have.",
    "no_mail": "it is no mail: it has no head.",
    "longer_than_a_page": "it is longer than any page.",
    "no_html": "it holds no HTML.",
    "picture_ocr_off": "it is a picture, and OCR is switched off.",
    "picture_no_text": "it is a picture in which OCR found no text.",
    "no_picture": "it is damaged, or no picture in spite of its name.",
    "password": "it is protected by a password.",
    "damaged": "it is damaged: {what}",
    "damaged_page": "one of its pages is damaged.",
    "zero_byte": "byte {figure} is zero, so it is not text.",
    "other_encoding": "byte {figure} is not {name}, which its first bytes promise.",
    "no_encoding": "byte {figure} is neither UTF-8 nor CP949 (Korean Windows).",
    "no_page": "it has no page {figure}.",
    "part_missing": "{file} is missing.",
    "part_unreadable": "{file} cannot be read.",
    "part_no_xml": "{file} is not sound XML.",
    "part_missing_or_large": "{file} is missing or too large.",
    "part_too_large": "{name} inside it is larger than {figure} MiB or packed beyond belief.",
    "part_packed": "a part of it is packed beyond belief.",
    "entities": "{name} declares entities, which documents do not need.",
    "no_text_layer": "it has no text layer, and OCR is switched off.",
    "no_text_by_ocr": "it has no text, even by OCR.",
    "no_sure_line": "OCR is sure of none of its {count:line}.",
    "no_text": "it holds no text.",
    "no_bytes": "it is empty (0 bytes).",
    "no_format": "{suffix} is no format that jangin reads.",
    "no_reader": "jangin has no reader for {name} ({suffix}).",
    "other_name": "load.pattern does not match its name.",
    "no_suffix": "a name without suffix is no format that jangin reads.",
    "not_opened": "it cannot be opened: {what}.",
    "memory": "the memory does not suffice to read it.",
    "unforeseen": "it could not be read because of an error in jangin or a library ({text}).",
    "slow_page": "page {pages} took more than {seconds:g} seconds "
    "of computing time or {size} GB of memory.",
    "slow_pages": "pages {pages} took more than {seconds:g} seconds "
    "of computing time or {size} GB of memory.",
    "slow_opening": "opening it took more than {seconds:g} seconds "
    "of computing time or {size} GB of memory.",
    "many_slow_pages": "each of more than {count} pages took more than {seconds:g} seconds "
    "of computing time or {size} GB of memory.",
    "process_ended": "the process that {what} {why}.",
    "password_or_old": "it is protected by a password, or an old {suffix} file.",
    "hangul_97": "it is of Hangul 97 or older.",
    "distribution_copy": "it is a distribution copy, whose text is encrypted.",
    "hidden": "it is hidden, as its name begins with a dot.",
    "lock": "an office program keeps it while a document is open.",
    "of_a_file_manager": "a file manager keeps it for itself.",
    "output": "jangin wrote it, or took decisions from it.",
    "store_of_a_project": "it is the store of a project.",
    "of_a_project": "it is a project file.",
    "forbidden": "you may not read it.",
    "forbidden_folder": "the folder cannot be opened.",
    "link_to_nothing": "it is a link to nothing, or no file.",
    "link_to_folder": "it is a link to a folder, which is not followed.",
    "same_bytes": "it has the same bytes as {name}, which is read.",
    "replaced_by": "it is replaced (load.replaces) by {name}.",
    # Checks of what a teacher wrote
    "evidence": "evidence supported to {share:.2f} < {limit:.2f}",
    "grounded": "not in the source: {missing} ({share:.2f} of the answer's numbers and names are, "
    "limit {limit:.2f})",
    "words": "{share:.2f} of the answer's words stand in the source, limit {limit:.2f}",
    "pointer": "the question points at a text: {words!r}",
    "short_evidence": "the quotation {text!r} is too short to say the answer",
    "statement": "a statement in place of a question",
    "vague": "the question does not say what it is about",
    "no_word": "the answer has no word",
    "says_answer": "the question already says the answer",
    "no_time": "the question asks when and the answer is no time",
    "no_cause": "a reason that the quotation does not give",
    "other_count": "the source counts something else: {text!r}",
    "question_language": "the question is not in the language of its source ({id}): {text!r}",
    "answer_language": "the answer is not in the language of its source ({id}): {text!r}",
    "foreign": "{text!r} ({id}) is foreign to its source ({stage})",
    "asked_before": "asks what {id} asks: {question!r}",
    "asked_twice": "a second answer to the same question",
    "unasked": "not one of the questions: {text!r}",
    "snippet": "names snippet {figure} of {limit}",
    "no_snippets": "the search found nothing for this question",
    "no_row": "the reply has no row for {text!r}, twice",
    "too_many_words": "{figure:word}, limit {limit}",
    "not_shorter": "the summary is as long as the passage",
    "fact_number": "there is no fact {figure} among the {limit} of the request",
    "fact_value": "the answer is not the value of the cell, {text!r}",
    "fact_row": "the question does not name the row, {text!r}",
    "too_many": "more than the {count} asked for",
    "no_distractors": "no wrong answer is left that could be chosen",
    "distractor_empty": "the distractor is empty",
    "says_the_answer": "{text!r} says the same as the answer {other!r}",
    "says_a_distractor": "{text!r} says the same as the distractor {other!r}",
    "form": "{text!r} is {form}, the answer {other!r} is {kind}",
    "length": "{text!r} has {figure} characters, the answer {limit}",
    "supported": "{text!r} may be right, too: {sentence!r}",
    # Wordings
    "empty": "empty",
    "copy_of_question": "near copy of the question itself: similarity {share:.3f}, limit {limit:g}",
    "words_of_question": "near copy of the question itself: similarity {share:.3f}, same content "
    "words, limit {limit:g}",
    "copy": "near copy of {text!r}: similarity {share:.3f}, limit {limit:g}",
    "same_words": "near copy of {text!r}: similarity {share:.3f}, same content words, limit "
    "{limit:g}",
    "letters_of_question": "same letters as the question itself",
    "same_letters": "same letters as {text!r}",
    "tells_answer": "the wording tells the answer",
    "other_language": "the wording is in another language than the question",
    "opposite": "the wording says the opposite: {given!r}",
    "no_shared_word": "the wording has no content word of the question",
    "other_meaning": "{model} finds another meaning: {why}",
    "other_meaning_unsaid": "{model} finds another meaning",
    "far": "cosine to its question {share:.3f} < {limit:g}",
    # Evolved questions
    "no_letters_in_question": "the question has no letters: {text!r}",
    "no_letters_in_answer": "the answer has no letters: {text!r}",
    "stop_words_in_question": "the question has only stop words: {text!r}",
    "stop_words_in_answer": "the answer has only stop words: {text!r}",
    "refusal_in_question": "the question refuses: {text!r}",
    "refusal_in_answer": "the answer refuses: {text!r}",
    "prompt_in_question": "the question speaks of the prompt: {words!r}",
    "prompt_in_answer": "the answer speaks of the prompt: {words!r}",
    "long_question": "the question has {figure:,} characters, allowed {limit:,}",
    "long_answer": "the answer has {figure:,} characters, allowed {limit:,}",
    "pointer_beside": "the question points at a text beside it: {words!r}",
    "same_question": "the question is that of {id}",
    "no_gain": "nearly what it evolved from: similarity of the questions {share:.3f}, of the "
    "answers {figure:.3f}, limit {limit:g}",
    "equal": "{model} calls it equal to what it evolved from: {why}",
    "equal_unsaid": "{model} calls it equal to what it evolved from",
    "no_evidence": "no evidence for the answer was given",
    "not_in_passage": "in the answer, but not in the passage: {missing}",
    # Replies
    "reply_no_object": "the reply is not a JSON object",
    "reply_empty": "the reply is empty",
    "reply_breaks_off": "the reply breaks off in the middle of its JSON",
    "half_character": "a string holds half a character (a lone surrogate escape)",
    "cut_off": "the reply was cut off at max_tokens; answer more briefly",
    "no_item": "the list is empty",
    "verdict_missing": "give one verdict for each number from 1 to {count}",
    "refused": "the model refused",
    "refused_saying": "the model refused ({text!r})",
    "filtered": "the endpoint's filter held the reply back",
    "filtered_saying": "the endpoint's filter held the reply back ({text!r})",
    # Chunks without a row
    "chunk_unanswered": "unanswered: {reason}",
    "chunk_malformed": "malformed: {reason}",
    "chunk_refused": "refused: {reason}",
    "chunk_language": "language: {reason}",
    "chunk_empty": "empty: {reason}",
    "chunk_rejected": "rejected: {rules}",
    "no_row_given": "the teacher gave no row",
    "short_chunk": "shorter than {figure} characters (min_characters)",
    "no_table": "it holds no table",
    # Questions that are looked for
    "questions_language": "the questions are written in {id}, not {stage}",
    "unknown_word": "not one of the words: {text!r}",
    "characters": "{figure} characters",
    "asked_about": "asked already about {text!r}",
    "few_questions": "{figure} of {limit:question}",
    "few_questions_because": "{figure} of {limit:question}: {reason}",
    "left_out_twice": "the teacher left it out twice",
    "no_question": "no question",
    "no_row_in_file": "{name} has no row for this question",
    # Curation
    "no_text_of_both": "no question and no answer",
    "no_answer_text": "no answer",
    "low_score": "{scorer} {share:.2f} < {limit:g}",
    "low_score_said": "{scorer} {share:.2f} < {limit:g}: {why}",
    "question_characters": "question: {figure:,} characters, allowed {low:,} to {high:,}",
    "answer_characters": "answer: {figure:,} characters, allowed {low:,} to {high:,}",
    "tokens": "prompt and answer: {figure:,} tokens, allowed {low:,} to {high:,}",
    "same_row": "same prompt and answer as {id}",
    "other_answer": "another answer to the prompt of {id}; similarity of the answers {share:.3f}",
    "like": "question like that of {id}; similarity {share:.3f}, limit {limit:g}",
    "like_sibling": "question like that of its sibling {id}; similarity {share:.3f}, limit "
    "{limit:g}",
    "same_sense": "question and answer mean those of {id}; cosine {share:.3f}, limit {limit:g}",
    "wording_of_dropped": "a wording of {id}, which was left out: {reason}",
    "wording_of_many": "a wording of {list}, which have different answers",
    "original_dropped": "its original was left out ({rule}): {reason}",
    "gave_way": "{reason}; that one gave way to {id}",
    "replaced": "{name} replaces {other}",
    "contradicted": "another document answers differently, and nobody has decided yet: {sides}",
    "contradicts_itself": "its document answers the question twice, differently, and nobody has "
    "decided yet: {sides}",
    # Decisions of people, pairs
    "no_reason": "no reason given",
    "not_accepted": "not accepted by a person",
    "chosen_empty": "the chosen answer is empty",
    "rejected_empty": "the rejected answer is empty",
    "same_answers": "both answers are the same but for punctuation",
    "chosen_repeats": "the chosen answer repeats the question",
    "rejected_repeats": "the rejected answer repeats the question",
    "lengths": "one answer has {figure} characters, the other {limit}",
    "alike": "the answers are {share:.0%} alike",
    "long_pair": "longer than {limit} tokens",
    "did_not_stop": "the model did not stop within {limit} tokens",
    "as_good": "the model's answer is as good: exact {share:.0f}, F1 {figure:.2f}",
    "held_out": "its question is held out from training",
    "same_pair": "the same as the pair of {origin}",
    "paraphrase_of_rejected": "a paraphrase of {id}, which was rejected",
}
"""{key: English sentence}; `{rows:word}` counts a noun, a figure keeps the digits of its format."""


class _Form(Formatter):
    """Format strings with two additions: `{rows:word}` counts, and `ELSE` has no format."""

    def convert_field(self, value: Any, conversion: Any) -> Any:
        """`!r`, except of what stands for any value."""
        return value if value == ELSE else super().convert_field(value, conversion)

    def format_field(self, value: Any, format_spec: str) -> Any:
        """A value as the sentence shows it."""
        if value == ELSE:
            return f"{ELSE} {format_spec}s" if _is_noun(format_spec) else ELSE
        if _is_noun(format_spec):
            return counted(value, format_spec)
        return super().format_field(value, format_spec)


def _is_noun(spec: str | None) -> bool:
    return bool(spec) and len(spec or "") > 1 and (spec or "").isalpha()


_FORM = _Form()


class Reason(str):
    """A reason; as text its English sentence, so empty for none.

    What a person or a model said, and what an older version stored, has no key.
    """

    key: str
    values: Mapping[str, Any]

    def __new__(cls, key: str = "", /, **values: Any) -> Self:
        """The reason with this key of `SENTENCES` and these values.

        Raises: KeyError: no sentence has this key, or a value of it is missing.
        """
        kept = _rounded(SENTENCES.get(key, ""), values)
        if key == _JOINED:
            text = "; ".join(kept["reasons"])
        else:
            sentence = SENTENCES[key] if key else ""
            text = _FORM.vformat(sentence, (), kept)
        reason = super().__new__(cls, text)
        reason.key, reason.values = key, kept
        return reason

    def __reduce__(self) -> tuple[Any, ...]:
        """By what is stored, for other processes."""
        return type(self).read, (self.stored,)

    @classmethod
    def said(cls, text: str) -> Self:
        """What a person or a model said."""
        reason = super().__new__(cls, text)
        reason.key, reason.values = "", {}
        return reason

    @classmethod
    def joined(cls, reasons: Iterable[str]) -> Self:
        """Several reasons as one; empty ones are left out."""
        several = [each for each in reasons if each]
        if len(several) == 1 and isinstance(several[0], cls):
            return several[0]
        return cls(_JOINED, reasons=several) if several else cls()

    @classmethod
    def read(cls, stored: str) -> Self:
        """What `stored` gave, or the sentence of an older version."""
        if not stored.startswith(STORED):
            return cls.said(stored)
        try:
            value = _read_value(json.loads(stored))
        except (ValueError, KeyError, TypeError):
            return cls.said(stored)  # of a newer version, or a person's own words
        return cls.said(stored) if not isinstance(value, cls) else value

    @property
    def stored(self) -> str:
        """As a table or the ledger holds it."""
        if not self.key:
            return str(self)
        return json.dumps(_plain(self), ensure_ascii=False, separators=(",", ":"))

    @property
    def general(self) -> "Reason":
        """The same without its figures and quotations, in which equal reasons differ."""
        if not self.key:
            return self
        return type(self)(self.key, **{name: _general(v) for name, v in self.values.items()})

    def mapped(self, change: Callable[[str], str]) -> "Reason":
        """The same with other texts among its values."""
        if not self.key:
            return type(self).said(change(self))
        return type(self)(self.key, **{n: _mapped(v, change) for n, v in self.values.items()})

    @property
    def parts(self) -> list[str]:
        """The reasons that this one joins; none for a single one."""
        return list(self.values["reasons"]) if self.key == _JOINED else []

    @property
    def keys(self) -> tuple[str, ...]:
        """Its key and those of the reasons inside it."""
        inner = [*self.parts, *self.values.values()]
        return (self.key, *(key for each in inner if isinstance(each, Reason) for key in each.keys))

    def shown(self) -> dict[str, str]:
        """{field of the sentence: its value as the English sentence shows it}; nouns left out."""
        return {
            name: str(self.values[name])
            if _is_noun(spec)
            else _FORM.vformat(f"{{{name}{f'!{turn}' if turn else ''}:{spec}}}", (), self.values)
            for _, name, spec, turn in _FORM.parse(SENTENCES[self.key])
            if name
        }

    @classmethod
    def template_of(cls, key: str) -> str:
        """The English sentence of a key, with its fields in bare braces and nouns in the plural."""
        return "".join(
            text + (f"{{{name}}}" + (f" {spec}s" if _is_noun(spec) else "") if name else "")
            for text, name, spec, _ in _FORM.parse(SENTENCES[key])
        )

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        """A string in tables and JSON."""
        return core_schema.no_info_before_validator_function(
            lambda value: value if isinstance(value, cls) else cls.read(str(value)),
            core_schema.is_instance_schema(cls),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda r: r.stored),
        )


def _rounded(sentence: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values; a figure has the digits that the sentence shows, equal on every machine."""
    specs = {name: spec or "" for _, name, spec, _ in _FORM.parse(sentence) if name}
    return {
        name: float(format(value, specs[name]))
        if isinstance(value, float) and specs.get(name, "%")[-1:] != "%"
        else value
        for name, value in values.items()
    }


def _plain(reason: Reason) -> dict[str, Any]:
    return {"key": reason.key, **{name: _value(v) for name, v in reason.values.items()}}


def _value(value: Any) -> Any:
    if isinstance(value, Reason):
        return _plain(value) if value.key else str(value)
    return [_value(each) for each in value] if isinstance(value, list) else value


def _read_value(value: Any) -> Any:
    if isinstance(value, dict):
        inner = {name: _read_value(each) for name, each in value.items() if name != "key"}
        return Reason(value["key"], **inner)
    return [_read_value(each) for each in value] if isinstance(value, list) else value


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, Reason):
        return value.mapped(change)
    if isinstance(value, list):
        return [_mapped(each, change) for each in value]
    return change(value) if isinstance(value, str) else value


def _general(value: Any) -> Any:
    if isinstance(value, list):
        return [_general(each) for each in value]
    return value.general if isinstance(value, Reason) else ELSE


NO_REASON = Reason()
"""Empty as text; a default of fields."""
