"""Downloads from servers that change their files, lie about them, or never end."""

import threading

import pytest

from skipdit_jax.checkpoints import CheckpointError, hub, transfer
from tests.checkpoints import hub_server
from tests.checkpoints.test_hub import DATA, FILE, REPO, SOURCE, breaking, left, told

PATH = f"{REPO}/resolve/main/{FILE}"
OTHER = DATA[::-1]


@pytest.fixture
def server(tmp_path, monkeypatch):
    with hub_server.as_hub(tmp_path, monkeypatch) as server:
        server.put(REPO, FILE, DATA)
        server.tags[PATH] = "v1"  # no checksum: nothing is compared in the end
        yield server


def starts(server):
    """First bytes of the parts of the file that were asked for; the hub's own library asks more."""
    return [start for path, start in server.sent() if path == PATH]


def becomes_another(server, tag):
    """The first transfer breaks off, and then the file is another one."""
    server.breaks, server.keep = 1, 100_000

    def before(method, start):
        if len(starts(server)) == 1:
            server.files[PATH] = OTHER
            server.tags[PATH] = tag

    server.before = before


@pytest.mark.parametrize("tag", ["v2", "v1"])
def test_another_version_between_two_attempts_is_not_glued_on(server, tag):
    becomes_another(server, tag)
    if tag == "v1":  # no server of good will gives two versions one tag: this one has none
        server.lies = {("HEAD", "ETag"): None, ("GET", "ETag"): None}
    assert hub.fetch(SOURCE).read_bytes() == OTHER
    assert starts(server) == [0, 0]


def test_a_transfer_goes_on_under_the_condition_of_its_tag(server):
    server.breaks, server.keep = 1, 100_000
    assert hub.fetch(SOURCE).read_bytes() == DATA
    assert starts(server) == [0, 100_000]
    assert [h.get("If-Range") for h in server.headers if "Range" in h] == ['"v1"']
    assert {h.get("Accept-Encoding") for h in server.headers} == {"identity"}


@pytest.mark.parametrize(
    "lies",
    [
        {("GET", "ETag"): '"v2"'},
        {("GET", "ETag"): 'W/"v1"'},
        {("GET", "ETag"): None},
        {("GET", "Content-Range"): "bytes 50000-299999/300000"},
        {("GET", "Content-Range"): "bytes 100000-299999/400000"},
        {("GET", "Content-Range"): None},
    ],
    ids=str,
)
def test_a_part_that_cannot_be_told_to_fit_is_thrown_away(server, lies):
    with breaking(DATA[:100_000]):
        told(SOURCE)
    server.lies = lies

    def honest_about_all(method, start):
        if method == "GET" and not start:
            server.lies = {}

    server.before = honest_about_all
    assert hub.fetch(SOURCE).read_bytes() == DATA
    assert starts(server) == [100_000, 0]


def test_a_version_that_changes_between_question_and_answer_is_told(server):
    server.lies = {("GET", "ETag"): '"v2"'}
    assert "was changed on the server while it was fetched" in told(SOURCE)
    assert len(starts(server)) == hub.ATTEMPTS
    assert not [path for path in left() if path.endswith("weights.bin")]


def kept():
    return sum(path.stat().st_size for path in hub.cache_folder().rglob("*.incomplete"))


def test_no_more_is_written_than_was_claimed(server):
    server.lies = {("HEAD", "Content-Length"): "1000", ("GET", "Content-Length"): None}
    assert "sends more than the 1,000 bytes that it claimed" in told(SOURCE)
    assert len(starts(server)) == hub.ATTEMPTS
    assert kept() <= 1000


def test_a_server_that_claims_no_size_cannot_send_for_ever(server, monkeypatch):
    monkeypatch.setattr(transfer, "MAX_BYTES", 100_000)
    server.lies = {("HEAD", "Content-Length"): None, ("GET", "Content-Length"): None}
    assert "sends more than the 100,000 bytes" in told(SOURCE)
    assert kept() <= 100_000


def test_a_file_that_no_disk_holds_is_not_begun(server):
    server.lies = {("HEAD", "Content-Length"): str(10**15)}
    assert "has 1,000,000,000,000,000 bytes, the disk has room for" in told(SOURCE)
    assert not starts(server)


def test_a_part_behind_the_end_is_asked_for_once(server):
    """All bytes are there, but the process ended before it could know that."""
    with breaking(DATA):
        told(SOURCE)
    server.lies = {("HEAD", "Content-Length"): None}

    def before(method, start):
        server.status = 416 if start else 0

    server.before = before
    assert hub.fetch(SOURCE).read_bytes() == DATA
    assert starts(server) == [len(DATA), 0]


def test_a_compressed_answer_is_refused(server):
    server.lies = {("GET", "Content-Encoding"): "gzip"}
    assert "encoded as 'gzip', wanted the bytes themselves" in told(SOURCE)


def test_a_server_that_sends_drop_by_drop_is_left(server, monkeypatch):
    monkeypatch.setattr(transfer, "PATIENCE", 0.05)
    monkeypatch.setattr(transfer, "LEAST_SPEED", 10**6)
    monkeypatch.setattr(hub, "ATTEMPTS", 1)

    def drops(file, data):
        for at in range(0, len(data), 1000):
            file.write(data[at : at + 1000])
            threading.Event().wait(0.005)  # time.sleep is patched away

    server.send = drops
    assert "bytes came in 0 s, wanted 1000000 a second" in told(SOURCE)


def test_a_redirection_that_leads_nowhere_is_told(server):
    server.status = 302
    server.lies = {(m, "Location"): "http://127.0.0.1:port/[" for m in ("HEAD", "GET")}
    assert "cannot be fetched" in told(SOURCE)
    server.lies = {(m, "Location"): f"{server.address}/{PATH}" for m in ("HEAD", "GET")}
    assert "cannot be fetched" in told(SOURCE)
    assert len(server.log) < 200


@pytest.mark.parametrize(
    "source",
    [
        "https://[::1/a",
        "https://host:99999999/a",
        "https://host:port/a",
        "https://ho st/a",
        "https://host/a\\b",
        "https://host/a#b",
        "https://host/a\x00b",
        "https://host/a\nb",
        "https://host/\udcff",
        f"https://{'h' * 300}/a",
        f"https://host/{'a' * 300}",
        f"https://host/{'a/' * 3000}a",
        "hf://owner/repo/a\x00b",
        f"hf://owner/repo/{'a' * 300}",
        "hf://-owner/repo/a",
        f"hf://owner/{'r' * 200}/a",
        "hf://owner/repo..git/a",
        f"hf://owner/repo/a@{'r/' * 150}r",
    ],
)
def test_malformed_names_are_one_short_line(source):
    for ask in (hub.parse, hub.find, hub.fetch):
        with pytest.raises(CheckpointError, match=r"wanted h(f|ttps)://") as error:
            ask(source)
        assert str(error.value).isprintable()
        assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    "source", ["http://127.0.0.1:1/a", "http://[::1]:1/a", "http://user@127.0.0.1:1/a"]
)
def test_addresses_of_hosts_by_number_are_addresses(source):
    assert hub.parse(source).url == source
