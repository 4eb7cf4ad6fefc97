"""What a person sees of the page: every panel drawn, in light and dark, on a phone and on a screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .browser import Browser, chromium
from .conftest import SamplePrometheus, arguments, drawn

SIZES = {"phone": (390, 844), "screen": (1440, 900)}

PANELS = """Array.from(document.querySelectorAll('.panel'), panel => ({
  title: panel.closest('section').id + ': ' + panel.querySelector('h3').textContent,
  state: panel.dataset.state,
  inked: Array.from(panel.querySelectorAll('canvas'), canvas => {
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    let found = 0;
    for (let index = 3; index < data.length; index += 4) found += data[index] > 0;
    return found;
  }).reduce((sum, one) => sum + one, 0),
  values: Array.from(panel.querySelectorAll('.legend span, .values b'), each => each.textContent),
  text: panel.innerText,
}))"""

# What stands out of the window to the right, where a person would have to look for it.
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"

FORMATS = {
    ("s", 0.00042): "420 µs",
    ("s", 0.25): "250 ms",
    ("s", 59.5): "59.5 s",
    ("s", 5400): "1.5 h",
    ("s", 1814400): "21 d",
    ("percentunit", 0.8): "80 %",
    ("percentunit", 0.999996): "99.999 %",
    ("percentunit", 0.0012): "0.12 %",
    ("bytes", 0): "0 B",
    ("bytes", 1610612736): "1.5 GiB",
    ("Bps", 2048): "2 KiB/s",
    ("reqps", 1234): "1.23 k req/s",
    ("ops", 0.5): "0.5 /s",
    ("short", 3): "3",
    ("none", 12500): "12.5 k",
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, library: Path) -> Path:
    folder = tmp_path_factory.mktemp("page")
    drawn(arguments(folder, library=str(library)), SamplePrometheus(silent=("Volumes used",)))
    return folder / "dashboards.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_every_panel_with_data_is_drawn(browser: Browser, page: Path, size: str, scheme: str) -> None:
    browser.open(page, *SIZES[size], scheme)
    panels = browser.value(PANELS)
    assert browser.errors == []
    # The page itself and its icon, which is in it.
    assert [url for url in browser.requests if not url.startswith(("file:", "data:"))] == []
    states = {panel["title"]: panel["state"] for panel in panels}
    assert len(states) == len(panels) > 70
    assert {title for title, state in states.items() if state == "empty"} == {"cluster-capacity: Volumes used"}
    assert {title for title, state in states.items() if state == "elsewhere"} == {
        "request-statistics: Executions in the log",
        "request-statistics: Errors in the log",
    }
    for panel in panels:
        if panel["state"] == "drawn":
            assert panel["inked"] > 200 and panel["values"], panel["title"]
            assert not {"", "–", "NaN"} & set(panel["values"]), panel["title"]
        else:
            assert panel["inked"] == 0 and ("No data" in panel["text"] or "Grafana" in panel["text"])
    assert browser.value(WIDER) <= 0


def test_the_theme_can_change_while_it_is_open(browser: Browser, page: Path) -> None:
    browser.open(page, *SIZES["screen"], "light")
    first = browser.value("document.querySelector('.lines canvas').toDataURL()")
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert browser.value("document.querySelector('.lines canvas').toDataURL()") != first


def test_limits_are_drawn_and_judged(browser: Browser, page: Path) -> None:
    browser.open(page, *SIZES["screen"], "light")
    panels = {panel["title"]: panel for panel in browser.value(PANELS)}
    assert "limit\n80 %" in panels["runtime-performance: Places used"]["text"]
    assert any(word in panels["postgresql: Primaries"]["text"] for word in ("good", "wrong"))


def test_numbers_are_read_as_people_read_them(browser: Browser, page: Path) -> None:
    browser.open(page, *SIZES["screen"], "light")
    for (unit, number), text in FORMATS.items():
        assert browser.value(f"dashboards.format({unit!r}, {number})") == text
    assert browser.value("dashboards.format('s', null)") == "–"


def test_text_that_looks_like_a_tag_is_text(browser: Browser, tmp_path: Path, library: Path) -> None:
    prometheus = SamplePrometheus()
    answer = prometheus.answer

    def hostile(query: dict) -> list[dict]:
        for one in (result := answer(query)):
            one["metric"] = dict.fromkeys(one["metric"], "</script><img src=x onerror=dashboards.hit=1>")
        return result

    prometheus.answer = hostile  # type: ignore[method-assign]
    drawn(arguments(tmp_path, library=str(library)), prometheus)
    browser.open(tmp_path / "dashboards.html", *SIZES["screen"], "light")
    assert browser.value("document.querySelectorAll('img').length") == 0
    assert browser.value("dashboards.hit") is None
    assert "<img" in browser.value("document.querySelector('.legend').innerText")
