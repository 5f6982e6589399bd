"""How Sphinx builds the site. `make site` lays the sources out (make_site.py) and runs it."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from mini_transformer import __version__

project = "mini-transformer"
author = "the mini-transformer authors"
release = __version__
copyright = "the mini-transformer authors, MIT licence"
html_title = "mini-transformer"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
]

# Lessons are run by the site itself; a cell that fails ends the build.
nb_custom_formats = {".py": "reading.read_lesson"}
nb_execution_mode = os.environ.get("LESSONS", "cache")
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80

html_theme = "furo"
html_static_path = [str(Path(__file__).parent / "static")]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
copybutton_exclude = ".linenos, .gp"


def setup(app):
    from docstrings import rewrite_docstring

    app.connect("autodoc-process-docstring", rewrite_docstring)
