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
        if self.path == "/forged":
            return self.send_error(404, "No\x1b[2Jt\x85found" + 500 * "!")
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

    def test_what_a_server_says_steers_no_terminal(self, server, tmp_path):
        with pytest.raises(InputError) as caught:
            fetch([f"{server.url}/forged"], tmp_path / "set.zip", None, attempts=1)
        said = str(caught.value)
        assert r"HTTP 404 No\x1b[2Jt\x85found!!!" in said and "!" * 100 not in said


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


def tar_of(path, *members, mode="w"):
    """A tar archive of (name, type, link, data)."""
    with tarfile.open(path, mode) as file:
        for name, kind, link, data in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def directory(name):
    return (name, tarfile.DIRTYPE, "", b"")


def link(name, target):
    return (name, tarfile.SYMTYPE, target, b"")


def hard_link(name, target):
    return (name, tarfile.LNKTYPE, target, b"")


def plain(name, data=b"pwned"):
    return (name, tarfile.REGTYPE, "", data)


def realpath_overflow(*last):
    """CVE-2025-4517 and 4330: links so deep that their resolved path is longer than the system allows."""
    part, path, members = "d" * 247, "", []
    for letter in "abcdefghijklmnop":
        members.append(directory(f"{path}{part}"))
        members.append(link(f"{path}{letter}", part))
        path += f"{part}/"
    deep = "/".join("abcdefghijklmnop") + "/" + "l" * 254
    return [*members, link(deep, "../" * 16), link("escape", f"{deep}/../../outside"), *last]


ESCAPES = {
    "realpath overflow, a new file outside": realpath_overflow(plain("escape/new")),
    "realpath overflow, a victim overwritten": realpath_overflow(
        hard_link("flag", "escape/victim"), plain("flag")
    ),
    "realpath overflow, a victim read": realpath_overflow(hard_link("stolen", "escape/victim")),
    "CVE-2024-12718, rights of a file outside": [link("x", "."), plain("x/../../../outside/victim", b"")],
    "CVE-2025-4138, a link that is normalised": [
        link("a/b", "../c/../.."),
        directory("c"),
        plain("a/b/outside/new"),
    ],
    "hard link to a link": [link("s", "../../outside/victim"), hard_link("h", "s"), plain("h")],
    "chain of links": [
        directory("a"),
        link("a/l", ".."),
        link("b", "a/l"),
        link("c", "b/../../outside"),
        plain("c/new"),
    ],
    "loop of links": [link("x", "y"), link("y", "x/../../../outside"), plain("y/new")],
    "harmless link": [plain("a"), link("b", "a")],
    "harmless hard link": [plain("a"), hard_link("b", "a")],
    "device": [("null", tarfile.CHRTYPE, "", b"")],
    "pipe": [("fifo", tarfile.FIFOTYPE, "", b"")],
    "absolute": [plain("/outside/new")],
    "climbing": [plain("a/../../outside/new")],
    "drive letter": [plain("C:new")],
    "one name twice": [plain("a"), plain("./a")],
    "a file in a file": [plain("a"), plain("a/b")],
    "no name": [plain(".")],
}


class TestUnsafeArchives:
    """The attacks that were shown to pass the filter of tarfile, and their kin; nothing is written anywhere."""

    @pytest.mark.parametrize("name", ESCAPES)
    def test_a_tar_that_could_reach_outside_is_refused_before_anything_is_written(self, tmp_path, name):
        outside, inside = tmp_path / "outside", tmp_path / "d"
        outside.mkdir()
        inside.mkdir()
        (outside / "victim").write_text("mine")
        (outside / "victim").chmod(0o600)
        os.utime(outside / "victim", (1e9, 1e9))
        archive = tar_of(tmp_path / "evil.tar", *ESCAPES[name])
        with pytest.raises(InputError, match=r"evil\.tar is not safe to unpack .*do not use it"):
            unpack(archive, inside / "u")
        assert os.listdir(inside) == [] and os.listdir(outside) == ["victim"]
        found = os.stat(outside / "victim")
        assert ((outside / "victim").read_text(), found.st_mode & 0o777, found.st_mtime) == (
            "mine",
            0o600,
            1e9,
        )

    def test_a_link_in_a_zip_is_refused(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "evil.zip", "w") as file:
            info = zipfile.ZipInfo("link")
            info.create_system, info.external_attr = 3, 0o120777 << 16
            file.writestr(info, "/etc/passwd")
        with pytest.raises(InputError, match="'link' is a link or a device"):
            unpack(tmp_path / "evil.zip", tmp_path / "out")

    def test_rights_in_an_archive_are_left_out(self, tmp_path):
        archive = make_tar(tmp_path / "archive", ["a"], mode=0o4777)
        assert (unpack(archive, tmp_path / "out") / "a").stat().st_mode & 0o7111 == 0

    def test_an_archive_larger_than_the_disk_is_refused_before_it_fills_it(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "large.zip", "w") as file:
            file.writestr("a", b"")
            file.filelist[0].file_size = 1 << 60  # what the list of contents claims
        with pytest.raises(InputError, match="the disk is full"):
            unpack(tmp_path / "large.zip", tmp_path / "out")

    @pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
    def test_an_archive_that_is_cut_off_never_passes_as_whole(self, tmp_path, mode):
        whole = tar_of(tmp_path / "whole", *(plain(f"{n}.png", os.urandom(700)) for n in range(5)), mode=mode)
        data = whole.read_bytes()
        unpack(whole, tmp_path / "out")
        assert len(os.listdir(tmp_path / "out")) == 5
        for end in range(600, min(len(data), 7000), 250):
            (tmp_path / "cut").write_bytes(data[:end])
            with pytest.raises(InputError, match="cut is damaged or no archive"):
                unpack(tmp_path / "cut", tmp_path / "half")
            assert not (tmp_path / "half").exists()

    def test_a_damaged_header_in_the_middle_is_no_end(self, tmp_path):
        data = bytearray(
            tar_of(tmp_path / "x", *(plain(f"{n}.png", bytes(512)) for n in range(5))).read_bytes()
        )
        data[1024 * 2 + 5] ^= 0xFF
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(InputError, match="it breaks off after 2 members"):
            unpack(tmp_path / "x", tmp_path / "out")

    def test_an_encrypted_zip_is_a_sentence(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
            file.writestr("a", b"secret")
        data = bytearray((tmp_path / "a.zip").read_bytes())
        for start in (6, data.index(b"PK\x01\x02") + 8):
            data[start] |= 1  # the flag that says that a password is needed
        (tmp_path / "a.zip").write_bytes(data)
        with pytest.raises(InputError, match=r"cannot be unpacked here .*password.*by hand"):
            unpack(tmp_path / "a.zip", tmp_path / "out")
