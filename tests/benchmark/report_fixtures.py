"""For tests of leaderboard.html: result folders with logs, audit and analysis, and a browser to look at the page."""

import base64
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from benchmark_fixtures import failed, make_cell, mel, save
from cost_fixtures import invented_audit

NEEDED = "S3PRL_ATTENTION_NEEDS_CHROMIUM"  # set by .ci/run: there a missing browser is a failure
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--window-size=1280,900",
)  # fmt: skip
SPEEDS = {"self_attention": (1.0, 0.5), "fixed_init": (0.75, 0.55), "no_attention": (0.5, 0.45), "xbox": (10.0, 0.48)}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def fill_all(out: Path) -> None:
    """Four upstreams, the reference and failures on three tasks, with everything that the page can show."""
    for task, changes in (
        ("speaker", {}),
        ("phone_linear", {"task__unit": "frames"}),
        ("phone_recognition", {"task__metric": "phone error rate", "task__higher_is_better": False}),
    ):
        for name, (speed, score) in SPEEDS.items():
            log = f"pretrain/{name}--seed0/log.jsonl"
            write_log(out / log, lowest=1 - score)
            own = {"cell__upstream": name, "cell__downstream": task, "upstream__title": name, "pretrain__log": log}
            test = score if changes.get("task__higher_is_better", True) else 1 - score
            save(out, make_cell(speed, scores__test=test, **own, **changes))
        save(out, mel(cell__downstream=task, upstream__title="Log-Mel", **changes))
        save(out, failed("RuntimeError: no memory", cell__upstream="routing", cell__downstream=task))
    save(out, failed("the corpus has no labels", cell__upstream="fixed_init", cell__downstream="utterance_label"))
    save_audit(out)
    save_analysis(out)


def write_log(path: Path, num_lines: int = 8, lowest: float = 0.5, step_s: float = 0.2) -> None:
    """A log of pre-training whose loss falls to ``lowest``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, Any]] = [
        {"step": 25 * i, "loss": lowest + 0.3 / i, "elapsed_s": 25 * i * step_s} for i in range(1, num_lines + 1)
    ]
    lines[-1]["valid_loss"] = lowest + 0.3 / num_lines
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def save_audit(out: Path) -> None:
    """An audit of two upstreams."""
    (out / "cost").mkdir(parents=True, exist_ok=True)
    audit = invented_audit({"self_attention": 2.0, "uniform": 1.0})
    (out / "cost" / "cost.json").write_text(json.dumps(audit))


def save_analysis(out: Path, **changes: Any) -> Path:
    """An analysis of two layers of two heads, with a picture that is there and one that is not."""
    folder = out / "attention" / "synthetic-small" / "demo" / "self_attention--seed0"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gallery.png").write_bytes(base64.b64decode(PIXEL))
    heads = [
        {"layer": layer, "head": head, "case": "flat", "detail": None, "globalness": 1.5 * layer - head}
        for layer in (1, 2)
        for head in (0, 1)
    ]
    analysis = {
        "schema": 1, "upstream": "self_attention", "title": "Self-attention", "corpus": "synthetic-small",
        "preset": "demo", "seed": 0, "command": "python -m s3prl_attention.benchmark attention", "frames": 64,
        "utterances": 8, "layers": 2, "heads": 2,
        "cases": {"names": ["near-diagonal", "flat"], "by_layer": [[0, 2], [1, 1]]}, "table": heads,
        "notes": ["Three clusters fit as well as four."],
        "pictures": [{"file": "gallery.png", "title": "Every head", "alt": "Four maps"},
                     {"file": "lost.png", "title": "What was lost", "alt": ""}],
        **changes,
    }  # fmt: skip
    (folder / "analysis.json").write_text(json.dumps(analysis))
    return folder


def start_chromium() -> Any:
    """A headless Chromium, driven by selenium; the test is skipped where one of the two is missing."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        _lacking("selenium")
    if browser is None or driver is None:
        _lacking("Chromium and its driver (Debian's packages chromium and chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service(driver))


def _lacking(what: str) -> None:
    told = f"leaderboard.html is looked at in a browser, and here is no {what}"
    if os.environ.get(NEEDED):
        pytest.fail(told)
    pytest.skip(told)
