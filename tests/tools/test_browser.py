"""The browser of the pages' tests sees what goes wrong, and does what a reader would do."""

import contextlib
import os
import signal
import socket

import psutil
import pytest
from support.browser import Browser, find_chromium
from support.devtools import BrowserError
from support.tools import wait_until

FOREIGN = "http://foreign.example"
FETCHES = {
    "icon": "<link rel=icon href={}>",  # counts in the head only, and so is the first
    "picture": "<img src={}>",
    "drawing": "<svg><image href={} width=9 height=9 /></svg>",
    "script": "<script src={}></script>",
    "style": "<link rel=stylesheet href={}>",
    "import": "<style>@import '{}';</style>",
    "font": "<style>@font-face {{font-family: x; src: url({})}}</style><b style='font: 9px x'>x",
    "frame": "<iframe src={}></iframe>",
    "within-a-frame": "<iframe srcdoc='<img src={}>'></iframe>",
    "fetch": "<script>fetch('{}').catch(() => 0)</script>",
    "beacon": "<script>navigator.sendBeacon('{}')</script>",
    "worker": "<script>new Worker(URL.createObjectURL(new Blob([`fetch('{}')`])))</script>",
}
DOT = "data:image/gif;base64,R0lGODdhAQABAIAAAP///////ywAAAAAAQABAAACAkQBADs="
MISTAKES = {
    "console.error('no', 7, {a: 1})": "console error: no 7 Object",
    "console.warn('hm')": "console warning: hm",
    "console.assert(1 > 2, 'order')": "console assert: order",
    "throw new TypeError('oh')": "exception: TypeError: oh\n    at file:///",
    "throw 'a word'": "exception: a word",
    "setTimeout(() => nobody.knows())": "exception: ReferenceError: nobody is not defined",
    "Promise.reject(new Error('late'))": "exception: Error: late",
    "let let = 1": "exception: SyntaxError: let is disallowed",
    "document.body.append(Object.assign(new Image(), {src: 'no.png'}))": (
        "console error: Failed to load resource: net::ERR_FILE_NOT_FOUND (file:///"
    ),
}
INPUT = """
<style>body {margin: 0} #pad {width: 200px; height: 100px} #pad:hover {color: red}</style>
<div id=pad>here</div>
<input id=first><input id=second>
<script>
  const seen = [];
  for (const kind of ["mousedown", "mousemove", "mouseup", "click", "dblclick"])
    pad.addEventListener(kind, (event) => seen.push(
      [kind, event.clientX, event.clientY, event.buttons, event.isTrusted]));
  addEventListener("keydown", (event) => seen.push([event.key, event.shiftKey, event.isTrusted]));
</script>
"""


@pytest.fixture
def opened(browser, tmp_path):
    """A function that opens a page of this body; the page may look as its arguments say."""
    with contextlib.ExitStack() as pages:

        def open_page(body, **how):
            path = tmp_path / "page.html"
            path.write_text(f"<!doctype html><title>page</title>{body}", encoding="utf-8")
            page = pages.enter_context(browser.page(**how))
            page.open(path)
            return page

        yield open_page


@pytest.fixture
def pixels(tmp_path):
    """A function that makes a picture of a page, and returns its pixels."""
    image = pytest.importorskip("PIL.Image", reason="the dev extra brings pillow")

    def take(page, **options):
        page.picture(tmp_path / "page.png", **options)
        with image.open(tmp_path / "page.png") as picture:
            return picture.convert("RGB")

    return take


# --- what goes wrong ----------------------------------------------------------------------------


def test_a_page_without_a_fault_has_no_problems(opened):
    script = "console.log('a'); console.info('b'); fetch(URL.createObjectURL(new Blob(['x'])))"
    page = opened(f"<p>text<img src='{DOT}'><script>{script}</script>")
    assert page.evaluate("document.images[0].naturalWidth") == 1
    assert page.problems() == []


def test_what_a_script_does_wrong_is_seen(opened):
    page = opened("<body>" + "".join(f"<script>{script}</script>" for script in MISTAKES))
    wait_until(lambda: len(page.problems()) >= len(MISTAKES), "all problems")
    problems = page.problems()
    assert len(problems) == len(MISTAKES)
    for mistake in MISTAKES.values():
        assert any(each.startswith(mistake) for each in problems), (mistake, problems)


def test_what_goes_wrong_later_is_seen(opened):
    page = opened("")
    page.evaluate("void setTimeout(() => console.error('late'), 100)")
    wait_until(page.problems, "the problem")
    assert page.problems() == ["console error: late"]


def test_a_request_to_another_host_is_seen(opened):
    page = opened("".join(way.format(f"{FOREIGN}/{name}") for name, way in FETCHES.items()))
    page.evaluate("void new WebSocket('ws://foreign.example/')")
    for url in (*(f"{FOREIGN}/{name}" for name in FETCHES), "ws://foreign.example/"):
        wait_until(lambda url=url: f"request: {url}" in page.problems(), url)


