"""Sphinx settings for these pages."""

from importlib import metadata

project = "gancore"
release = metadata.version("gancore")
extensions = ["myst_nb"]  # Markdown as myst_parser reads it, and notebooks
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"gancore {release}"
html_show_copyright = False
myst_heading_anchors = 3
nb_execution_mode = "off"  # outputs are those in the file
nb_merge_streams = True
smartquotes = False  # show quoted values exactly as typed
