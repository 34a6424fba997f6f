"""A question that the reader answers before the next cell runs. Used from notebook 00 on."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets

from fcnbook.files import InputError, markdown_text, one_line


class Guess(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no annotations
    """A question to answer before the next cell runs.

    Args:
        question: one sentence.
        options: the answers to choose from; None asks for a number.
        unit: written after the number.
    """

    def __init__(self, question: str, options: Sequence[str] | None = None, unit: str = "") -> None:
        self.question, self.options, self.unit = question, options, unit
        self.error = widgets.HTML()
        if options is None:
            self.answer = widgets.Text(placeholder="a number", layout=widgets.Layout(width="140px"))
        else:
            self.answer = widgets.RadioButtons(
                options=list(options), value=None, layout=widgets.Layout(width="max-content")
            )
        entry = widgets.HBox([self.answer, widgets.Label(unit)])
        super().__init__([widgets.HTML(f"<b>Your guess:</b> {html.escape(question)}"), entry])

    @property
    def value(self) -> str | float | None:
        """What was guessed; None without a guess.

        Raises:
            InputError: a number is asked for, and something else stands there.
        """
        if self.options is not None or not self.answer.value.strip():
            return self.answer.value or None
        try:
            return float(self.answer.value.replace(",", ".").rstrip("% "))
        except ValueError:
            raise InputError(f"{self.answer.value!r} is not a number; write it like 12.5.") from None

    def reveal(self, answer: str | float) -> None:
        """Print the answer beside the guess, and close the question.

        Raises:
            ValueError: `answer` is none of the options.
        """
        if self.options is not None and answer not in self.options:
            raise ValueError(f"{answer!r} is none of the options {list(self.options)}")
        guess = self.value
        self.answer.disabled = True
        shown = self._with_unit(answer)
        if guess is None:
            print(one_line(f"No guess was written down. It is {shown}."))
        elif guess == answer:
            print(one_line(f"You guessed {self._with_unit(guess)}: right."))
        else:
            print(one_line(f"You guessed {self._with_unit(guess)}. It is {shown}."))

    def _with_unit(self, value: str | float) -> str:
        return value if isinstance(value, str) else f"{value:.4g} {self.unit}".strip()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        texts = {"text/plain": self._text(one_line), "text/markdown": self._text(markdown_text)}
        return (super()._repr_mimebundle_(**kwargs) or {}) | texts

    def _text(self, shown: Callable[[str], str]) -> str:
        """Question and answers as a list; `shown` makes texts, which may hold names out of files, fit for it."""
        choices = [f"- {shown(option)}" for option in self.options or ()]
        choices = choices or [f"(a number, {shown(self.unit or 'no unit')})"]
        return "\n".join([f"Your guess, before you run the next cell: {shown(self.question)}", "", *choices])
