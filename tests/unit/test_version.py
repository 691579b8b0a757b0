# SPDX-License-Identifier: Apache-2.0
"""Which commit is checked out, read as git wrote it, without git."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from xdptui.version import checked_out

IDENTITY = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    git(tmp_path, "init", "--quiet", "--initial-branch=main", str(root))
    git(root, *IDENTITY, "commit", "--quiet", "--allow-empty", "--message=first")
    return root


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_branch(checkout: Path) -> None:
    assert checked_out(checkout) == git(checkout, "rev-parse", "HEAD")


def test_a_branch_whose_refs_are_packed(checkout: Path) -> None:
    git(checkout, "pack-refs", "--all")
    assert not (checkout / ".git/refs/heads/main").exists()
    assert checked_out(checkout) == git(checkout, "rev-parse", "HEAD")


def test_a_commit_without_a_branch(checkout: Path) -> None:
    git(checkout, "checkout", "--quiet", "--detach")
    assert checked_out(checkout) == git(checkout, "rev-parse", "HEAD")


@pytest.mark.parametrize("packed", [False, True])
def test_a_worktree(checkout: Path, packed: bool) -> None:
    git(checkout, "worktree", "add", "--quiet", "-b", "other/branch", "../other")
    git(checkout / "../other", *IDENTITY, "commit", "--quiet", "--allow-empty", "--message=second")
    if packed:
        git(checkout, "pack-refs", "--all")
    commit = git(checkout / "../other", "rev-parse", "HEAD")
    assert checked_out(checkout / "../other") == commit != checked_out(checkout)


def test_what_is_no_checkout(tmp_path: Path) -> None:
    assert checked_out(tmp_path) == ""
    (tmp_path / ".git").mkdir()
    assert checked_out(tmp_path) == ""
    (tmp_path / ".git/HEAD").write_text("ref: refs/heads/unborn\n")
    assert checked_out(tmp_path) == ""
    (tmp_path / ".git/HEAD").write_bytes(b"\xff\xfe not a hash")
    assert checked_out(tmp_path) == ""
