"""s3prl's own hub, once: real upstreams get their rows, and a run of ours does not import it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmark_fixtures import by_pair
from s3prl_attention.benchmark.names import BASELINE
from s3prl_fixtures import save_mockingjay

REPOSITORY = Path(__file__).resolve().parents[2]


def test_our_upstreams_do_not_import_it(synthetic_tiny, tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from s3prl_attention.benchmark import cli, dry_run, explain, grid, remake, status\n"
        "from s3prl_attention.benchmark.plan import Request, make_plan\n"
        f"make_plan(Request('smoke', Path({str(tmp_path)!r}), ('fixed_init',)))\n"
        "assert not {'s3prl.hub', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)


LOADED = """
import json, runpy, sys
import torch
from s3prl_attention.downstream.feature_cache import weights_digest
from s3prl_attention.upstream.s3prl_upstreams import load_foreign, parse

sys.argv[1:], script = json.loads(sys.argv[1]), "run_benchmark.py"
try:
    runpy.run_path(script, run_name="__main__")
except SystemExit as ended:
    print(json.dumps({"code": ended.code}))
torch.manual_seed(3)
short, long = 0.1 * torch.randn(8000), 0.1 * torch.randn(20000)
told = {}
for text in [word for word in sys.argv if word.startswith("s3prl:")] + ["s3prl:mel"]:
    expert, again = load_foreign(parse(text)), load_foreign(parse(text))
    with torch.inference_mode():
        alone, twice, beside = (e(wavs)["hidden_states"][-1][0] for e, wavs in
                                ((expert, [short]), (again, [short]), (expert, [short, long])))
    cut = beside[: len(alone)]
    told[text.split(":")[1]] = {
        "same": weights_digest(expert) == weights_digest(again) and bool(torch.equal(alone, twice)),
        "alone": len(alone), "padded": len(beside), "moved": float((cut - alone[: len(cut)]).abs().max()),
    }
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def real(synthetic_tiny, tmp_path_factory):
    """A run with the real hub, its result folder, what it printed, and how upstreams take padding: one process."""
    folder = tmp_path_factory.mktemp("real")
    ckpt = save_mockingjay(folder / "tiny.ckpt")
    names = [BASELINE, "s3prl:fbank", f"s3prl:mockingjay_local:{ckpt}"]
    words = ["--preset", "smoke", "--upstream", *names, "--downstream", "speaker", "phone_linear"]
    words = [*words, "--out", str(folder / "out")]
    command = [sys.executable, "-c", LOADED, json.dumps(words)]
    done = subprocess.run(command, cwd=REPOSITORY, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *printed, ended, told = done.stdout.splitlines()
    return folder / "out", "\n".join(printed), json.loads(ended), json.loads(told)


def test_the_real_ones_get_their_rows(real):
    out, printed, ended, _ = real
    assert ended == {"code": 0}
    assert "8 cells, 8 made now, 0 failed" in printed
    assert "UpstreamExpert" not in printed, "what s3prl prints is in the way"
    made = by_pair(out)
    for task in ("speaker", "phone_linear"):
        fbank, mockingjay = made["s3prl:fbank", task], made["s3prl:mockingjay_local:tiny.ckpt", task]
        assert (fbank["upstream"]["parameters"], fbank["upstream"]["hidden_dim"]) == (0, 240)
        assert mockingjay["upstream"]["parameters"] > 2000
        assert mockingjay["upstream"]["hidden_dim"] == 16
        assert len(mockingjay["probe"]["layer_weights"][0]) == 3
        for cell in (fbank, mockingjay):
            assert cell["pretrain"] is None
            assert len(cell["time"]["phases"]["whole_1s"]["samples_s"]) == 2
            assert cell["memory"]["inference_bytes"] > 0
            assert cell["upstream"]["title"].endswith("of s3prl 0.4.18")
        assert made["mel", task]["time"]["phases"].keys() == {"features"}
    page = (out / "leaderboard.md").read_text()
    assert page.count("\n| s3prl:fbank |") == 4, "of scores and by length, on two tasks"
    assert page.count("\n## speaker") == page.count("\n## phone") == 1


def test_they_are_the_same_each_time_and_padding_changes_them(real):
    *_, told = real
    assert set(told) == {"fbank", "mockingjay_local", "mel"}
    assert all(one["same"] for one in told.values())
    assert all(one["moved"] > 1e-3 or one["padded"] != one["alone"] for one in told.values())
