"""`report_to`: a tracker that is not there is told by name, before anything is trained."""

from __future__ import annotations

import pytest

from stmine_hf.errors import StmineError
from stmine_hf.training import arguments
from stmine_hf.training.sat.arguments import SatTrainingArguments


def test_missing_and_unknown_trackers_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(arguments, "get_available_reporting_integrations", lambda: ["tensorboard"])
    options = {"output_dir": str(tmp_path), "use_cpu": True}
    for given in ("none", "tensorboard", ["tensorboard"]):
        SatTrainingArguments(**options, report_to=given)
    with pytest.raises(StmineError, match=r"wandb is not installed: pip install wandb\. Or leave report_to out"):
        SatTrainingArguments(**options, report_to="wandb")
    with pytest.raises(StmineError, match=r"expected none, all or one of .*wandb.*, found 'weights'"):
        SatTrainingArguments(**options, report_to="weights")
