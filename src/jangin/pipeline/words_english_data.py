"""English words of the page about data."""

DATA = {
    "data_title": "Data",
    "data_lead": "{rows} rows of a question and an answer. What to look at before training.",
    "data_prompt_characters": "Characters of questions",
    "data_answer_characters": "Characters of answers",
    "data_tokens": "Tokens of question and answer",
    "data_tokens_note": "Counted with the base model's tokenizer, without its chat template, on "
    "{n} rows.",
    "data_spread": "Mean {mean}; 5, 50, 95 and 99 % of rows are at most {p5}, {p50}, {p95} and "
    "{p99}; the longest is {most}.",
    "data_labels": "Answers",
    "data_labels_description": "Rows of each answer.",
    "data_numbers": "Numbers",
    "data_findings": "What was found",
    "data_duplicates": "Rows that another row repeats, question and answer",
    "data_repeated": "Rows whose question stands before, but for case and blanks",
    "data_conflicting": "Questions with several answers",
    "data_empty_prompts": "Empty questions",
    "data_empty_answers": "Empty answers",
    "data_too_long": "Rows over the model's context of {context} tokens",
    "data_conflicts": "Questions with several answers",
    "data_answers": "Answers",
    "data_rows": "Rows",
    "data_languages": "Scripts",
    "data_personal": "Suspected personal data",
    "data_personal_note": "Found by patterns, so some are none, and others are missed. Samples "
    "are masked.",
    "data_longest": "Longest rows",
    "data_text": "Text",
    "data_kind": "Kind",
    "data_samples": "Samples",
    "data_characters": "Characters",
    "data_splits": "Splits",
}
