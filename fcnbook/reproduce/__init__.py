"""Published figures measured again: the scores of a published file (`verify`), speed and memory (`bench`)."""
