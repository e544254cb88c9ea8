"""Drives the real pages in Chromium as a person would.

usage: pages.py LOGIN_LINK PICTURES_FOLDER API_TOKEN GATES_FOLDER

The task of the DAG `gated` prints one step after another and waits for a file in GATES_FOLDER between them.

Prints one line of JSON with the counts at the end; any failed expectation ends it with a traceback.
"""

import json
import pathlib
import sys
import tempfile
import urllib.request

from axe_core_python.selenium import Axe
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

login_link, pictures = sys.argv[1], pathlib.Path(sys.argv[2])
token, gates = sys.argv[3], pathlib.Path(sys.argv[4])
base = login_link.split("/login")[0]
pictures.mkdir(parents=True, exist_ok=True)

options = webdriver.ChromeOptions()
options.binary_location = "/usr/bin/chromium"
for flag in [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", f"--user-data-dir={tempfile.mkdtemp()}", "--window-size=1440,900",
]:
    options.add_argument(flag)
options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
driver.set_script_timeout(60)
# What is asked of a page while it is exchanged for another is asked again: besides "stale" and "no such element" the
# driver has other words for it ("Node with given id does not belong to the document"), so every error of it is passed
# over, and the last one is told when the time is up.
wait = WebDriverWait(driver, 30, ignored_exceptions=[WebDriverException])
WIDTHS = (375, 768, 1440)
counts = {
    "pages": 0, "console_messages": 0, "csp_violations": 0, "problems": 0, "pictures": 0, "widths": 0,
    "live_updates": 0, "panels": 0, "zones": 0,
}


# What is wrong with a look, collected so that one run shows all of it.
problems = []


def console():
    """Fails on anything that the browser complained about since the last look."""
    for entry in driver.get_log("browser"):
        if entry["level"] in ("SEVERE", "WARNING"):
            counts["console_messages"] += 1
            if "Content Security Policy" in entry["message"]:
                counts["csp_violations"] += 1
            raise AssertionError(f"{driver.current_url}: {entry}")


def look(name):
    """Takes the page as a picture, checks accessibility, console and that nothing overflows."""
    counts["pages"] += 1
    found = Axe().run(driver)["violations"]
    serious = [v for v in found if v["impact"] in ("serious", "critical")]
    for violation in serious:
        targets = [node["target"] for node in violation["nodes"]][:3]
        problems.append(f"{name} {driver.current_url}: {violation['id']} at {targets}")
    for width in WIDTHS:
        # The window of a desktop browser cannot be that narrow; the device that it stands for can.
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        shown, over = driver.execute_script(
            "const page = document.documentElement; return [innerWidth, page.scrollWidth - page.clientWidth]")
        assert shown == width, (shown, width)
        if over > 0:
            problems.append(f"{name} {driver.current_url} is {over} px too wide at {width} px")
        driver.save_screenshot(str(pictures / f"{name}-{width}.png"))
        counts["widths"] += 1
        counts["pictures"] += 1
    console()


def press(how, what):
    """Clicks what is there by then; an element that a live page has just exchanged is looked up anew."""
    def is_pressed(d):
        element = d.find_element(how, what)
        d.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()
        return True
    wait.until(is_pressed, f"{what!r} on {driver.current_url}")


def click(selector):
    press(By.CSS_SELECTOR, selector)


def link(text):
    press(By.LINK_TEXT, text)


def until_text(text):
    wait.until(lambda d: text in d.find_element(By.TAG_NAME, "body").text, f"{text!r} on {driver.current_url}")


def text_of(selector):
    # A list, because an empty text is an answer too.
    return wait.until(lambda d: [d.find_element(By.CSS_SELECTOR, selector).text], selector)[0]


def api(method, path, body):
    request = urllib.request.Request(f"{base}/api/v1{path}", json.dumps(body).encode(), method=method)
    request.add_header("authorization", f"Bearer {token}")
    request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.loads(reply.read() or b"null")


def mark():
    """Leaves a mark on the document that a reload would wipe off."""
    driver.execute_script("window.isSame = true")


def assert_not_loaded_again():
    assert driver.execute_script("return window.isSame === true"), f"{driver.current_url} was loaded again"
    counts["live_updates"] += 1


def background():
    return driver.execute_script("return getComputedStyle(document.documentElement).backgroundColor")


