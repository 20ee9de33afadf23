"""A repository whose configuration names a program wherever git takes one, as whoever may write to it can."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.e2e.deployer_rig import GIT

PROGRAMS = (
    "core.fsmonitor",
    "core.pager",
    "core.editor",
    "core.sshCommand",
    "core.gitProxy",
    "core.askPass",
    "core.alternateRefsCommand",
    "diff.external",
    "diff.planted.command",
    "diff.planted.textconv",
    "filter.planted.clean",
    "filter.planted.smudge",
    "filter.planted.process",
    "filter.lfs.smudge",
    "filter.lfs.process",
    "merge.planted.driver",
    "sequence.editor",
    "interactive.diffFilter",
    "submodule.inner.update",
    "gpg.openpgp.program",
    "gpg.x509.program",
    "hook.planted.command",
    "credential.planted.helper",
    "gpg.program",
    "gpg.ssh.program",
    "gpg.ssh.defaultKeyCommand",
    "tar.tar.command",
    "tar.planted.command",
    "uploadpack.packObjectsHook",
    "credential.helper",
    "pager.log",
    "pager.upload-pack",
    "remote.origin.uploadpack",
    "alias.archive",
    "remote.origin.receivepack",
    "trace2.eventTarget",
)
# Whose value is read by sh: a program is named with `!`.
BY_SHELL = ("submodule.inner.update", "credential.planted.helper", "alias.archive")
HOOKS = (
    "post-checkout",
    "post-index-change",
    "pre-auto-gc",
    "reference-transaction",
    "post-merge",
    "pre-receive",
    "fsmonitor-watchman",
    "post-commit",
    "pre-commit",
    "post-update",
    "proc-receive",
    "push-to-checkout",
    "post-rewrite",
)


class Stranger:
    """A checkout at `path` with one commit; whatever of its programs runs leaves its name in `ran`."""

    def __init__(self, folder: Path) -> None:
        self.path, self.marks = folder / "stranger", folder / "marks"
        self.path.mkdir(parents=True)
        self.marks.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        (self.path / "file").write_text("one\n")
        (self.path / "version").write_text("$Format:%H %(describe)$\n")
        (self.path / ".gitattributes").write_text(
            "* filter=planted diff=planted merge=planted\nlarge filter=lfs\nversion export-subst\nfile export-ignore\n"
        )
        self.git("add", "-A")
        self.git("commit", "--quiet", "-m", "one")
        self._add_submodule(folder)
        for key in PROGRAMS:
            self.git("config", key, f"{'!' if key in BY_SHELL else ''}{self._program(key)}")
        self.git("config", "hook.planted.event", "reference-transaction")
        self.git("config", "uploadpack.allowFilter", "true")
        self.git("config", "filter.planted.required", "true")
        self.git("config", "log.showSignature", "true")
        self.git("config", "protocol.ext.allow", "always")
        self.git("config", "remote.origin.url", f"ext::{self._program('promisor')}")
        hooks = self.path / ".git" / "hooks"
        hooks.mkdir(exist_ok=True)
        for name in HOOKS:
            (hooks / name).write_text(Path(self._program(name)).read_text())
            (hooks / name).chmod(0o755)
        self._include_more()

    def _include_more(self) -> None:
        """Configuration in other files: of an include, one upon a condition, a work tree's own; and hooks in another folder."""
        git, more = self.path / ".git", self.marks.parent / "more"
        more.mkdir()
        (more / "hooks").mkdir()
        for name in HOOKS:
            (more / "hooks" / name).write_text(Path(self._program(f"hooksPath {name}")).read_text())
            (more / "hooks" / name).chmod(0o755)
        hooks_path = f"\thooksPath = {more / 'hooks'}\n"  # `init` refuses the one that it sees
        for name, place in (("include", more), ("includeIf", more), ("config.worktree", git)):
            (place / name).write_text(
                f"[core]\n\tfsmonitor = {self._program(name)}\n\tsshCommand = {self._program(name)}\n"
                f"{hooks_path if name != 'include' else ''}[uploadpack]\n\tpackObjectsHook = {self._program(name)}\n"
                f'[filter "planted"]\n\tsmudge = {self._program(name)}\n\tclean = {self._program(name)}\n'
            )
        with (git / "config").open("a") as config:
            config.write(
                f'[include]\n\tpath = {more / "include"}\n[includeIf "gitdir:/**"]\n\tpath = {more / "includeIf"}\n'
                "[extensions]\n\tworktreeConfig = true\n"
            )

    @property
    def ran(self) -> list[str]:
        """The programs that ran."""
        return sorted(path.name for path in self.marks.iterdir() if not path.name.endswith(".sh"))

    def git(self, *arguments: str, data: str | None = None, **environment: str) -> str:
        """As its owner works in it: before the programs are named."""
        done = subprocess.run(
            [*GIT, *arguments], cwd=self.path, check=True, capture_output=True, text=True, input=data, timeout=30,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.marks), **environment},
        )  # fmt: skip
        return done.stdout.strip()

    def head(self) -> str:
        """Its newest commit, without a program."""
        return (self.path / ".git" / "refs" / "heads" / "main").read_text().strip()

    def _program(self, name: str) -> str:
        script = self.marks / f"{name}.sh"
        script.write_text(f"#!/bin/sh\ntouch '{self.marks}/{name}'\nexec cat\n")
        script.chmod(0o755)
        return str(script)

    def _add_submodule(self, folder: Path) -> None:
        """A repository within, which git looks into with that one's own configuration."""
        inner = self.path / "inner"
        for arguments in (
            ("init", "--quiet", str(inner)),
            ("-C", str(inner), "commit", "--quiet", "--allow-empty", "-m", "i"),
        ):
            subprocess.run([*GIT, *arguments], check=True, capture_output=True, cwd=folder)
        self.git("add", "inner")
        self.git("commit", "--quiet", "-m", "two")
        subprocess.run([*GIT, "-C", str(inner), "config", "core.fsmonitor", self._program("inner")], check=True)
