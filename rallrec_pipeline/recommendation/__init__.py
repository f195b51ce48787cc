"""The next items of each user: who proposes them, how they are scored, what is kept and how good that is."""
