"""leaderboard.html in a real browser: sorts, filters, shows every row, keeps quiet, and works without scripts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmark_fixtures import make_cell, save
from report_fixtures import fill_all, start_chromium
from s3prl_attention.benchmark import leaderboard
from s3prl_attention.benchmark.columns import COLUMNS
from s3prl_attention.benchmark.leaderboard import Written
from s3prl_attention.benchmark.report.tables import BRIEF

PHONE = {"width": 375, "height": 800, "deviceScaleFactor": 2, "mobile": True}
TABLE = "#table-1 table.leaderboard"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    driver = start_chromium()
    still = {"name": "prefers-reduced-motion", "value": "reduce"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [still]})
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    out = tmp_path_factory.mktemp("result")
    fill_all(out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaderboard, "picture", lambda rows: b"")  # takes seconds, and is not looked at
        return leaderboard.write(out, "python run_benchmark.py")


@pytest.fixture
def page(chromium: Any, written: Written) -> Iterator[Any]:
    """The browser with the page newly loaded, wide and light."""
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    load(chromium, written)
    yield chromium
    assert chromium.get_log("browser") == []  # whatever a test did: no error, no warning


def load(chromium: Any, written: Written) -> None:
    chromium.get_log("performance")
    chromium.get(written.html.as_uri())


def run(page: Any, script: str, *arguments: Any) -> Any:
    return page.execute_script(script, *arguments)


def press(page: Any, *keys: str) -> None:
    from selenium.webdriver import ActionChains

    for key in keys:
        ActionChains(page).send_keys(key).perform()


def names(page: Any, table: str = TABLE) -> list[str]:
    """Of the visible rows of the first such table."""
    script = """return [...document.querySelector(arguments[0]).tBodies[0].rows]
        .filter((row) => row.offsetHeight > 0).map((row) => row.dataset.name)"""
    return run(page, script, table)


def header(page: Any, title: str) -> Any:
    script = """return [...document.querySelectorAll(arguments[0] + ' th button')]
        .find((button) => button.textContent === arguments[1])"""
    return run(page, script, TABLE, title)


def test_every_row_is_shown_and_nothing_leaves_the_page(page: Any, written: Written):
    assert run(page, "return document.title") == "Leaderboard · s3prl-attention"
    script = "return [...document.querySelectorAll('tr[data-row]')].filter((row) => row.offsetHeight > 0).length"
    assert run(page, script) == len(written.rows) == 19
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert asked
    assert [url for url in asked if not url.startswith("data:") and url != written.html.as_uri()] == []
    assert run(page, "return [...document.images].every((image) => image.src.startsWith('data:image/'))")


def test_the_policy_forbids_what_a_page_could_ask_of_a_network(chromium: Any, written: Written):
    load(chromium, written)
    script = """const done = arguments[0];
        addEventListener('securitypolicyviolation', (event) => done(event.violatedDirective));
        document.body.append(Object.assign(document.createElement('img'), {src: 'https://example.invalid/x.png'}));"""
    assert chromium.execute_async_script(script) == "img-src"
    assert "Content Security Policy" in chromium.get_log("browser")[0]["message"]


def test_a_header_sorts_by_number_both_ways_with_the_unknown_last(page: Any):
    button = header(page, "train x")
    told = "return arguments[0].closest('th').getAttribute('aria-sort')"
    assert run(page, told, button) is None
    assert run(page, told, header(page, "score % (95 %)")) == "descending"  # as the page comes
    button.click()
    assert names(page) == ["no_attention", "fixed_init", "self_attention", "xbox", "mel", "routing"]
    assert run(page, told, button) == "ascending"
    assert run(page, told, header(page, "score % (95 %)")) is None
    button.click()
    assert names(page) == ["xbox", "self_attention", "fixed_init", "no_attention", "mel", "routing"]
    assert run(page, told, button) == "descending"
    header(page, "diff to self_attention").click()
    assert names(page) == ["no_attention", "xbox", "self_attention", "fixed_init", "mel", "routing"]  # -5, -2, 0, ...
    header(page, "upstream").click()
    assert names(page) == ["fixed_init", "mel", "no_attention", "routing", "self_attention", "xbox"]


def test_an_error_rate_is_sorted_from_the_lowest(page: Any):
    script = "return document.querySelector('#overview th:nth-child(3)').textContent"
    assert run(page, script) == "phone_recognition ↓"
    page.find_element("css selector", "#overview th:nth-child(3) button").click()
    assert names(page, "#overview table") == ["fixed_init", "self_attention", "xbox", "no_attention", "mel"]
    assert run(page, "return document.querySelector('#table-2 [aria-sort]').getAttribute('aria-sort')") == "ascending"


def test_the_filter_leaves_what_has_all_its_words(page: Any):
    page.find_element("id", "filter").send_keys("FIXED init")
    assert names(page) == ["fixed_init"]
    assert run(page, "return document.getElementById('shown').value") == "4 of 19 rows"
    shown = "return document.querySelector('.point:not(.out)').dataset.name"
    assert run(page, shown) == "fixed_init"
    press(page, "\ue003" * len("FIXED init"))  # backspace
    assert len(names(page)) == 6
    page.find_element("id", "filter").send_keys("log-mel")  # in no name
    assert names(page) == names(page, "#overview table") == ["mel"]


def test_only_what_cannot_be_told_from_the_best_and_all_columns(page: Any, written: Written):
    page.find_element("id", "top").click()
    best = [r.label for r in written.rows if r.downstream == "phone_linear" and r.ranks and r.ranks[0] == 1]
    assert names(page) == best
    width = (
        "return [...document.querySelectorAll(arguments[0] + ' thead th')].filter((th) => th.offsetWidth > 0).length"
    )
    assert run(page, width, TABLE) == sum(column.drop <= BRIEF for column in COLUMNS) + 2  # intervals, files
    page.find_element("id", "all").click()
    assert run(page, width, TABLE) == len(COLUMNS) + 2


def test_it_can_be_used_with_the_keyboard_alone(page: Any):
    from selenium.webdriver.common.keys import Keys

    press(page, Keys.TAB)
    focus = "return document.activeElement.className || document.activeElement.id || document.activeElement.tagName"
    assert run(page, focus) == "skip"
    assert run(page, "return document.activeElement.getBoundingClientRect().top >= 0")
    assert run(page, "return getComputedStyle(document.activeElement).outlineStyle") != "none"
    press(page, Keys.ENTER)
    assert run(page, focus) == "main"
    press(page, Keys.TAB)
    assert run(page, focus) == "filter"
    button = header(page, "infer x")
    run(page, "arguments[0].focus()", button)
    assert run(page, "return getComputedStyle(arguments[0]).outlineStyle", button) == "solid"
    press(page, Keys.ENTER)
    assert names(page)[0] == "no_attention"
    press(page, Keys.SPACE)
    assert names(page)[0] == "xbox"


def test_a_picture_is_one_stop_and_arrows_tell_each_point(page: Any):
    from selenium.webdriver.common.keys import Keys

    assert run(page, "return document.querySelectorAll('.scatter > svg').length") == 6
    assert run(page, "return document.querySelectorAll('.point[tabindex=\"0\"]').length") == 6
    run(page, "document.querySelector('.scatter .point[tabindex=\"0\"]').focus()")
    seen = []
    for key in (Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.END, Keys.HOME):
        seen.append(run(page, "return document.querySelector('#tip b').textContent"))
        press(page, key)
    assert seen == ["no_attention", "fixed_init", "self_attention", "xbox"]  # from the fastest on
    told = run(page, "return document.getElementById('tip').innerText")
    assert "no_attention\n45.0 (" in told
    assert "s of pre-training\n" in told
    assert run(page, "return document.querySelector('tr.lit').dataset.name") == "no_attention"
    assert run(page, "return document.activeElement.getAttribute('aria-label').startsWith('no_attention: 45.0 (')")


def test_a_name_in_the_legend_lights_its_curve_and_keeps_it(page: Any):
    lit = "return [...new Set([...document.querySelectorAll('#curves .lit')].map((item) => item.dataset.name))]"
    button = page.find_element("css selector", "#curves .legend li[data-name=xbox] button")
    run(page, "arguments[0].scrollIntoView({behavior: 'instant', block: 'center'})", button)
    button.click()
    run(page, "arguments[0].blur()", button)
    assert run(page, lit) == ["xbox"]
    assert button.get_attribute("aria-pressed") == "true"
    run(page, "arguments[0].click()", button)
    assert button.get_attribute("aria-pressed") == "false"


@pytest.mark.parametrize("scripts", [True, False])
def test_a_phone_needs_no_sideways_scrolling_of_the_page(chromium: Any, written: Written, scripts: bool):
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
    try:
        load(chromium, written)
        run(chromium, "document.querySelectorAll('details').forEach((item) => { item.open = true; })")
        if scripts:
            chromium.find_element("id", "all").click()
        assert run(chromium, "return [innerWidth, document.documentElement.scrollWidth]") == [375, 375]
    finally:
        chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
        chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_without_scripts_it_is_plain_tables_with_all_rows_and_columns(chromium: Any, written: Written):
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        load(chromium, written)
        count = "return [...document.querySelectorAll(arguments[0])].filter((item) => item.offsetHeight > 0).length"
        assert run(chromium, count, "tr[data-row]") == 19
        assert run(chromium, count, ".controls, .tip, th button") == 0
        assert run(chromium, count, f"{TABLE} .more") > 0
        assert run(chromium, "return document.querySelectorAll('.point title').length") == 24
    finally:
        chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_it_is_light_or_dark_as_the_reader_likes(chromium: Any, written: Written):
    brightness = (
        "return getComputedStyle(document.body)[arguments[0]].match(/\\d+/g).reduce((a, b) => a + Number(b), 0)"
    )
    seen = {}
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        load(chromium, written)
        seen[scheme] = [run(chromium, brightness, name) for name in ("backgroundColor", "color")]
    assert seen["light"][0] > 700 > 150 > seen["light"][1]
    assert seen["dark"][0] < 150 < 600 < seen["dark"][1]


def test_what_people_call_things_is_shown_and_never_run(chromium: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(leaderboard, "picture", lambda rows: b"")
    name = "<img src=x onerror=\"document.title='run'\">&`*"
    save(tmp_path, make_cell(cell__upstream=name, data__note="</script><script>document.title='run'</script>"))
    load(chromium, leaderboard.write(tmp_path, "python '<b>' \u202eesrever"))
    assert names(chromium) == [name]
    assert run(chromium, "return document.title") == "Leaderboard · s3prl-attention"
    assert run(chromium, "return document.images.length") == 0
    assert "</script><script>" in run(chromium, "return document.querySelector('.data-note').textContent")
    assert run(chromium, "return document.querySelector('.command code').textContent") == "python '<b>' esrever\n"
    assert chromium.get_log("browser") == []
