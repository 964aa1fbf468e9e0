"""Repositories of the Hugging Face Hub: assembled, checked, pushed, compared."""

from __future__ import annotations

from pathlib import Path

__all__ = ["publish_run", "require_login"]


def require_login(repo: str) -> None:
    """Check who is logged in to the Hub, before the work whose result is to be pushed to `repo`.

    Raises:
        PublishError: nobody is logged in, a token that is not valid, or no connection.
    """
    from .push import require_login

    require_login(repo)


def publish_run(output_dir: str | Path, repo: str, *, private: bool = False, dry_run: bool = False) -> None:
    """Push the best weights of a training run to the Hub, or print what would be pushed; see `hub.runs`.

    Raises:
        PublishError: no best weights, or the Hub refuses; the message says why.
    """
    from .runs import publish_run

    publish_run(output_dir, repo, private=private, dry_run=dry_run)
