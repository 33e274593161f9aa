"""English words of the report about an evaluation."""

EVALUATION = {
    "labels": "Labels",
    "labels_note": "“Always the same” is the accuracy of giving the most frequent label every "
    "time: a model below it has learned nothing. Kappa is quadratic weighted; answers that hold "
    "no label are wrong everywhere and counted in the last column.",
    "constant": "Always the same",
    "macro_f1": "Macro F1",
    "off_by_one": "Within one",
    "good_or_bad": "Good or bad",
    "kappa": "Kappa",
    "confusion": "Confusion matrix",
    "confusion_description": "Rows are the truth, columns what was answered. Shades are shares "
    "of a row.",
    "truth": "truth",
    "given": "answer",
    "numbers": "Numbers",
    "numbers_note": "Answers that hold no number are red and counted in the last column; they "
    "are in no mean.",
    "same_figures": "With the very same figures as under {variants}, and therefore not repeated:",
    "median_error": "Median error",
    "orange_red": "Orange, red",
    "answers_read": "of {count} answers",
    "scatter": "Answers against the truth",
    "scatter_description": "{n} answers; on the line they are exact.",
    "scatter_note": "On the line an answer is exact. Large dots are in the green band, middle "
    "ones orange, small ones red.",
    "running": "Mean error so far",
    "running_description": "Mean error after each question, its 95 % interval dashed: where it "
    "still moves, there are too few questions.",
    "questions": "questions",
    "end_low": "low",
    "end_high": "high",
    "rivals": "{system} against everything else",
    "rivals_only": "only this row / only {system}",
    "rivals_note": "The same questions, pair by pair: how many only one of the two got right. p is "
    "exact McNemar, corrected by Holm for the rows of this table; the p of the change is a "
    "permutation test's and not corrected.",
    "rivals_error": "A negative change of the mean error is better.",
    "pairwise": "Judged side by side",
    "judge": "Judge",
    "wins_losses_ties": "A won / lost / tie",
    "win_rate": "A's win rate",
    "inconsistent": "Order decided",
    "first_shown": "First shown won",
    "longer_won": "Longer won",
    "pairwise_note": "The judge saw every pair in both orders. Where the order decided, it is a "
    "tie. Far from 50 % in the last two columns means that the judge looks at order or length.",
    "kin_itself": "The judge {judge} is one of the contestants: it judges {system}, itself.",
    "kin_base": "The judge {judge} is the base model of {system}, so it may favour it.",
    "kin_teacher": "The judge {judge} wrote answers that {system} was trained on, so it may favour "
    "it.",
    "kin_both": "{a} and {b}",
    "kin_figures": "Before this judge, {system} has a win rate of {own}; before judges that are "
    "none of the two, {others}: {gain} points, 95 % interval {low} to {high}, on the {n} questions "
    "that all of them judged.",
    "kin_alone": "How much that helps cannot be said: no unrelated judge compared the same two.",
    "forgetting": "What it forgot",
    "texts": "Texts",
    "perplexity": "Perplexity",
    "bits_per_character": "Bits per character",
    "log_loss_change": "Change per token",
    "general_questions": "General questions",
    "general_right": "Answered",
    "forgetting_note": "General material that has nothing to do with what was taught. A "
    "positive change is worse.",
    "slices": "Part by part",
    "slices_intro": "{system}, part by part, against {against} on the same questions. The last "
    "column is corrected by Holm for all parts of a kind.",
    "slice": "Part",
    "slice_document": "By document",
    "slice_label": "By label",
    "slice_length": "By length of the question",
    "changed": "Won and lost",
    "changed_intro": "{won} questions are right only with {second}, {lost} only with {first}.",
    "candidates": "Base models tried",
    "candidates_intro": "Likelihood of the expected answers of {n} questions; lower is better "
    "and does not depend on the tokenizer.",
    "base_model": "Base model",
    "nats": "Nats per character",
    "tokens_per_character": "Tokens per character",
    "parameters": "Parameters",
    "context": "Context",
    "lora_memory": "LoRA memory",
    "memory": "Memory of training",
    "memory_stage": "Stage",
    "memory_method": "Method, device",
    "memory_predicted": "Predicted",
    "memory_measured": "Measured",
    "memory_ratio": "Predicted / measured",
    "memory_note": "Peaks of one process. The prediction is made before anything is loaded, from "
    "the size of the model and the lengths of the rows.",
    "licence": "Licence",
    "chosen": "chosen",
    "tied": "tie",
    "results_intro_closeness": "Accuracy is the share of answers that give the right label; "
    "closeness falls from 1 to 0 with the distance. Brackets hold the 95 % interval.",
    "results_intro_absolute_error": "The green band holds the answers that are near enough; "
    "the mean error is in the units of the truth. Brackets hold the 95 % interval.",
}
