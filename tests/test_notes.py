"""Comments cite facts by the headings of docs/notes.md, and no document outside the repository."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("skipdit_jax", "benchmarks", "configs", "docs", "tests")
SUFFIXES = (".py", ".md", ".txt", ".toml")
CITED = re.compile(r"docs/notes\.md, (.{0,60})")
OUTSIDE = re.compile(r"\bspec [0-9]|jax-notes|golden/README", re.IGNORECASE)
LINE_BREAK = re.compile(r"\s*\n[\s#]*")


def texts():
    """{path: text in one line, without the marks of comments} of everything written by hand."""
    paths = [*ROOT.iterdir(), *(path for name in FOLDERS for path in (ROOT / name).rglob("*"))]
    written = {path for path in paths if path.suffix in SUFFIXES} - {Path(__file__)}
    return {str(path): LINE_BREAK.sub(" ", path.read_text("utf-8")) for path in written}


def headings():
    return re.findall(r"^#+ (.+)$", (ROOT / "docs" / "notes.md").read_text("utf-8"), re.MULTILINE)


def names_a_heading(cited):
    """Whether the text after "docs/notes.md, " begins with one."""
    return any(re.match(rf"{re.escape(heading)}(?!\w)", cited) for heading in headings())


def test_cited_headings_exist():
    cited = [(name, of) for name, text in texts().items() for of in CITED.findall(text)]
    assert len(cited) > len(headings())
    assert [(name, of) for name, of in cited if not names_a_heading(of)] == []


def test_another_heading_is_noticed():
    assert names_a_heading("Attention on GPU). Whatever")
    assert not names_a_heading("Attention on TPU")
    assert not names_a_heading("Meshes2")


def test_no_document_outside_is_cited():
    cited = {name: OUTSIDE.findall(text) for name, text in texts().items()}
    assert {name: found for name, found in cited.items() if found} == {}
