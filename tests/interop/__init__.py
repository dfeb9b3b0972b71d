"""The suites of other libraries, from their installed packages, over our stores: `nox -s interop`.

A normal run does not collect them: they test promises of other libraries, take minutes, and change with their releases.
"""
