"""Whether a dataset's TOML file fits its real files: what `rallrec check` judges, a module for each matter."""
