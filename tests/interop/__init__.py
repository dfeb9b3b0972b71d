"""The suites of other libraries, from their installed packages, over our stores: `nox -s interop`.

They are not collected by a plain run: they test what other libraries promise, take minutes, and change with them.
"""
