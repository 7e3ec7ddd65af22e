"""Paths are expanded where they were typed, once; what belongs to the job waits for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.runtime.errors import UserError
from benchmark.runtime.paths import absolute, in_job, is_of_job, typed


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("DATA", "/data/$HOME/$$X")
    monkeypatch.delenv("NOPE", raising=False)
    return tmp_path


def test_homes_and_variables_are_expanded_once() -> None:
    assert typed("~/photos", "--out") == "/home/me/photos"
    assert typed("$DATA/a-${HOME}b", "--out") == "/data/$HOME/$$X/a-/home/meb"
    for text in ("a~b", "a$", "$5", "a b", "./~", "$$TMPDIR/$$X", "$${TMPDIR}/x"):
        assert typed(text, "--out") == text


def test_what_cannot_be_expanded_is_told(here: Path) -> None:
    told = r"--out: \$NOPE/x: the environment variable NOPE is not set \(write \$\$NOPE for one of the job\)"
    with pytest.raises(UserError, match=told):
        typed("$NOPE/x", "--out")
    with pytest.raises(UserError, match="--out: ~nobody-of-this-name/x: there is no such home folder"):
        typed("~nobody-of-this-name/x", "--out")
    with pytest.raises(UserError, match=r"data_root: .*: the environment variable NOPE is not set$"):
        in_job("$$NOPE/x", "data_root")
    (here / "cost$NOPE.npz").symlink_to("nowhere")
    assert typed("cost$NOPE.npz", "--out") == "cost$NOPE.npz"


def test_a_variable_of_the_job_waits_for_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/submitted/from")
    text = absolute(typed("$$TMPDIR/${HOME}/x", "data_root"))
    assert text == "$$TMPDIR//home/me/x"
    assert is_of_job(text)
    monkeypatch.setenv("TMPDIR", "/of/the/job")
    assert in_job(text, "data_root") == Path("/of/the/job/home/me/x")
    assert not is_of_job("$TMPDIR")
    assert absolute("photos") == str(here / "photos")
