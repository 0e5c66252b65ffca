"""Beam's --setup_file wants a setup.py; everything else is in pyproject.toml."""

from setuptools import setup

setup()
