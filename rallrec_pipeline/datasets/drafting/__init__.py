"""What `rallrec new` writes: a first TOML file for files, with a comment at each guess."""
