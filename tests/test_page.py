"""The report in a real browser: it loads without a complaint, folds, filters, and fits a phone."""

import json
import re
import shutil
import subprocess

import pytest
from synthetic import fill

from benchmark.judging import aggregates
from benchmark.records.store import Store
from benchmark.report import page as report

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium to show the page in: apt-get install chromium")
PROBE = """
<script>
window.addEventListener("load", () => {
  const told = {complaints, wide: document.documentElement.scrollWidth, port: window.innerWidth, steps: []};
  told.high = document.documentElement.scrollHeight;
  const seen = (selector) => [...document.querySelectorAll(selector)].filter((e) => e.checkVisibility()).length;
  const count = () => ({left: document.querySelectorAll("article:not([hidden])").length, articles: seen("article"),
    bar: seen("#filter")});
  told.steps.push(["start", count()]);
  for (const name of ["reproduced", "incomplete", "all"]) {
    document.querySelector(`#filter [data-show="${name}"]`).click();
    const odd = [...document.querySelectorAll("article")].filter((e) => e.checkVisibility())
      .filter((e) => name !== "all" && !e.querySelector(`.badge.${name}`)).map((e) => e.id);
    told.steps.push([name, count(), odd]);
  }
  document.querySelector('#filter [data-show="contradicted"], #filter [data-show="incomplete"]').click();
  const hidden = document.querySelector("article[hidden]");
  if (hidden) location.hash = hidden.id;
  setTimeout(() => {
    told.steps.push(["link", count()]);
    const linked = location.hash && document.getElementById(location.hash.slice(1));
    told.unfolded = linked ? Number(linked.querySelector("dl").checkVisibility()) : null;
    told.unreachable = [...document.querySelectorAll(".scroll")].filter((e) => e.tabIndex !== 0 || !e.ariaLabel).length;
    told.uncaptioned = [...document.querySelectorAll("table")].filter((e) => !e.caption).length;
    const details = [...document.querySelectorAll("details")];
    details.forEach((e) => { e.open = true; });
    told.wideOpen = document.documentElement.scrollWidth;
    const node = document.createElement("pre");
    node.id = "probe"; node.textContent = JSON.stringify(told);
    document.body.appendChild(node);
  }, 200);
});
</script>
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of made-up records, with a probe at its end that clicks through it and writes down what it sees."""
    folder = tmp_path_factory.mktemp("page")
    fill(Store(folder / "results", folder / "cache"), claims=("reward-collapse-control", "pendulum-mbpo-beats-sac"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aggregates, "REPETITIONS", 50)
        text = report.build(folder / "results", folder / "cache", "quick").read_text()
    first = (
        "<script>const complaints = []; window.addEventListener('error', "
        "(event) => complaints.push(String(event.message)));</script>"
    )
    probed = folder / "results" / "probed.html"
    probed.write_text(text.replace("<head>", "<head>" + first, 1).replace("</body>", PROBE + "</body>"))
    return probed


def shown(page, width, tmp_path, *options):
    """What Chromium makes of the page at this width, and what it complains of on the console."""
    # Headless windows are at least 500 px wide; a frame of the width that is meant has no such limit.
    frame = page.with_name(f"frame-{width}.html")
    frame.write_text(
        f'<!DOCTYPE html><body style="margin:0"><iframe id="f" src="{page.name}" style="width:{width}px;height:900px;'
        'border:0"></iframe><pre id="out"></pre><script>const wait = setInterval(() => { const p = document.'
        'getElementById("f").contentDocument.getElementById("probe"); if (p) { document.getElementById("out").'
        "textContent = p.textContent; clearInterval(wait); } }, 50);</script></body>"
    )
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--allow-file-access-from-files",
    ]
    command += ["--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=8000"]
    command += ["--window-size=1400,1000", *options, "--dump-dom", frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    found = re.search(r'<pre id="out">(\{.*?\})</pre>', done.stdout, re.DOTALL)
    assert found, f"the page did not finish: {done.stderr[-2000:]}"
    text = found[1].replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&")
    return json.loads(text), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_loads_filters_and_fits(page, tmp_path, width):
    told, console = shown(page, width, tmp_path)
    assert told["complaints"] == [] and console == []
    assert told["port"] == width
    assert told["wide"] == told["wideOpen"] == width  # nothing to scroll sideways to, folded or open
    assert told["unreachable"] == told["uncaptioned"] == 0
    assert told["high"] < 8 * 900 * 1280 / width  # parts are folded
    steps = {name: rest for name, *rest in told["steps"]}
    whole = steps["start"][0]
    assert whole["bar"] == 1 and whole["articles"] == 0 and whole["left"] > 20
    for name in ("reproduced", "incomplete"):
        counted, odd = steps[name]
        assert 0 < counted["articles"] == counted["left"] < whole["left"]  # what is left is shown, its parts open
        assert odd == []
    assert steps["all"][0]["left"] == whole["left"]
    # A link to a claim that is filtered out shows all again, and unfolds that one.
    assert steps["link"][0]["left"] == whole["left"] and told["unfolded"] == 1


def test_a_page_that_is_too_wide_or_complains_is_caught(page, tmp_path):
    bad = page.with_name("bad.html")
    extra = '<div style="width:700px">x</div><script>console.error("oh"); throw new Error("no");</script>'
    bad.write_text(page.read_text().replace("<main>", "<main>" + extra, 1))
    told, console = shown(bad, 390, tmp_path)
    assert told["wide"] > 390
    assert any("no" in complaint for complaint in told["complaints"])
    assert any("oh" in line for line in console)


def test_without_scripts_everything_is_shown_and_no_bar(page):
    text = page.with_name("report.html").read_text()
    assert re.search(r'<div class="filter" id="filter"[^>]* hidden>', text)
    assert not re.search(r"<article[^>]* hidden", text)
