"""Missing and old packages: which extra brings each, told at the door in one line."""

import sys
from types import SimpleNamespace

import pytest

from skipdit_jax import optional, runs


@pytest.mark.parametrize("extra", optional.EXTRAS)
def test_a_missing_package_names_its_extra(extra, monkeypatch):
    for name in optional.EXTRAS[extra]:
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(ValueError, match=rf"^here: found no {name}, wanted: ") as told:
                optional.load(name, "here")
        assert str(told.value).endswith(f'pip install "skipdit_jax[{extra}]"')
        assert isinstance(told.value, ImportError)
        assert "\n" not in str(told.value)


def test_a_package_that_cannot_be_imported_says_why(tmp_path, monkeypatch):
    (tmp_path / "broken_av.py").write_text("raise ImportError('libavcodec.so: no such file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(optional.EXTRAS, "broken", ("broken_av",))
    with pytest.raises(optional.MissingExtraError, match=r"here: broken_av .*libavcodec\.so"):
        optional.load("broken_av", "here")


@pytest.mark.parametrize(("version", "fits"), [("14.0.0", False), ("16.1.0", False), ("17.0.0", 1)])
def test_releases_of_pyav_that_read_wrong_colours_are_refused(version, fits, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", SimpleNamespace(__version__=version))
    if fits:
        assert optional.load("av", "MP4").__version__ == version
        return
    with pytest.raises(ValueError, match=rf"^MP4: found av {version}, wanted av>=17: pip install"):
        optional.load("av", "MP4")


def test_training_from_python_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(ValueError, match=r"^skipdit_jax\.runs: found no grain, wanted: .*\[train"):
        _ = runs.prepare_training
    with pytest.raises(AttributeError, match="no attribute 'prepare'"):
        _ = runs.prepare


@pytest.mark.parametrize("command", ["train", "encode"])
def test_commands_without_their_extra_end_in_one_line(command, monkeypatch, capsys):
    """As `import` would run them for the first time."""
    monkeypatch.delitem(sys.modules, f"skipdit_jax.cli.{command}", raising=False)
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(SystemExit) as end:
        __import__(f"skipdit_jax.cli.{command}")
    assert end.value.code == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert printed.endswith('found no grain, wanted: pip install "skipdit_jax[train]"\n')