def tour(theme):
    """Home, DAGs, one DAG, its graph, a run, a task, its log."""
    driver.get(base + "/")
    look(f"home-{theme}")
    link("DAGs")
    until_text("branching")
    until_text("broken.toml")
    look(f"dags-{theme}")
    link("branching")
    look(f"grid-{theme}")
    # A cell opens a panel beside the grid, and its address is that of the page with the panel.
    mark()
    click("tr[data-task='left'] td.k:last-child .c")
    wait.until(lambda d: "hello from left" in d.find_element(By.CSS_SELECTOR, "#side .log").text)
    assert driver.find_element(By.CSS_SELECTOR, "tr[data-task='left'] .c.on")
    assert "task_id=left" in driver.current_url and driver.execute_script("return window.isSame")
    counts["panels"] += 1
    look(f"panel-{theme}")
    driver.refresh()
    wait.until(lambda d: "hello from left" in d.find_element(By.CSS_SELECTOR, "#side .log").text)
    click("#side [data-close]")
    wait.until(lambda d: not d.find_elements(By.CSS_SELECTOR, "#side"))
    assert "task_id" not in driver.current_url
    for tab, words in (
        ("calendar", "days in UTC"), ("gantt", "Critical path"), ("durations", "median"), ("code", "branching.toml"),
        ("audit", "run.trigger"),
    ):
        click(f".tabs a[href$='/{tab}']")
        until_text(words)
        look(f"{tab}-{theme}")
    link("Graph")
    wait.until(lambda d: d.find_element(By.CSS_SELECTOR, ".graph svg"))
    taken = driver.find_elements(By.CSS_SELECTOR, ".graph .taken")
    not_taken = driver.find_elements(By.CSS_SELECTOR, ".graph .not-taken")
    assert taken and not_taken, "the branch taken and not taken do not differ"
    look(f"graph-{theme}")
    click(".panel header a[href*='/runs/']")
    until_text("Task instances")
    look(f"run-{theme}")
    link("left")
    until_text("Log of try 1")
    until_text("hello from left")
    look(f"task-{theme}")


def open_streams():
    return driver.execute_script("return window.streams.filter(stream => stream.readyState !== 2).length")


def width_of_drawing():
    return driver.execute_script("return document.querySelector('.graph > svg').getBoundingClientRect().width")


# Every stream that a page opens is remembered, so that it can be counted.
driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": """
    window.streams = [];
    const Own = EventSource;
    window.EventSource = class extends Own { constructor(...of) { super(...of); window.streams.push(this); } };
