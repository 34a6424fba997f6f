"""A JupyterLab server with its token on localhost, and a headless Chromium to look at it."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest

REPOSITORY = Path(__file__).parents[2]
CHROMIUM_FLAGS = (
    "--headless",
    "--no-sandbox",  # needed as root
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-device-scale-factor=1",
    "--window-size=1440,1600",
)


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab."""

    url: str
    token: str
    folder: Path

    def write_notebook(self, name, *cells):
        """Put a notebook of code cells into the server's folder; the address that opens it."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in cells])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, self.folder / name)
        return f"{self.url}/lab/tree/{name}?token={self.token}&reset"


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("notebooks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    lab = Lab(f"http://127.0.0.1:{port}", secrets.token_hex(16), folder)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--ServerApp.root_dir={folder}"]
    command += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    command += ["--LabApp.extension_manager=readonly"]  # the other one asks the network at start
    if os.getuid() == 0:
        command.append("--allow-root")
    log_file = home / "jupyter.log"
    with log_file.open("wb") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=_environment(home, lab.token), stdout=log, stderr=log
        )
    try:
        _wait_for(lab, server, log_file)
        yield lab
    finally:
        server.terminate()  # it shuts its kernels down
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _environment(home, token):
    """Nothing of the settings, kernels and history of the account that runs the tests."""
    places = (
        "JUPYTER_CONFIG_DIR",
        "JUPYTER_DATA_DIR",
        "JUPYTER_RUNTIME_DIR",
        "IPYTHONDIR",
        "JUPYTERLAB_WORKSPACES_DIR",
    )
    settings = home / "lab-settings"
    plugin = settings / "@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    plugin.parent.mkdir(parents=True)
    plugin.write_text('{"fetchNews": "false", "checkForUpdates": false}')  # no dialog about news
    return {
        **os.environ,
        **{name: str(home / name.lower()) for name in places},
        "HOME": str(home),
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTER_TOKEN": token,
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")])),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def _wait_for(lab, server, log_file, seconds=90):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{lab.url}/api/status?token={lab.token}", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start in {seconds} s:\n{log_file.read_text()[-3000:]}")


@pytest.fixture
def chromium(one_chromium):
    """The browser of all tests, without what its console said in tests before."""
    one_chromium.get_log("browser")  # reading it empties it
    return one_chromium


@pytest.fixture(scope="session")
def one_chromium(tmp_path_factory):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (*CHROMIUM_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_script_timeout(30)
    yield driver
    driver.quit()


@pytest.fixture
def screenshot(chromium, tmp_path, request):
    """Saves what the browser shows, into $FCNBOOK_SCREENSHOTS or the test's own folder; at the end in any case."""

    def save(name):
        folder = Path(os.environ.get("FCNBOOK_SCREENSHOTS", tmp_path))
        folder.mkdir(parents=True, exist_ok=True)
        chromium.save_screenshot(str(folder / f"{name}.png"))

    yield save
    save(f"{request.node.name}_end")
