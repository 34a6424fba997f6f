"""Data sets: files -> Sample. What is known of each stands in `table`; one module reads, checks and prepares it."""