def test_a_link_to_another_host_is_seen_when_it_is_followed(opened):
    page = opened(f"<a href={FOREIGN}/>elsewhere</a>")
    assert page.problems() == []
    page.click("a")
    wait_until(lambda: f"request: {FOREIGN}/" in page.problems(), "the request")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_not_even_this_machine_is_reached(opened, host):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        url = f"http://{host}:{server.getsockname()[1]}/"
        page = opened("")
        with pytest.raises(BrowserError, match="Failed to fetch"):
            page.evaluate(f"fetch('{url}', {{mode: 'no-cors'}})", limit_s=20)
        assert f"request: {url}" in page.problems()
        with pytest.raises(BlockingIOError):
            server.accept()


# --- what a reader does -------------------------------------------------------------------------


def test_a_click_arrives_where_it_is_aimed_at(opened):
    page = opened(INPUT)
    page.click("#pad", at=(0.25, 0.1))
    assert page.evaluate("seen") == [
        ["mousemove", 50, 10, 0, True],
        ["mousedown", 50, 10, 1, True],
        ["mouseup", 50, 10, 0, True],
        ["click", 50, 10, 0, True],
    ]
    page.click("#pad", times=2)
    assert page.evaluate("seen.at(-1)") == ["dblclick", 100, 50, 0, True]


def test_what_lies_far_below_is_scrolled_to_and_clicked(opened):
    page = opened("<p style='height: 9000px'>high<details><summary>more</summary>text</details>")
    page.click("summary")
    assert page.evaluate("document.querySelector('details').open") is True


def test_a_drag_arrives_with_its_button_held(opened):
    page = opened(INPUT)
    page.drag("#pad", (0.25, 0.5), (0.75, 0.8), steps=2)
    assert page.evaluate("seen") == [
        ["mousemove", 50, 50, 0, True],
        ["mousedown", 50, 50, 1, True],
        ["mousemove", 100, 65, 1, True],
        ["mousemove", 150, 80, 1, True],
        ["mouseup", 150, 80, 0, True],
        ["click", 150, 80, 0, True],
    ]


def test_the_mouse_hovers(opened):
    page = opened(INPUT)
    colour = "getComputedStyle(pad).color"
    assert page.evaluate(colour) == "rgb(0, 0, 0)"
    page.hover("#pad")
    assert page.evaluate(colour) == "rgb(255, 0, 0)"


def test_keys_arrive_and_do_what_they_do(opened):
    page = opened(INPUT)
    keys = ["Tab", "h", "I", "Tab", "+", "Shift+Tab", "ArrowLeft", " ", "Escape"]
    for key in keys:
        page.press(key)
    assert page.evaluate("[first.value, second.value, document.activeElement.id]") == [
        " hI",
        "+",
        "first",
    ]
    seen = page.evaluate("seen")
    assert [key for key, *_ in seen] == [each.removeprefix("Shift+") for each in keys]
    assert [shift for _, shift, _ in seen] == [each.startswith("Shift") for each in keys]
    assert all(trusted for *_, trusted in seen)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("", "#it is not on the page"),
        ("<p id=it hidden>text", "#it has no size"),
        ("<p id=it style='position: fixed; top: -99px'>text", "#it is out of sight"),
        (
            "<p id=it>text<div id=veil style='position: fixed; inset: 0'></div>",
            '#it is covered by <div id="veil"',
        ),
    ],
)
def test_what_no_reader_can_click_is_not_clicked(opened, body, problem):
    page = opened(body)
    with pytest.raises(BrowserError, match=problem):
        page.click("#it")


def test_a_key_that_is_not_there_is_refused(opened):
    with pytest.raises(BrowserError, match="there is no key Return; there are Backspace, Tab"):
        opened("").press("Return")


# --- what a reader has --------------------------------------------------------------------------


def test_a_picture_shows_the_whole_page(opened, pixels):
    body = "<body style='margin: 0'><div style='height: 500px'></div><div id=low></div>"
    style = "<style>#low {height: 100px; background: #00f}</style>"
    page = opened(body + style, width=300, height=200, scale=2)
    whole = pixels(page)
    assert whole.size == (600, 1200)
    assert whole.getpixel((300, 990)) == (255, 255, 255)
    assert whole.getpixel((300, 1010)) == (0, 0, 255)
    assert pixels(page, full_page=False).size == (600, 400)


def test_text_is_drawn_in_letters(opened, pixels):
    drawn = [pixels(opened(f"<p style='font: 40px sans-serif'>{letter}")) for letter in "AB"]
    assert all(min(each.convert("L").getextrema()) < 50 for each in drawn)
    assert drawn[0].tobytes() != drawn[1].tobytes()


