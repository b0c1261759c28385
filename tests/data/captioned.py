"""Small sets of pictures with captions, in the three ways that people keep them."""

import io
import json
import tarfile

from tests.data.pictures import write_tree

WORDS = ("a wave", "a boat at sea", "ein Hund", "a dog", "two dogs")


def write_captioned(root, count=5, shape=(16, 16, 3)):
    """root/N.png with N.txt, or N.json of odd numbers; returns root."""
    write_tree(root, classes=("",), count=count, shape=shape)
    for number in range(count):
        words = WORDS[number]
        odd = {"caption": words} if number % 4 == 1 else {"id": number, "text": f" {words}\n"}
        text = json.dumps(odd) if number % 2 else f"{words}\n"
        (root / f"{number}{'.json' if number % 2 else '.txt'}").write_text(text)
    return root


def write_list(root, path):
    """A list of the pictures of such a folder; returns its path."""
    lines = [
        json.dumps({"file": f"{root.name}/{number}.png", "caption": words})
        for number, words in enumerate(WORDS)
        if (root / f"{number}.png").exists()
    ]
    path.write_text("\n".join(lines) + "\n\n")
    return path


def write_tar(path, files):
    """A shard of (name, bytes), a folder and a file that begins with a dot; returns its path."""
    with tarfile.open(path, "w") as archive:
        folder = tarfile.TarInfo("deep")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in [("._0.jpg", b"mac"), *files]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_shards(root, folder):
    """Two shards of such a folder, as webdataset names them; returns their folder."""
    folder.mkdir()
    files = sorted(path for path in root.iterdir() if path.suffix in (".png", ".txt", ".json"))
    parts = {"00000": files[:4], "00001": files[4:]}
    for name, part in parts.items():
        held = [(f"deep/{path.name}", path.read_bytes()) for path in part]
        write_tar(folder / f"{name}.tar", held)
    return folder
