"""Sphinx settings for these pages."""

from importlib import metadata

project = "gancore"
release = metadata.version("gancore")
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"gancore {release}"
html_show_copyright = False
myst_heading_anchors = 3
smartquotes = False  # show quoted values exactly as typed
