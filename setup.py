"""The packages of a wheel: pyproject.toml finds them, or says that one lies elsewhere, not both."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py


class FreshBuild(build_py):
    """Begins with nothing: setuptools would pack modules that are gone from an earlier build/."""

    def run(self) -> None:
        """Empties the folder, then fills it."""
        if Path(self.build_lib).exists():
            shutil.rmtree(self.build_lib)
        super().run()


setup(
    packages=[*find_packages(include=["skipdit_jax", "skipdit_jax.*"]), "skipdit_jax.configs"],
    package_dir={"skipdit_jax.configs": "configs"},
    cmdclass={"build_py": FreshBuild},
)
