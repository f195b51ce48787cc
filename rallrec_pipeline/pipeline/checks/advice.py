"""What to do where a check fails: one line for each, with the settings by name. docs/checks.md says more."""

from __future__ import annotations

AGAIN = "rallrec run {dataset} --select %s --force"
"""The command that makes stages anew."""
REASONING = "`rallrec run {dataset} --reasoning`: what is finished is kept"
EMBEDDINGS = ("title", "description", "text", "collaborative", "aligned", "item")

ADVICE: dict[str, str] = {
    "few_rejected_rows": "mend the rows, or raise `max_rejected` in the dataset's TOML file if they may go; all of "
    "them, with their reasons, are in tables/rejected_rows/{dataset}.parquet (asset `rejected_rows`)",
    "k_core_holds": "the bounds are `user_core`, `item_core`, `user_cap` and `item_cap` of `[protocol]` in the "
    f"dataset's TOML file; then `{AGAIN % 'core_interactions'}`",
    "labels_balanced": "change `like_above` of `[label]`, lower `min_history` or the core, or set `split` of "
    "`[protocol]` to user in the dataset's TOML file; `rallrec check` says which split",
    "splits_follow_time": "look at the column `timestamp` and its `time_format` in the dataset's TOML file; then "
    f"`{AGAIN % 'samples'}`",
    "paper_statistics": "the official files are others than the paper's or were edited: fetch them again, or correct "
    "`expected` in the dataset's TOML file",
    "every_item_described": "raise `descriptions.max_new_tokens`, or take another writer (`writer.source`); then "
    f"`{AGAIN % 'item_descriptions'}`",
    **{
        f"finite_{kind}_vectors": f"`{AGAIN % f'{kind}_embeddings'}`; if it stays, take another encoder "
        "(`encoder.source`) or number type (`encoder.dtype`)"
        for kind in EMBEDDINGS
    },
    "fitted_on_training_only": f"set `collaborative.fit_on` to training; then `{AGAIN % 'collaborative_embeddings'}`",
    "index_equals_brute_force": f"raise `index.probes`, or set `index.kind` to flat; then `{AGAIN % 'item_index'}`",
    "tuning_prompts_fit": "lower `retrieval.history_length`, or take a predictor with a longer context",
    "tuned_on_training_only": f"`{AGAIN % 'samples,retrieved_histories,tuning_prompts'}`",
    "evaluation_prompts_fit": "lower `retrieval.history_length`, or take a predictor with a longer context",
    "adapter_is_whole": f"tune again: `{AGAIN % 'lora_adapter'}`",
    "probabilities_valid": f"score again: `{AGAIN % 'predictions'}`; if it stays, lower `tuning.learning_rate`",
    "experts_score_the_same_rows": f"fit them again: `{AGAIN % 'expert_predictions'}`",
    **dict.fromkeys(
        (
            "nothing_seen_is_recommended",
            "recommendations_are_whole",
            "rescored_candidates_are_whole",
            "every_user_is_covered",
        ),
        f"make them again: `{AGAIN % 'recommendations'}`",
    ),
    "responses_are_whole": REASONING,
    "responses_answer": "raise `reasoning.max_new_tokens` or `reasoning.most_unanswered`, or take a larger reasoner "
    "(`reasoner.source`)",
    "reasoned_rows_are_whole": REASONING,
    "merges_are_whole": f"`bad` names the merge, whose members are made again by {REASONING}",
    "alignment_figures_hold": f"`{AGAIN % 'alignment_report'}`",
    "better_than_item_mean": "raise `prompts.train_samples`, or take a larger predictor (`model.source`)",
    "no_drop_against_the_last": "`rallrec lineage` and the metadata of the run say what has changed; the former "
    "settings still have their results",
    "probabilities_are_calibrated": "raise `prompts.validation_samples`, which the calibration is fitted on, and set "
    "`scoring.calibration` to platt",
}
