"""A real browser opens the page, says nothing, and finds the landmarks. Run with `-m browser`."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from collegium.apps._page import render_page

pytestmark = [pytest.mark.browser, pytest.mark.slow]

WEIGHED = [{"name": f"Cleveland/{n}", "weight": 15, "points": 0.1, "locked": False} for n in range(2)]
SUMMARY = {
    "name": "Heart disease & two <hospitals>",
    "level": "unproved",
    "auc": 0.871,
    "seats": 16,
    "lying_seats": [5],
    "watts": 15,
    "rounds": [
        {"round": n, "auc": 0.8, "loss": 0.5, "finality_ms": 900, "energy_kwh": 2e-6}
        | {"quality": {"trainers": WEIGHED, "model_score": {"round": n, "stewards": 3, "correct": 0.7}}}
        for n in range(1, 9)
    ],
    "sites": [{"name": "Cleveland", "train_rows": 242}],
    "attackers": [{"name": "Cleveland/1", "kind": "label_flip"}],
    "attribution": "Data: https://archive.ics.uci.edu (named, not fetched)",
}


def open_in_browser(html: str, folder: Path) -> tuple[str, list[str]]:
    """Return the document as the browser understood it, and what it wrote to its console.

    The page's own policy forbids every request, and the browser reports each one that it blocked on the console: so
    an empty console also says that the page asked for nothing.
    """
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    path = folder / "page.html"
    path.write_text(html, encoding="utf-8")
    switches = (
        "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
        "disable-component-update disable-sync disable-default-apps no-proxy-server enable-logging=stderr dump-dom"
    )
    command = [browser, *(f"--{switch}" for switch in switches.split())]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}", path.as_uri()]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", start_new_session=True
    )
    try:
        document, log = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return document, [line for line in log.splitlines() if ":CONSOLE" in line]


def test_the_browser_finds_the_landmarks_and_has_nothing_to_complain_about(tmp_path: Path) -> None:
    document, console = open_in_browser(render_page(SUMMARY), tmp_path)
    assert console == []
    for landmark in (
        "<header",
        "<nav",
        '<main id="main"',
        "<footer",
        "<h1>Heart disease &amp; two &lt;hospitals&gt;</h1>",
    ):
        assert document.count(landmark) == 1
    assert document.count('role="img"') == 7
    assert document.count("<caption") == 6


def test_the_browser_would_have_named_a_request_and_a_script(tmp_path: Path) -> None:
    evil = '<img src="http://elsewhere.invalid/x.png"><script>document.title = "owned"</script></main>'
    document, console = open_in_browser(render_page(SUMMARY).replace("</main>", evil), tmp_path)
    assert any("elsewhere.invalid" in line for line in console)
    assert any("script" in line for line in console)
    assert "<title>Heart disease" in document
