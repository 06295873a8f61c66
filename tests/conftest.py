"""Fixtures for all tests: the corpora, a cache that is not the user's, and s3prl's hub."""

import importlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from s3prl_attention.recipes.corpora import Corpus, load_corpus
from s3prl_attention.upstream import s3prl_compat
from s3prl_fixtures import Hub, make_hub

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def isolated_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Points the cache at a folder of this test run, or at ``$S3PRL_ATTENTION_TEST_CACHE``, which outlives the run."""
    folder = Path(os.environ.get("S3PRL_ATTENTION_TEST_CACHE") or tmp_path_factory.mktemp("cache"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S3PRL_ATTENTION_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def librispeech_mini() -> Path:
    """The folder of the real LibriSpeech excerpt; skips the test where it is not on the machine."""
    named = os.environ.get("S3PRL_ATTENTION_LIBRISPEECH")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data" / "librispeech_mini"
    if not folder.is_dir():
        pytest.skip(f"no LibriSpeech excerpt at {folder}: set S3PRL_ATTENTION_LIBRISPEECH to one")
    return folder


@pytest.fixture(scope="session")
def synthetic_tiny(isolated_cache: Path) -> Corpus:
    """Four minutes of synthetic speech, made once per test run."""
    pytest.importorskip("espeakng_loader", reason="the synthetic corpus needs the extra 'synth'")
    return load_corpus("synthetic", size="tiny")


@pytest.fixture(scope="session")
def s3prl_hub() -> ModuleType:
    """``s3prl.hub`` with our upstreams and tasks; imported once in a test run, since it takes seconds and 1 GB."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what s3prl and its packages say of themselves while they are imported
        from s3prl_attention.upstream.s3prl_hub import register

        register()
        importlib.import_module("s3prl.nn")
        return importlib.import_module("s3prl.hub")


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A made-up ``s3prl.hub``, so that the real one need not be imported."""
    found = make_hub()
    monkeypatch.setattr(s3prl_compat, "import_hub", lambda: found)
    return found
