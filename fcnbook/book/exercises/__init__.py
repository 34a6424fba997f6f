"""Checks of exercise answers: an answer in, a hint or "right" out. One module a notebook.

`from fcnbook.book.exercises import n01`, then `n01.check_dialect(answer)`: it prints what is wrong and returns False,
or returns True.
"""
