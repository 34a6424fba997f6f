"""Marks of the files whose tests open Chromium."""

import shutil

import pytest

IN_CHROMIUM = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")),
        reason="no Chromium here; tests/browser/install_browser.sh installs it",
    ),
]
