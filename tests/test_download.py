import hashlib
import io
import itertools
import os
import re
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from fcnbook.download import fetch, unpack
from fcnbook.files import InputError

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Mirror(BaseHTTPRequestHandler):
    """/file: whole, with ranges. /plain: no ranges. /cut: breaks off after 100,000 bytes. /wrong: other bytes."""

    requests: list

    def do_GET(self):
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and self.path != "/plain":
            start = int(asked[1])
        self.server.requests.append((self.path, self.headers.get("Range")))
        if self.path == "/none":
            return self.send_error(404)
        content = CONTENT[::-1] if self.path == "/wrong" else CONTENT
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        body = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:100_000] if self.path == "/cut" else body)
        self.close_connection = True

    def log_message(self, *args):
        """Keep the test output clean."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        server.requests = []
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class TestFetch:
    def test_a_file_arrives_whole_and_alone(self, server, tmp_path, capsys):
        dest = tmp_path / "new" / "set.zip"
        assert fetch([f"{server.url}/file"], dest, SHA256) == dest
        assert dest.read_bytes() == CONTENT
        assert os.listdir(dest.parent) == ["set.zip"]
        assert capsys.readouterr().err == ""  # no progress bar where nobody watches

    def test_a_file_that_is_there_needs_no_network(self, tmp_path):
        (tmp_path / "set.zip").write_bytes(CONTENT)
        fetch(["http://127.0.0.1:1/never"], tmp_path / "set.zip", SHA256)

    def test_a_file_that_is_there_but_wrong_is_fetched_again(self, server, tmp_path):
        (tmp_path / "set.zip").write_bytes(b"half")
        fetch([f"{server.url}/file"], tmp_path / "set.zip", SHA256)
        assert (tmp_path / "set.zip").read_bytes() == CONTENT

    def test_without_checksum(self, server, tmp_path):
        assert fetch([f"{server.url}/file"], tmp_path / "set.zip", None).read_bytes() == CONTENT

    def test_the_next_mirror_is_tried(self, server, tmp_path):
        urls = ["http://127.0.0.1:1/dead", f"{server.url}/none", f"{server.url}/wrong", f"{server.url}/file"]
        fetch(urls, tmp_path / "set.zip", SHA256)
        assert (tmp_path / "set.zip").read_bytes() == CONTENT
        assert [path for path, _ in server.requests] == ["/none", "/wrong", "/file"]  # no second try for 404

    def test_a_connection_that_breaks_is_resumed_where_it_broke(self, server, tmp_path):
        fetch([f"{server.url}/cut"], tmp_path / "set.zip", SHA256, attempts=4)
        assert (tmp_path / "set.zip").read_bytes() == CONTENT
        offsets = [int(asked[6:-1]) if asked else 0 for _, asked in server.requests]
        assert offsets[0] == 0
        assert all(0 < later - earlier <= 100_000 for earlier, later in itertools.pairwise(offsets))
        assert 3 <= len(offsets) <= 4

    def test_a_later_call_resumes_what_an_earlier_one_got(self, server, tmp_path):
        dest = tmp_path / "set.zip"
        with pytest.raises(
            InputError,
            match=r"/cut: the connection broke off.* bytes are kept in .*set\.zip\.part.*same command",
        ):
            fetch([f"{server.url}/cut"], dest, SHA256, attempts=1)
        assert os.listdir(tmp_path) == ["set.zip.part"]
        fetch([f"{server.url}/file"], dest, SHA256)
        assert dest.read_bytes() == CONTENT
        path, asked = server.requests[-1]
        assert path == "/file"
        assert 80_000 < int(asked[6:-1]) <= 100_000

    def test_a_server_without_ranges_sends_the_whole_file_again(self, server, tmp_path):
        (tmp_path / "set.zip.part").write_bytes(CONTENT[:5000])
        fetch([f"{server.url}/plain"], tmp_path / "set.zip", SHA256)
        assert (tmp_path / "set.zip").read_bytes() == CONTENT

    def test_a_partial_file_that_was_complete(self, server, tmp_path):
        (tmp_path / "set.zip.part").write_bytes(CONTENT)
        fetch([f"{server.url}/file"], tmp_path / "set.zip", SHA256)
        assert (tmp_path / "set.zip").read_bytes() == CONTENT

    def test_a_partial_file_longer_than_the_real_one_is_dropped(self, server, tmp_path):
        (tmp_path / "set.zip.part").write_bytes(CONTENT + b"more")
        fetch([f"{server.url}/file"], tmp_path / "set.zip", SHA256)
        assert (tmp_path / "set.zip").read_bytes() == CONTENT

    def test_a_wrong_checksum_is_refused_and_nothing_is_kept(self, server, tmp_path):
        with pytest.raises(InputError, match=r"/wrong: its checksum is not the expected one"):
            fetch([f"{server.url}/wrong"], tmp_path / "set.zip", SHA256)
        assert os.listdir(tmp_path) == []

    def test_the_sentence_names_every_mirror_and_a_way_on(self, server, tmp_path):
        with pytest.raises(InputError) as caught:
            fetch([f"{server.url}/none", "http://127.0.0.1:1/dead"], tmp_path / "set.zip", None, attempts=1)
        said = str(caught.value)
        assert f"{server.url}/none: HTTP 404 Not Found" in said
        assert "http://127.0.0.1:1/dead: no connection" in said
        assert f"put it at {tmp_path / 'set.zip'}" in said


def make_zip(path, names):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in names:
            file.writestr(name, b"contents" * 1000)
    return path


def make_tar(path, names, **fields):
    with tarfile.open(path, "w:gz") as file:
        for name in names:
            member = tarfile.TarInfo(name)
            for field, value in fields.items():
                setattr(member, field, value)
            member.size = 0 if fields else 8
            file.addfile(member, None if fields else io.BytesIO(b"contents"))
    return path


class TestUnpack:
    @pytest.mark.parametrize("make", [make_zip, make_tar])
    def test_contents_arrive(self, tmp_path, make):
        archive = make(tmp_path / "archive", ["set/train/a.png", "set/list.txt"])
        folder = unpack(archive, tmp_path / "out")
        assert (folder / "set" / "train" / "a.png").read_bytes().startswith(b"contents")
        assert sorted(os.listdir(tmp_path)) == ["archive", "out"]

    @pytest.mark.parametrize("make", [make_zip, make_tar])
    @pytest.mark.parametrize("name", ["../outside.txt", "set/../../outside.txt"])
    def test_a_member_that_climbs_out_is_refused(self, tmp_path, make, name):
        archive = make(tmp_path / "archive", ["set/a.png", name])
        with pytest.raises(InputError, match="archive is not safe to unpack"):
            unpack(archive, tmp_path / "out")
        assert os.listdir(tmp_path) == ["archive"]

    @pytest.mark.parametrize("name", ["/etc/outside.txt", r"C:\outside.txt", r"..\outside.txt"])
    def test_absolute_and_windows_names_in_a_zip_are_refused(self, tmp_path, name):
        archive = make_zip(tmp_path / "archive", [name])
        with pytest.raises(InputError, match="not safe to unpack"):
            unpack(archive, tmp_path / "out")

    def test_a_link_out_of_the_folder_is_refused(self, tmp_path):
        archive = make_tar(tmp_path / "archive", ["link"], type=tarfile.SYMTYPE, linkname="/etc/passwd")
        with pytest.raises(InputError, match="not safe to unpack"):
            unpack(archive, tmp_path / "out")

    @pytest.mark.parametrize("make", [make_zip, make_tar])
    def test_a_damaged_archive_leaves_nothing(self, tmp_path, make):
        archive = make(tmp_path / "archive", ["a.png", "b.png"])
        data = bytearray(archive.read_bytes())
        data[40:60] = bytes(20)
        archive.write_bytes(data)
        with pytest.raises(InputError, match=r"archive is damaged.*fetch it again"):
            unpack(archive, tmp_path / "out")
        assert os.listdir(tmp_path) == ["archive"]

    def test_a_page_of_html_is_no_archive(self, tmp_path):
        (tmp_path / "set.zip").write_text("<html>quota exceeded</html>")
        with pytest.raises(InputError, match=r"set\.zip is damaged or no archive"):
            unpack(tmp_path / "set.zip", tmp_path / "out")

    def test_a_missing_archive_and_an_existing_folder(self, tmp_path):
        with pytest.raises(InputError, match="There is no archive"):
            unpack(tmp_path / "none.zip", tmp_path / "out")
        with pytest.raises(InputError, match="exists already"):
            unpack(make_zip(tmp_path / "set.zip", ["a"]), tmp_path)

    def test_what_an_interrupted_run_left_is_cleared_away(self, tmp_path):
        (tmp_path / ".out.unpacking").mkdir()
        (tmp_path / ".out.unpacking" / "half").touch()
        unpack(make_zip(tmp_path / "set.zip", ["a"]), tmp_path / "out")
        assert sorted(os.listdir(tmp_path)) == ["out", "set.zip"]
        assert os.listdir(tmp_path / "out") == ["a"]
