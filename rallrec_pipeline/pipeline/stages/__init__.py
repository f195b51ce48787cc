"""What each stage does, by group: read, call the domain code, write."""
