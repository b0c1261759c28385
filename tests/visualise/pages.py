"""Pages in a headless Chromium: the document behind its scripts, and what the console said."""

import re
import shutil
import subprocess

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # no network
    "--virtual-time-budget=5000",
    "--enable-logging=stderr",
    "--dump-dom",
)
# Behind the page's own script: zooms the first picture, and tells of all.
LOOK = """<script>
addEventListener("load", () => {
  const all = [...document.querySelectorAll("table img")];
  document.querySelector(".zoom")?.click();
  const dialog = document.querySelector("dialog"), large = dialog.querySelector("img");
  const told = {
    pictures: all.length,
    shown: all.filter(one => one.complete && one.naturalWidth > 0).length,
    opened: dialog.open && large.src === all[0].src,
  };
  document.querySelector(".play")?.click();
  told.stills = all.filter(one => one.dataset.still === one.src).length;
  for (const [name, value] of Object.entries(told)) document.body.dataset[name] = value;
});
</script></body>"""


def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    return found


def visited(path, folder):
    """What the page says of itself, and the lines that its console has."""
    looked = folder / "looked.html"
    looked.write_text(path.read_text().replace("</body>", LOOK))
    done = subprocess.run(
        [browser(), *FLAGS, f"--user-data-dir={folder / 'profile'}", looked.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    body = re.search(r"<body([^>]*)>", done.stdout)
    assert body, done.stderr[-2000:]
    told = dict(re.findall(r'data-(\w+)="(\w+)"', body[1]))
    return told, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
