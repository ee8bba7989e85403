"""Settings of Sphinx: ``make docs`` builds the documentation."""

import sb3_lwm

project = "sb3-lwm"
author = "sb3-lwm contributors"
copyright = author
version = release = sb3_lwm.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.intersphinx", "sphinx.ext.viewcode"]
# the tables in results are included by pages
exclude_patterns = ["_build", "results"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_title = f"sb3-lwm {version}"

myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_member_order = "bysource"
# objects of other packages are links only if these are asked for while the documentation is built
intersphinx_mapping: dict[str, tuple[str, None]] = {}