def test_dark_and_light_are_what_the_reader_prefers(opened, pixels):
    style = ":root {color-scheme: light dark} p {color: light-dark(#123456, #abcdef)}"
    page = opened(f"<style>{style}</style><p>text", scheme="dark")
    colour = "getComputedStyle(document.querySelector('p')).color"
    assert page.evaluate(colour) == "rgb(171, 205, 239)"
    assert max(pixels(page).getpixel((5, 5))) < 50
    page.prefer("light")
    assert page.evaluate(colour) == "rgb(18, 52, 86)"
    assert pixels(page).getpixel((5, 5)) == (255, 255, 255)


def test_the_view_is_as_large_as_asked_for(opened):
    view = "[innerWidth, innerHeight, devicePixelRatio]"
    page = opened("", width=390, height=844, scale=3)
    assert page.evaluate(view) == [390, 844, 3]
    page.resize(1000, 700)
    assert page.evaluate(view) == [1000, 700, 1]


def test_a_phone_makes_the_view_wide_unless_the_page_forbids_it(opened):
    phone = {"width": 390, "height": 844, "phone": True}
    meta = "<meta name=viewport content='width=device-width'>"
    assert [opened(each, **phone).evaluate("innerWidth") for each in ("", meta)] == [980, 390]


def test_without_scripts_a_page_is_what_it_is_without_them(opened):
    body = "<noscript>none</noscript><p>text<details><summary>more</summary>text</details>"
    script = "<script>document.querySelector('p').textContent = 'scripted'</script>"
    shown = "document.body.innerText.split('\\n')[0]"
    assert opened(body + script).evaluate(shown) == "scripted"
    page = opened(body + script, scripts=False)
    assert page.evaluate(shown) == "none"
    page.click("summary")
    assert page.evaluate("document.querySelector('details').open") is True


# --- values, limits and the end -----------------------------------------------------------------


def test_values_come_as_they_are(opened):
    page = opened("")
    value = "{a: [1, 2.5, 'ü', null, true], b: 'x'.repeat(3e6)}"
    assert page.evaluate(f"({value})") == {"a": [1, 2.5, "ü", None, True], "b": "x" * 3_000_000}
    assert page.evaluate(f"'{'y' * 3_000_000}'.length") == 3_000_000
    assert page.evaluate("Promise.resolve(7)") == 7
    assert page.evaluate("undefined") is None


def test_an_expression_without_a_value_raises(opened):
    page = opened("")
    for expression, problem in {
        "nobody.knows": "ReferenceError: nobody is not defined",
        "Promise.reject('a word')": "a word",
        "1 +": "SyntaxError",
        "0 / 0": "0 / 0 is NaN: no value of JSON",
    }.items():
        with pytest.raises(BrowserError, match=problem):
            page.evaluate(expression)
    assert page.problems() == []


def test_a_wait_says_what_it_waited_for(opened):
    page = opened("")
    with pytest.raises(BrowserError, match=r"waited 0\.1 s for the value of new Promise"):
        page.evaluate("new Promise(() => 0)", limit_s=0.1)
    assert page.evaluate("7") == 7


def test_a_file_that_is_not_there_is_an_error(browser, tmp_path):
    with browser.page() as page, pytest.raises(BrowserError, match=r"none\.html: net::ERR_FILE"):
        page.open(tmp_path / "none.html")


def test_a_page_that_crashes_is_no_long_wait(opened):
    page = opened("")
    with pytest.raises(BrowserError, match="the page has crashed"):
        page.command("Page.crash")


def test_a_browser_that_does_not_start_says_why(tmp_path):
    program = tmp_path / "chromium"
    program.write_text("#!/bin/sh\necho no luck >&2\nexit 1\n", encoding="utf-8")
    program.chmod(0o700)
    with pytest.raises(BrowserError, match="the browser has ended: no luck"), Browser(program):
        pass


def of(browser):
    """The processes that were started with the browser's directory."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(browser.directory) in each for each in process.info["cmdline"] or ()):
            found.append(process)
    return found


def interrupt(*arguments, **more):
    raise KeyboardInterrupt


@pytest.mark.parametrize("ended", ["asked", "killed", "stopped", "interrupted"])
def test_nothing_of_a_browser_is_left(browser, monkeypatch, ended):
    with contextlib.suppress(KeyboardInterrupt), Browser(find_chromium()) as other:
        other.page()
        assert len(of(other)) > 2
        if ended == "killed":
            other.process.kill()
            with pytest.raises(BrowserError, match="the browser has ended"):
                other.page()
        if ended == "stopped":
            monkeypatch.setattr("support.browser.END_S", 1.0)
            os.killpg(other.process.pid, signal.SIGSTOP)
        if ended == "interrupted":
            monkeypatch.setattr(other.tools, "command", interrupt)
    assert of(other) == []
    assert not other.directory.exists()
    assert of(browser)
