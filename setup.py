"""The packages of a wheel: pyproject.toml finds them, or says that one lies elsewhere, not both."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["skipdit_jax", "skipdit_jax.*"]), "skipdit_jax.configs"],
    package_dir={"skipdit_jax.configs": "configs"},
)
