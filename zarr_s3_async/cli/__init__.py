"""The command line, `zarr-s3`. Without the `cli` extra it prints one line with what to install."""

import sys


def main() -> None:
    """Entry point of `zarr-s3`."""
    try:
        from .app import app
        from .terminal import adapt_streams

        adapt_streams()  # the help is printed before any command runs
        app()
    except KeyboardInterrupt:  # while the commands were imported: later, they end by themselves
        sys.stderr.write("zarr-s3: interrupted\n")
        raise SystemExit(130) from None
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in {"rich", "typer"}:
            raise
        sys.stderr.write(f"zarr-s3: {package} is not installed: pip install 'zarr-s3-async[cli]'\n")
        raise SystemExit(2) from None
