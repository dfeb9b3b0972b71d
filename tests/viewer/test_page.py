"""The viewer's page in a headless Chromium: it shows the values that NumPy has."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async.viewer import create_app, painting

from .browser import chromium, missing, served, settled, until
from .test_viewer import Counted, stored

_lacking = missing()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(_lacking is not None, reason=_lacking or ""),
    pytest.mark.filterwarnings("default::ResourceWarning"),  # selenium leaves connections open
]

DATA = np.random.default_rng(3).integers(0, 60000, (4, 2000, 3000)).astype("u2")
SMALL = np.arange(12, dtype="f4").reshape(3, 4)
LOW, HIGH = 0, 60000


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with chromium(1200, 700) as found:
        yield found


@pytest.fixture
async def store() -> Counted:
    store = await stored(DATA, "data", chunks=(1, 500, 500), dimension_names=("time", "y", "x"))
    return await stored(SMALL, "small", store)


@pytest.fixture
def page(driver: Any, store: Counted) -> Iterator[Any]:
    """The page, with the largest array of the group."""
    with served(create_app(store, details=True)) as address:
        driver.get("about:blank")
        driver.get(address)
        settled(driver)
        yield driver
        problems = [entry for entry in driver.get_log("browser") if entry["source"] not in {"network", "rendering"}]
        driver.get("about:blank")
        assert problems == []


def state(driver: Any) -> dict[str, Any]:
    found: dict[str, Any] = driver.execute_script(
        "const {path, plane, centre, scale, low, high, colors} = viewer.state;"
        "return {path, plane, centre, scale, low, high, colors, zoom: document.body.dataset.zoom}"
    )
    return found


def limit(driver: Any, low: float = LOW, high: float = HIGH) -> None:
    for name, value in (("low", low), ("high", high)):
        driver.execute_script(
            "const field = document.getElementById(arguments[0]); field.value = arguments[1];"
            "field.dispatchEvent(new Event('change'))", name, value,
        )  # fmt: skip
    settled(driver)


def pixel_at(driver: Any, x: float, y: float) -> list[int]:
    """The red, green and blue of the canvas at a point of the stage."""
    pixel: list[int] = driver.execute_script(
        "const context = document.getElementById('canvas').getContext('2d');"
        "return [...context.getImageData(arguments[0], arguments[1], 1, 1).data]", x, y,
    )  # fmt: skip
    return pixel[:3]


def colour(value: int, low: float = LOW, high: float = HIGH) -> list[int]:
    painted = painting.paint(np.array([value], "u2"), None, painting.Stretch(low, high))
    found: list[int] = painting.color_table("viridis")[painted[0]].tolist()
    return found


def at_one_element_per_pixel(driver: Any, centre: tuple[int, int]) -> tuple[int, int]:
    """Show the elements around (row, column) without scaling, and return the one in the corner of the stage."""
    driver.execute_script("document.getElementById('one').click()")
    width, height = size(driver)
    driver.execute_script(
        "viewer.state.centre = [arguments[0], arguments[1]]; document.getElementById('one').click()",
        centre[1] + (width % 2) / 2, centre[0] + (height % 2) / 2,
    )  # fmt: skip
    settled(driver)
    return centre[0] - height // 2, centre[1] - width // 2


def size(driver: Any) -> tuple[int, int]:
    width, height = driver.execute_script(
        "const stage = document.getElementById('stage'); return [stage.clientWidth, stage.clientHeight]"
    )
    return width, height


def pointer(driver: Any) -> Any:
    from selenium.webdriver.common.actions.action_builder import ActionBuilder

    return ActionBuilder(driver, duration=20)


def drag(driver: Any, start: tuple[int, int], stop: tuple[int, int]) -> None:
    actions = pointer(driver)
    actions.pointer_action.move_to_location(*start).pointer_down().move_to_location(*stop).pointer_up()
    actions.perform()


def test_the_page_shows_the_largest_array_and_each_pixel_is_its_element(page: Any) -> None:
    found = state(page)
    assert found["path"] == "data"
    assert found["plane"] == {"y": 1, "x": 2, "at": [0, 0, 0]}
    limit(page)
    top, left = at_one_element_per_pixel(page, (900, 1400))
    for x, y in ((10, 20), (300, 300), (512, 257), (600, 500)):
        assert pixel_at(page, x, y) == colour(DATA[0, top + y, left + x])


def test_a_slider_moves_along_the_other_axis(page: Any) -> None:
    limit(page)
    top, left = at_one_element_per_pixel(page, (900, 1400))
    page.find_element("css selector", "#sliders button[aria-label^='Next']").click()
    settled(page)
    assert state(page)["plane"]["at"][0] == 1
    assert pixel_at(page, 100, 100) == colour(DATA[1, top + 100, left + 100])
    page.execute_script(
        "const range = document.querySelector('#sliders input[type=range]'); range.value = 3;"
        "range.dispatchEvent(new Event('input'))"
    )
    settled(page)
    assert pixel_at(page, 100, 100) == colour(DATA[3, top + 100, left + 100])


def test_dragging_moves_the_picture_with_the_pointer(page: Any) -> None:
    limit(page)
    top, left = at_one_element_per_pixel(page, (900, 1400))
    drag(page, (400, 300), (340, 380))
    settled(page)
    assert pixel_at(page, 340, 380) == colour(DATA[0, top + 300, left + 400])


def test_the_wheel_zooms_around_the_pointer_and_keys_around_the_centre(page: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    stage = page.find_element("id", "stage")
    width, height = size(page)
    before = state(page)
    there = (width // 2 + 100, height // 2 + 50)
    under = page.execute_script("return viewer.toWorld([arguments[0], arguments[1]])", *there)
    for _ in range(4):
        ActionChains(page).scroll_from_origin(ScrollOrigin.from_element(stage, 100, 50), 0, -400).perform()
    settled(page)
    after = state(page)
    assert after["scale"][0] > 2 * before["scale"][0]
    assert int(after["zoom"].split(",")[0]) < int(before["zoom"].split(",")[0])
    now = page.execute_script("return viewer.toWorld([arguments[0], arguments[1]])", *there)
    assert np.allclose(now, under, atol=3 / after["scale"][0])
    stage.send_keys("-", "-")
    assert state(page)["scale"][0] < after["scale"][0]
    stage.send_keys("0")
    assert np.allclose(state(page)["scale"], before["scale"])


def test_the_value_under_the_cursor_is_the_element_of_numpy(page: Any) -> None:
    top, left = at_one_element_per_pixel(page, (900, 1400))
    for x, y in ((33, 44), (501, 302)):
        actions = pointer(page)
        actions.pointer_action.move_to_location(x, y)
        actions.perform()
        value = str(DATA[0, top + y, left + x])
        until(lambda value=value: page.find_element("id", "value").text == value)
        label = page.find_element("id", "where").text
        assert label.replace(",", "").split()[-1] == str(left + x)
        assert f"y {top + y:,}" in label


def test_the_limits_can_be_dragged_in_the_histogram(page: Any) -> None:
    before = state(page)
    histogram = page.find_element("id", "histogram")
    place = page.execute_script(
        "const box = arguments[0].getBoundingClientRect(), s = viewer.state, h = arguments[0];"
        "return [box.left + box.width / 2, box.top + 30]", histogram,
    )  # fmt: skip
    box = histogram.rect
    drag(page, (int(box["x"]) + 6, int(place[1])), (int(place[0]) - 20, int(place[1])))
    settled(page)
    after = state(page)
    assert after["low"] > before["low"] + 10_000
    assert after["high"] == before["high"]
    page.find_element("id", "auto").click()
    assert state(page)["low"] == before["low"]


def test_axes_and_colours_can_be_chosen_and_survive_a_reload(page: Any) -> None:
    page.find_element("id", "swap").click()
    page.execute_script(
        "const menu = document.getElementById('colors'); menu.value = 'magma'; menu.dispatchEvent(new Event('change'))"
    )
    settled(page)
    until(lambda: "colors=magma" in page.current_url)
    assert state(page)["plane"]["y"] == 2
    before = state(page)
    page.refresh()
    settled(page)
    after = state(page)
    assert after["plane"] == before["plane"]
    assert after["colors"] == "magma"
    assert np.allclose(after["scale"], before["scale"], rtol=1e-4)


def test_another_array_can_be_chosen_in_the_list(page: Any) -> None:
    page.find_element("css selector", "#members button[data-path='small']").click()
    until(lambda: state(page)["path"] == "small")
    settled(page)
    assert "float32" in page.find_element("id", "facts").text
    assert page.execute_script("return document.querySelector('#members [aria-current]').dataset.path") == "small"


def test_an_error_is_shown_until_it_is_fixed(page: Any, store: Counted) -> None:
    store.error = zs.AccessDenied("s3://bucket/data is not for you")
    page.find_element("css selector", "#sliders button[aria-label^='Next']").click()
    message = page.find_element("id", "message")
    until(message.is_displayed)
    until(lambda: "is not for you" in message.text)
    assert page.execute_script("return document.body.dataset.state") == "error"
    store.error = None
    page.find_element("id", "retry").click()
    settled(page)
    assert not message.is_displayed()


def test_only_visible_tiles_are_fetched_and_hidden_ones_are_abandoned(page: Any, store: Counted) -> None:
    limit(page)
    at_one_element_per_pixel(page, (900, 1400))
    width, height = size(page)
    most = (width // 256 + 2) * (height // 256 + 2)
    page.execute_script("performance.clearResourceTimings(); performance.setResourceTimingBufferSize(2000)")
    store.gate = asyncio.Event()  # from now on no chunk is returned
    page.execute_script("viewer.state.plane.at[0] = 2; document.getElementById('reverse').click()")
    until(lambda: store.waiting > 0)
    started = page.execute_script("return [...viewer.tiles.values()].filter((t) => t.status === 'loading').length")
    assert 0 < started <= most
    page.execute_script("viewer.state.centre = [100, 100]; document.getElementById('one').click()")
    near = "return [...viewer.tiles.values()].every((t) => t.status !== 'loading' || (t.row < 4 && t.column < 5))"
    until(lambda: page.execute_script(near))
    page.execute_script("viewer.state.info = null; document.getElementById('fit').click();"
                        "for (const t of viewer.tiles.values()) t.controller?.abort()")  # fmt: skip
    until(lambda: store.waiting == 0)  # the reads of abandoned tiles have ended


def test_the_figures_of_the_session_are_updated(page: Any) -> None:
    page.find_element("css selector", "#sliders button[aria-label^='Next']").click()
    settled(page)
    until(lambda: "tiles" in page.find_element("id", "figures").text)
    shown = page.find_element("id", "figures").text
    assert "in flight" in shown
    assert "chunks from the cache" in shown


def test_a_stopped_viewer_is_reported(driver: Any, store: Counted) -> None:
    with served(create_app(store)) as address:
        driver.get(address)
        settled(driver)
    driver.find_element("css selector", "#sliders button[aria-label^='Next']").click()
    until(lambda: "does not answer" in driver.find_element("id", "message").text)
    driver.get_log("browser")
    driver.get("about:blank")


def test_unusual_arrays_are_shown_or_reported(driver: Any) -> None:
    async def odd() -> Counted:
        store = await stored(np.array([["a", "b"]], object), "text", dtype=str)
        await stored(np.array(5.5), "single", store)
        await stored(np.arange(5000, dtype="i4"), "row", store)
        await stored(np.zeros((0, 4)), "empty", store)
        return await stored(np.full((5, 5), np.nan), "nothing", store)

    with served(create_app(asyncio.run(odd()), details=True)) as address:
        for path, words in (
            ("text", "cannot be drawn"),
            ("empty", "is empty"),
            ("single", ""),
            ("row", ""),
            ("nothing", ""),
        ):
            driver.get("about:blank")
            driver.get(f"{address}#path={path}")
            until(lambda path=path: state(driver)["path"] == path and driver.execute_script("return viewer.state.info"))
            settled(driver)
            assert words in driver.find_element("id", "notice").text
            assert not driver.find_element("id", "message").is_displayed(), path
        driver.get("about:blank")
        driver.get(f"{address}#path=absent")
        until(lambda: "absent" in driver.find_element("id", "message").text)
    driver.get("about:blank")
