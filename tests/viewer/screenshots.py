"""The pictures of docs/view.md: `nox -s browser -- --screenshots`. Look at them before you commit them."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

from zarr_s3_async.viewer import create_app

from .browser import chromium, served, settled

ROOT = Path(__file__).parents[2]
PICTURES: dict[str, dict[str, Any]] = {
    "view-land": {
        "hash": "path=land&y=0&x=1&at=0,0&colors=viridis&centre=31000,42000&scale=0.05,0.05",
        "dark": True,
    },
    "view-waves": {"hash": "path=waves&y=1&x=2&at=7,0,0&colors=diverging", "dark": False},
}


def main() -> None:
    """Write each of them."""
    sys.path.insert(0, str(ROOT / "examples" / "tiles"))
    from landscape import Landscape
    from selenium.webdriver.common.actions.action_builder import ActionBuilder

    for name, wanted in PICTURES.items():
        with (
            served(create_app(Landscape(), details=True)) as address,
            chromium(1280, 860, dark=wanted["dark"]) as driver,
        ):
            driver.get(f"{address}#{wanted['hash']}")
            settled(driver)
            actions = ActionBuilder(driver)
            actions.pointer_action.move_to_location(430, 330)
            actions.perform()
            time.sleep(2.5)  # the figures move once a second
            with Image.open(io.BytesIO(driver.get_screenshot_as_png())) as picture:
                small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
                small.save(ROOT / "docs" / "images" / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
