"""What a file seems to be: how its times are written, its layout, the roles of its columns, and a TOML file of it."""
