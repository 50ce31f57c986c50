"""Stock clients outside the test environment: old pinned releases and other languages.

Each is installed at its pinned version into a cache folder outside the repository
(``ODRADEK_CACHE``, default ``~/.cache/odradek``) and runs one script with its whole repertoire
against a broker address. ``python -m compat.clients`` lists and runs them; findings are in
README.md beside this file.
"""
