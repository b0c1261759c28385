import pytest
from absl import flags

from tests.data.videos import SPAN, write_frames


@pytest.fixture
def parsed_flags():
    """Worker processes want absl flags parsed, as under absl.app.run."""
    before = flags.FLAGS.is_parsed()
    flags.FLAGS.mark_as_parsed()
    yield
    if not before:
        flags.FLAGS.unparse_flags()


@pytest.fixture
def tree(tmp_path):
    """Four folders of frames in one class, told apart by their first frame."""
    for index, name in enumerate("abcd"):
        write_frames(tmp_path / "cat" / name, count=SPAN, first=12 * index)
    return tmp_path
