"""Studies: what their files say, how they run, and their kept reports; the TOML files here are the built-in ones."""