"""})
driver.get(login_link)
look("login")
click("button.primary")
wait.until(lambda d: "/login" not in d.current_url)
# The link works once.
first = driver.get_cookies()
assert any(c["httpOnly"] for c in first), first
driver.get(base + "/")
before = background()
tour("first")
for _ in range(3):
    if background() == before:
        mark()
        click("form[action='/theme'] button")
        wait.until(lambda d: d.execute_script("return !window.isSame && document.readyState === 'complete'"))
assert background() != before, "the theme switch changes nothing"
tour("second")

# The switch of the zone: UTC, that of the DAG, that of the browser, which is far from both.
driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Kolkata"})
driver.get(base + "/dags/zoned/runs")
for shown in ("UTC", "CET", "GMT+5:30"):
    wait.until(lambda d: shown in d.find_element(By.CSS_SELECTOR, "tbody time[data-abs]").text, shown)
    counts["zones"] += 1
    mark()
    click("form[action='/zone'] button")
    wait.until(lambda d: d.execute_script("return !window.isSame && document.readyState === 'complete'"))
assert "UTC" in text_of("tbody time[data-abs]"), "three presses lead around"
console()

# Trigger with params: a wrong value is refused beside its field, a right one starts a run that ends.
driver.get(base + "/dags/branching/trigger")
look("trigger")
field = driver.find_element(By.ID, "f-param.count")
field.clear()
field.send_keys("3")
Select(driver.find_element(By.ID, "f-param.side")).select_by_visible_text("right")
click("main button.primary")
until_text("Task instances")
# The page follows the run to its end by itself.
wait.until(lambda d: "success" in d.find_element(By.CSS_SELECTOR, ".head").text)
console()
link("right")
until_text("hello from right 3")

# Pause and unpause.
driver.get(base + "/dags?q=branching")
assert driver.find_element(By.CSS_SELECTOR, "button.switch").get_attribute("aria-pressed") == "true"
click("button.switch")
wait.until(lambda d: d.find_element(By.CSS_SELECTOR, "button.switch").get_attribute("aria-pressed") == "false")
click("button.switch")
wait.until(lambda d: d.find_element(By.CSS_SELECTOR, "button.switch").get_attribute("aria-pressed") == "true")
console()

# Pages that are open follow what happens elsewhere, without being loaded again.
driver.get(base + "/dags/gated/runs")
until_text("No runs here")
mark()
run = api("POST", "/dags/gated/runs", {"conf": {}})["run_id"]
until_text(run)
assert_not_loaded_again()
driver.get(f"{base}/dags/gated/runs/{run}")
until_text("scheduled")
link("step")
until_text("Waits for a slot, a limit or a worker")
until_text("Why it is not running")
until_text("gate")
look("waiting")
# Its pool comes into being; with the try comes its log, which then grows with what the task writes.
api("PUT", "/pools/gate", {"slots": 1, "description": "opened by a test"})
until_text("Log of try 1")
until_text("step 1 of 3")
mark()
assert "step 2 of 3" not in text_of(".log")
# The try says the same as its task instance.
wait.until(lambda d: d.find_element(By.CSS_SELECTOR, "tr.at .state").text == "running")
assert text_of(".head .badge") == "running"
look("running")
# The log and what changes beside it come by one stream.
wait.until(lambda d: open_streams() == 1)
for step in (1, 2):
    (gates / str(step)).touch()
    until_text(f"step {step + 1} of 3")
    assert_not_loaded_again()
(gates / "3").touch()
until_text("no line ends this")
wait.until(lambda d: "success" in d.find_element(By.CSS_SELECTOR, ".head").text)
assert_not_loaded_again()
shown = text_of(".log")
assert shown.count("step 2 of 3") == 1 and shown.count("no line ends this") == 1, shown
# Searching marks lines; the URL of the whole log gives its bytes.
search = driver.find_element(By.ID, "log-search")
search.send_keys("step 2")
wait.until(lambda d: d.find_element(By.ID, "log-found").text == "1 line")
console()

# A drawing that was zoomed stays so while the page follows what happens.
driver.get(base + "/dags/branching/graph")
natural = width_of_drawing()
for _ in range(2):
    click("[data-zoom='in']")
zoomed = width_of_drawing()
assert zoomed > natural * 1.5, (natural, zoomed)
mark()
run = api("POST", "/dags/branching/runs", {"conf": {}})["run_id"]
until_text(run)
wait.until(lambda d: "success" in d.find_element(By.CSS_SELECTOR, ".panel header").text)
assert_not_loaded_again()
assert width_of_drawing() == zoomed, (width_of_drawing(), zoomed)
assert len([b for b in driver.find_elements(By.CSS_SELECTOR, "[data-zoom]") if b.is_displayed()]) == 3
click("[data-zoom='out']")
assert natural < width_of_drawing() < zoomed
console()

# More tabs than the six connections that a browser has to a server: a tab that nobody looks at has no stream, and one
# that is looked at again catches up.
first = driver.current_window_handle
wait.until(lambda d: open_streams() == 1)
assert driver.execute_script("return window.streams.length") == 1
for _ in range(8):
    driver.switch_to.new_window("tab")
    driver.get(base + "/dags")
    until_text("branching")
run = api("POST", "/dags/branching/runs", {"conf": {}})["run_id"]
for handle in driver.window_handles:
    if handle != first:
        driver.switch_to.window(handle)
        driver.close()
driver.switch_to.window(first)
until_text(run)
assert_not_loaded_again()
wait.until(lambda d: open_streams() == 1)
assert driver.execute_script("return window.streams[0].readyState") == 2, "it had a stream while nobody looked"
console()

# A page that somebody reads is told of a failure where it looks first.
driver.get(base + "/")
mark()
api("POST", "/dags/failing/runs", {"conf": {}})
until_text("the last run of failing failed")
until_text("task boom failed: exited with code 3")
assert_not_loaded_again()
look("home-failed")

for page in ("runs", "pools", "workers", "audit", "settings"):
    driver.get(f"{base}/{page}")
    look(page)

driver.quit()
counts["problems"] = len(problems)
assert not problems, "\n".join(problems)
print(json.dumps({"id": "browser", **counts}))
