"""Layer weights of probes: which cells are averaged, which rows stand in which panel, what the page says of them."""

import numpy as np
import pytest
from benchmark_fixtures import failed, make_cell, mel, read, save
from s3prl_attention.benchmark.states import layers
from s3prl_attention.benchmark.states.layers import panels
from s3prl_attention.benchmark.states.layers_page import figure


def cell(upstream="fixed_init", weights=((0.2, 0.8),), **changes):
    return make_cell(cell__upstream=upstream, probe__layer_weights=[list(w) for w in weights], **changes)


def test_weights_are_means_over_folds_and_seeds_of_pre_training(tmp_path):
    save(tmp_path, cell(weights=[(0.1, 0.9), (0.3, 0.7)]))
    save(tmp_path, cell(weights=[(0.5, 0.5), (0.7, 0.3)], cell__seed=1, cell__probe_seed=0))
    save(tmp_path, cell(weights=[(1.0, 0.0), (1.0, 0.0)], cell__probe_seed=1))  # of the probe: not in the score either
    (panel,) = panels(read(tmp_path))
    (row,) = panel.rows
    np.testing.assert_allclose(row.mean, [0.4, 0.6])
    np.testing.assert_allclose(row.spread, np.std([0.1, 0.3, 0.5, 0.7], ddof=1))
    assert (row.num_probes, row.centre) == (4, pytest.approx(0.6))


def test_each_table_is_a_panel_with_the_baseline_first_and_one_state_apart(tmp_path):
    for name in ("self_attention", "fixed_init", "xbox"):
        save(tmp_path, cell(name))
    save(tmp_path, cell("xbox", cell__downstream="phone_linear", weights=[(0.2, 0.3, 0.5)]))
    save(tmp_path, mel(probe__layer_weights=[[1.0]]))
    save(tmp_path, failed(cell__upstream="routing"))
    first, second = panels(read(tmp_path))
    assert (first.title, second.title) == ("phone_linear", "speaker")
    assert [row.label for row in second.rows] == ["self_attention", "fixed_init", "xbox"]
    assert (second.single, first.single) == (("mel",), ())
    assert first.rows[0].spread.tolist() == [0, 0, 0]


def test_rows_of_other_settings_stand_in_a_panel_of_their_own(tmp_path):
    save(tmp_path, cell("self_attention"))
    save(tmp_path, cell())
    save(tmp_path, cell(config__probe={"num_epochs": 3}), digest="d2")
    assert [panel.title for panel in panels(read(tmp_path))] == ["speaker, table 1", "speaker, table 2"]
    layers.main(["--out", str(tmp_path)])
    page = (tmp_path / "layers" / "synthetic-small" / "demo" / "layers.md").read_text()
    assert "made under different settings" in page


def test_the_page_has_every_number_and_a_picture_for_each_corpus_and_preset(tmp_path, capsys):
    save(tmp_path, cell(weights=[(0.25, 0.75), (0.35, 0.65)]))
    other = {"cell__preset": "study", "environment__git_commit": "fedcba9876543210"}
    save(tmp_path, cell("self_attention", weights=[(0.5, 0.5), (0.5, 0.5)], **other))
    save(tmp_path, mel(probe__layer_weights=[[1.0]]))
    layers.main(["--out", str(tmp_path)])
    folder = tmp_path / "layers" / "synthetic-small"
    page = (folder / "demo" / "layers.md").read_text()
    assert "commit 0123456789ab." in page
    assert "commit fedcba987654." in (folder / "study" / "layers.md").read_text()
    assert "| fixed_init | 0.30 (0.07) | 0.70 (0.07) | 0.70 | 2 |" in page
    assert "- mel: one state, nothing to weigh." in page
    assert f"    python -m s3prl_attention.benchmark layers --out {tmp_path}\n" in page
    for preset in ("demo", "study"):
        assert (folder / preset / "layers.png").read_bytes().startswith(b"\x89PNG")
        assert f"written: {folder}" in capsys.readouterr().out or preset == "study"
    before = (folder / "demo" / "layers.svg").read_bytes()
    layers.main(["--out", str(tmp_path)])
    assert (folder / "demo" / "layers.svg").read_bytes() == before


def test_a_heat_map_shows_each_weight_in_the_row_of_its_upstream(tmp_path):
    save(tmp_path, cell("self_attention", weights=[(0.9, 0.1)]))
    save(tmp_path, cell("xbox", weights=[(0.2, 0.8)]))
    save(tmp_path, cell("xbox", cell__downstream="phone_linear", weights=[(0.3, 0.7)]))
    axes = [axis for axis in figure(panels(read(tmp_path))).axes if axis.images]
    first, second = (axis.images[0].get_array() for axis in axes)
    names = [text.get_text() for text in axes[0].get_yticklabels()]
    np.testing.assert_allclose(second[names.index("self_attention")], [0.9, 0.1])
    np.testing.assert_allclose(second[names.index("xbox")], [0.2, 0.8])
    np.testing.assert_allclose(first[names.index("xbox")], [0.3, 0.7])
    assert first.mask[names.index("self_attention")].all()  # not made, and so not drawn
    assert axes[0].images[0].norm.vmax == axes[1].images[0].norm.vmax == 0.9
    assert sorted(text.get_text() for text in axes[1].texts) == ["0.10", "0.20", "0.80", "0.90"]


def test_a_folder_without_weights_is_told(tmp_path):
    save(tmp_path, mel(probe__layer_weights=[[1.0]]))
    with pytest.raises(SystemExit, match="no finished cell of an upstream with layers: give --out"):
        layers.main(["--out", str(tmp_path)])


def test_a_cell_that_cannot_be_read_is_told_and_the_others_are_shown(tmp_path, capsys):
    path = save(tmp_path, cell())
    path.with_name("broken.json").write_text("{")
    layers.main(["--out", str(tmp_path)])
    assert "broken.json" in capsys.readouterr().err
