"""Weights by name, against a server on this machine: also where a transfer goes wrong."""

import contextlib
import hashlib
import json

import huggingface_hub
import jax
import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save

from skipdit_jax.checkpoints import CheckpointError, hub
from skipdit_jax.weights import load_checkpoint, open_weights
from tests.checkpoints import hub_server
from tests.checkpoints.states import torch_state, write_state
from tests.cli import makers

REPO, FILE = "owner/some-repo", "folder/weights.bin"
SOURCE = f"hf://{REPO}/{FILE}"
DATA = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server(tmp_path, monkeypatch):
    with hub_server.as_hub(tmp_path, monkeypatch) as server:
        server.put(REPO, FILE, DATA)
        yield server


def told(source, *more):
    with pytest.raises(CheckpointError) as error:
        hub.fetch(source, *more)
    text = str(error.value)
    assert "\n" not in text
    return text


def left():
    """Every file of the cache apart from locks."""
    files = (path for path in hub.cache_folder().rglob("*") if path.is_file())
    return sorted(str(p.relative_to(hub.cache_folder())) for p in files if p.suffix != ".lock")


def test_a_path_is_returned_as_it_is(tmp_path, server):
    assert hub.fetch(tmp_path / "nothing.pt") == tmp_path / "nothing.pt"
    assert hub.fetch("some/file.pt").parts == ("some", "file.pt")
    assert not server.log


def test_a_file_is_fetched_once_and_told(server):
    lines = []
    path = hub.fetch(SOURCE, lines.append)
    assert path.read_bytes() == DATA
    assert path == hub.cache_folder() / REPO / FILE
    assert SHA256 in lines[-1]
    assert f"{len(DATA):,} bytes" in lines[-1]
    assert hub.checksum(path) == SHA256
    count = len(server.log)
    assert hub.fetch(SOURCE, lines.append) == path
    assert (len(server.log), len(lines)) == (count, 2)


def test_a_revision_is_another_file(server):
    server.put(REPO, FILE, b"older", revision="refs%2Fpr%2F1")
    old = hub.fetch(f"{SOURCE}@refs/pr/1")
    assert old.read_bytes() == b"older"
    assert hub.fetch(SOURCE).read_bytes() == DATA


def test_another_server_is_asked_without_the_hubs_token(server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    server.files["DiT/models/a.pt"] = DATA
    path = hub.fetch(f"{server.address}/DiT/models/a.pt")
    assert path.read_bytes() == DATA
    assert not [h for h in server.headers if "authorization" in {name.lower() for name in h}]


def test_a_transfer_that_breaks_goes_on_in_the_same_call(server):
    server.breaks, server.keep = 2, 100_000
    assert hub.fetch(SOURCE).read_bytes() == DATA
    assert [start for _, start in server.sent()] == [0, 100_000, 200_000]


def test_a_server_that_always_ends_too_early_is_told(server):
    server.breaks, server.keep = 100, 0
    assert "cannot be fetched (peer closed connection" in told(SOURCE)
    assert not (hub.cache_folder() / REPO / FILE).exists()


@contextlib.contextmanager
def breaking(data):
    """Only the beginning of a file comes, then the process gives up."""

    def stops(url, file, **options):
        file.write(data)
        raise ConnectionResetError("the line is dead")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub, "http_get", stops)
        patch.setattr(hub, "ATTEMPTS", 1)
        yield


def test_a_transfer_that_ends_is_told_and_the_next_call_goes_on(server):
    with breaking(DATA[:100_000]):
        text = told(SOURCE)
    assert "the line is dead; 100,000 bytes are kept" in text
    assert hub.fetch(SOURCE).read_bytes() == DATA
    assert server.sent() == [(f"{REPO}/resolve/main/{FILE}", 100_000)]
    assert left() == [f"{REPO}/folder/.weights.bin.json", f"{REPO}/{FILE}"]


def test_another_version_is_not_glued_to_the_beginning_of_the_old_one(server):
    with breaking(b"old " * 1000):
        told(SOURCE)
    server.put(REPO, FILE, DATA[::-1])
    assert hub.fetch(SOURCE).read_bytes() == DATA[::-1]
    assert [start for _, start in server.sent()] == [0]


def test_a_server_that_sends_no_parts_begins_again(server):
    with breaking(DATA[:50_000]):
        told(SOURCE)
    server.ranges = False
    assert hub.fetch(SOURCE).read_bytes() == DATA


def test_wrong_bytes_are_found_by_the_checksum_and_deleted(server):
    server.tags[f"{REPO}/resolve/main/{FILE}"] = "0" * 64
    assert f"sha256 {SHA256}, wanted {'0' * 64}" in told(SOURCE)
    assert left() == []


