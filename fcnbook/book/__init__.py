"""The book itself: notebooks executed without a browser, their gallery, agreement of cells and package, exercises."""
