"""`stmine publish push`: a folder becomes a revision of a repository on the Hub, in one commit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from .. import __version__
from ..cards.files import MANIFEST, files_in
from ..outputs import sha256_of
from .repo_type import RepoType, header_of
from .repository import PublishError, read_manifest

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile


class NoConnectionError(PublishError):
    """The Hub cannot be reached."""


@dataclass(frozen=True)
class PlannedFile:
    """What happens to one file.

    Attributes:
        path: in the repository.
        bytes: its size.
        state: "new", "changed", "same", "removed" (of an earlier build's list), or "unknown" (no connection).
    """

    path: str
    bytes: int
    state: str


@dataclass(frozen=True)
class PushPlan:
    """What a push would do.

    Attributes:
        repo: id of the repository.
        repo_type: what it is.
        revision: the branch.
        head: its present commit, or that of main, where a new branch starts; None without a repository.
        exists: whether the repository is there.
        files: all files of the folder, and those to remove.
        reached: whether the Hub could be asked; if not, the state of each file is "unknown".
    """

    repo: str
    repo_type: RepoType
    revision: str
    head: str | None
    exists: bool
    files: list[PlannedFile]
    reached: bool = True

    @property
    def changes(self) -> list[PlannedFile]:
        return [file for file in self.files if file.state != "same"]


@dataclass(frozen=True)
class Pushed:
    """What a push did: the plan, the revision's commit (an old one if there was nothing new), its address, the tag."""

    plan: PushPlan
    commit: str
    url: str
    tag: str | None


def require_login(repo: str) -> None:
    """Ask the Hub who is logged in, before the work that is to be pushed to `repo`.

    Raises:
        PublishError: nobody is logged in, a token that is not valid, or no connection.
    """
    from huggingface_hub import HfApi

    with hub_errors(repo):
        HfApi().whoami()


def plan(
    folder: str | Path, repo: str, repo_type: RepoType, *, revision: str = "main", offline: bool = False
) -> PushPlan:
    """Compare a folder with a branch of a repository; nothing is uploaded.

    Files that only the Hub has stay, unless the `manifest.json` there lists them: these are an earlier build's.

    Args:
        folder: as `stmine publish build` writes it.
        repo: id on the Hub.
        repo_type: what it is.
        revision: the branch.
        offline: without a connection, list the files without comparing them.

    Raises:
        PublishError: an invalid id, a repository that may not be read, no connection (unless `offline`).
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import validate_repo_id

    folder = Path(folder)
    try:
        with hub_errors(repo):
            validate_repo_id(repo)
            return _plan(HfApi(), folder, repo, repo_type, revision)
    except NoConnectionError:
        if not offline:
            raise
        files = [PlannedFile(name, (folder / name).stat().st_size, "unknown") for name in files_in(folder)]
        return PushPlan(repo, repo_type, revision, None, False, files, reached=False)


def push(
    folder: str | Path,
    repo: str,
    repo_type: RepoType,
    *,
    private: bool = False,
    revision: str = "main",
    tag: str | None = None,
) -> Pushed:
    """Make a branch of a repository equal to a folder, in one commit; both are created if missing.

    The next push continues an interrupted upload: large files that arrived are not sent again.

    Args:
        folder: as `stmine publish build` writes it.
        repo: id, such as "stmine-hf/sat-coco-small".
        repo_type: the repository's type.
        private: make a new repository private.
        revision: the branch.
        tag: name for the commit, under which it stays loadable.

    Raises:
        PublishError: nobody logged in, no right to write there, a public repository where a private one was asked
            for, a tag that names another commit, a header that the Hub refuses, another commit in between, no
            connection.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    folder, api = Path(folder), HfApi()
    with hub_errors(repo):
        api.whoami()
        planned = _plan(api, folder, repo, repo_type, revision)
        _require_private(api, planned, private)
        _require_free(api, planned, tag)
        if not planned.exists:
            sdk = header_of(folder).get("sdk") if repo_type == "space" else None
            api.create_repo(repo, repo_type=repo_type, private=private, space_sdk=sdk, exist_ok=True)
        if revision != "main":
            api.create_branch(repo, repo_type=repo_type, branch=revision, exist_ok=True)
        commit = planned.head
        if planned.changes:
            operations: list[CommitOperationAdd | CommitOperationDelete] = [
                CommitOperationDelete(path_in_repo=file.path)
                if file.state == "removed"
                else CommitOperationAdd(path_in_repo=file.path, path_or_fileobj=folder / file.path)
                for file in planned.changes
            ]
            commit = api.create_commit(
                repo,
                operations,
                repo_type=repo_type,
                revision=revision,
                commit_message=f"Publish {folder.absolute().name} with stmine-hf {__version__}",
                parent_commit=planned.head,
            ).oid
        assert commit is not None  # without changes there is a commit that has them all
        if tag:
            api.create_tag(repo, repo_type=repo_type, tag=tag, revision=commit, exist_ok=True)
    prefix = "" if repo_type == "model" else f"{repo_type}s/"
    return Pushed(planned, commit, f"{api.endpoint}/{prefix}{repo}/tree/{tag or revision}", tag)


def _plan(api: HfApi, folder: Path, repo: str, repo_type: RepoType, revision: str) -> PushPlan:
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
    from huggingface_hub.hf_api import RepoFile

    exists, head, there = True, None, {}
    try:
        try:
            head = api.repo_info(repo, repo_type=repo_type, revision=revision).sha
        except RevisionNotFoundError:  # a new branch starts where main is
            head = api.repo_info(repo, repo_type=repo_type).sha
        tree = api.list_repo_tree(repo, repo_type=repo_type, revision=head, recursive=True)
        there = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
    except RepositoryNotFoundError:
        exists = False
    files = []
    for name in files_in(folder):
        file, size = folder / name, (folder / name).stat().st_size
        state = "new" if name not in there else "same" if _is(file, there[name]) else "changed"
        files.append(PlannedFile(name, size, state))
    for name in sorted(_built_before(api, repo, repo_type, head, there) - {file.path for file in files}):
        files.append(PlannedFile(name, there[name].size, "removed"))
    return PushPlan(repo, repo_type, revision, head, exists, files)


def _is(file: Path, entry: RepoFile) -> bool:
    """Whether a file is the one that the Hub lists; git hashes small files with a header of their own."""
    if file.stat().st_size != entry.size:
        return False
    if entry.lfs:
        return sha256_of(file) == entry.lfs.sha256
    data = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() == entry.blob_id  # noqa: S324  Git's name of a file, no safeguard


def _built_before(
    api: HfApi, repo: str, repo_type: RepoType, head: str | None, there: Mapping[str, RepoFile]
) -> set[str]:
    """The files on the Hub that its own manifest lists."""
    if MANIFEST not in there:
        return set()
    with TemporaryDirectory() as work:
        api.hf_hub_download(repo, MANIFEST, repo_type=repo_type, revision=head, local_dir=work)
        return {*read_manifest(Path(work))} & there.keys()


def _require_private(api: HfApi, planned: PushPlan, private: bool) -> None:
    if private and planned.exists and not api.repo_info(planned.repo, repo_type=planned.repo_type).private:
        raise PublishError(
            f"{planned.repo}: it is there already, and public. Make it private on its settings page, or leave "
            "--private out."
        )


def _require_free(api: HfApi, planned: PushPlan, tag: str | None) -> None:
    """Check before the upload that the tag is new or already names the commit: a published tag must not move."""
    if not tag or not planned.exists:
        return
    tags = {ref.name: ref.target_commit for ref in api.list_repo_refs(planned.repo, repo_type=planned.repo_type).tags}
    if tag in tags and (planned.changes or tags[tag] != planned.head):
        raise PublishError(f"{planned.repo}: tag {tag} names commit {tags[tag][:8]} already. Choose another one.")


@contextmanager
def hub_errors(repo: str) -> Iterator[None]:
    """Turn errors of the Hub's client into messages that say what to do."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
    )

    again = "Run the same command again: what has arrived is not sent twice."
    try:
        yield
    except PublishError:
        raise
    except HFValidationError as error:
        raise PublishError(f"{repo}: expected an id like organisation/name ({error}).") from error
    except LocalTokenNotFoundError as error:
        raise PublishError("Nobody is logged in. Run `hf auth login`, or set HF_TOKEN.") from error
    except OfflineModeIsEnabled as error:
        raise NoConnectionError("The Hub is switched off here: unset HF_HUB_OFFLINE.") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        reasons = {
            401: "the token is not valid, or this is no repository that it may see. Run `hf auth login`",
            404: "no such repository or revision on the Hub",
            403: f"no right to write there: {_first_line(error)}. Take a token with the role `write`",
            409: "another commit is in progress. Run the same command again",
            412: "another commit was made in between. Run the same command again",
        }
        reason = reasons.get(status or 0) or f"the Hub answered {status}: {_first_line(error)}. {again}"
        raise PublishError(f"{repo}: {reason.rstrip('.')}.") from error
    except ValueError as error:  # a header that the Hub refuses
        raise PublishError(f"{repo}: {_first_line(error)}") from error
    except Exception as error:
        # The client wraps a failed upload in a RuntimeError.
        cause = error.__cause__ if isinstance(error, RuntimeError) else error
        if type(cause).__module__.partition(".")[0] not in {"httpx", "httpx2", "huggingface_hub"}:
            raise
        raise NoConnectionError(
            f"{repo}: no connection to the Hub ({_first_line(cause or error)}). {again}"
        ) from error


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