def test_a_missing_file_is_told_with_where_to_put_it(server):
    text = told(f"hf://{REPO}/no.pt")
    assert "there is no such file or revision" in text
    assert f"{server.address}/{REPO}/resolve/main/no.pt" in text
    assert str(hub.cache_folder() / REPO / "no.pt") in text


def test_without_network_one_line_says_which_file_to_put_where(server, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    text = told(SOURCE)
    assert "HF_HUB_OFFLINE is set" in text
    assert text.endswith(f"put it at {hub.cache_folder() / REPO / FILE}")
    assert not server.log
    place = hub.cache_folder() / REPO / FILE
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"by hand")
    assert hub.fetch(SOURCE) == place
    assert hub.checksum(place) is None


def test_a_server_that_cannot_be_reached_is_told(server, monkeypatch):
    server.shutdown()
    server.server_close()
    assert "cannot be fetched" in told(SOURCE)


def test_what_the_hubs_own_cache_has_is_used(server, monkeypatch):
    theirs = huggingface_hub.hf_hub_download(
        REPO, FILE, endpoint=server.address, cache_dir=constants.HF_HUB_CACHE
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.fetch(SOURCE).samefile(theirs)
    assert left() == []


@pytest.mark.parametrize(
    "source",
    [
        "hf://owner",
        "hf://owner/repo",
        "hf://owner/repo/",
        "hf://owner/repo/../../up",
        "hf://owner/repo/file@",
        "hf://owner/../file",
        "https://",
        "https://host",
        "https://host/",
        "https://host/a/../b",
        "https://host//b",
        "https://host/a?download=true",
    ],
)
def test_names_that_name_no_file_are_refused(source):
    with pytest.raises(CheckpointError, match=r"wanted h(f|ttps)://"):
        hub.parse(source)


@pytest.mark.parametrize("source", ["ftp://host/a.pt", "s3://bucket/a.pt", "https:/host/a.pt"])
def test_addresses_of_other_kinds_are_told_and_are_no_files(source, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="wanted a path, hf://"):
        hub.parse(source)
    monkeypatch.chdir(tmp_path)
    (tmp_path / source).mkdir(parents=True)
    assert hub.parse(source) is None
    assert hub.parse("C:/a.pt") is None


def test_weights_are_loaded_by_name(server, tmp_path):
    small = makers.save_small(tmp_path / "small.pt")
    server.put(REPO, "small.pt", small.read_bytes())
    source = f"hf://{REPO}/small.pt"
    _, params = load_checkpoint(source, num_heads=makers.SMALL["num_heads"])
    _, own = load_checkpoint(small, num_heads=makers.SMALL["num_heads"])
    assert np.array_equal(params["x_embedder"]["kernel"], own["x_embedder"]["kernel"])
    assert open_weights(source).path == hub.cache_folder() / REPO / "small.pt"


@pytest.mark.parametrize("revision", ["", "@v1"])
def test_an_index_brings_the_files_that_it_names(server, tmp_path, revision):
    """Under its own names, as diffusers splits weights; what is here is not fetched again."""
    state = torch_state(False)
    write_state(tmp_path / "small.pt", state)
    folder, names = "transformer", sorted(state)
    parts = {"a-1-of-2.safetensors": names[::2], "a-2-of-2.safetensors": names[1::2]}
    files = {name: save({key: state[key] for key in keys}) for name, keys in parts.items()}
    table = {key: name for name, keys in parts.items() for key in keys}
    files["a.safetensors.index.json"] = json.dumps({"weight_map": table}).encode()
    for name, data in files.items():
        server.put(REPO, f"{folder}/{name}", data, revision.removeprefix("@") or "main")
    source = f"hf://{REPO}/{folder}/a.safetensors.index.json{revision}"
    _, params = load_checkpoint(source, num_heads=2)
    _, own = load_checkpoint(tmp_path / "small.pt", num_heads=2)
    jax.tree.map(np.testing.assert_array_equal, params, own)
    count = len(server.log)
    open_weights(source)
    assert len(server.log) == count


def test_an_index_that_names_files_elsewhere_brings_none(server):
    table = json.dumps({"weight_map": {"a": "../../secret.safetensors"}}).encode()
    server.put(REPO, "a.safetensors.index.json", table)
    with pytest.raises(CheckpointError, match=r"index.json: names the file '../../secret"):
        open_weights(f"hf://{REPO}/a.safetensors.index.json")
    assert not [line for line in server.log if "secret" in str(line)]


def test_a_file_that_is_no_checkpoint_is_told_with_its_path(server):
    with pytest.raises(CheckpointError, match=r"cache.*weights.bin"):
        open_weights(SOURCE)
    server.put(REPO, "broken.safetensors", save({"a": np.zeros(100)})[:-100])
    with pytest.raises(CheckpointError, match=r"broken.safetensors: not a whole .safetensors"):
        open_weights(f"hf://{REPO}/broken.safetensors")
