"""A guess: what was typed, what is revealed, what it keeps of itself."""

import pytest

from fcnbook.files import InputError
from fcnbook.viewers import Guess


class TestGuess:
    def test_a_choice(self, capsys):
        guess = Guess("Which draws poles?", ["FCN-32s", "FCN-8s"])
        assert guess.value is None
        guess.answer.value = "FCN-8s"
        guess.reveal("FCN-8s")
        assert capsys.readouterr().out == "You guessed FCN-8s: right.\n"
        assert guess.answer.disabled
        guess.answer.value = "FCN-32s"
        guess.reveal("FCN-8s")
        assert capsys.readouterr().out == "You guessed FCN-32s. It is FCN-8s.\n"

    @pytest.mark.parametrize("typed", ["12.5", " 12,5 ", "12.5 %"])
    def test_a_number(self, typed, capsys):
        guess = Guess("How much is road?", unit="%")
        guess.answer.value = typed
        assert guess.value == 12.5
        guess.reveal(31.23456)
        assert capsys.readouterr().out == "You guessed 12.5 %. It is 31.23 %.\n"

    def test_without_a_guess_the_answer_alone_is_printed(self, capsys):
        Guess("How much is road?", unit="%").reveal(31.2)
        assert capsys.readouterr().out == "No guess was written down. It is 31.2 %.\n"

    def test_what_is_no_number(self):
        guess = Guess("How much is road?")
        guess.answer.value = "much"
        with pytest.raises(InputError, match="'much' is not a number"):
            guess.reveal(3)

    def test_an_answer_that_is_no_option(self):
        with pytest.raises(ValueError, match="'FCN-16s' is none of the options"):
            Guess("Which?", ["FCN-32s", "FCN-8s"]).reveal("FCN-16s")

    def test_it_carries_its_question_as_text(self):
        bundle = Guess("Which draws poles?", ["FCN-32s", "FCN-8s"])._repr_mimebundle_()
        assert "Which draws poles?" in bundle["text/plain"]
        assert bundle["text/plain"].endswith("- FCN-32s\n- FCN-8s")
        assert "application/vnd.jupyter.widget-view+json" in bundle

    def test_names_out_of_files_are_shown_as_text(self, capsys):
        name = "<img src=x onerror=alert(1)>\x1b[2J $\\frac{ [a](b)"
        guess = Guess(f"Which, {name}?", [name, "b"])
        bundle = guess._repr_mimebundle_()
        assert "<" not in bundle["text/markdown"] and "](" not in bundle["text/markdown"]
        assert all(line.isprintable() for line in bundle["text/plain"].split("\n"))
        guess.reveal(name)
        assert capsys.readouterr().out.strip().isprintable()
