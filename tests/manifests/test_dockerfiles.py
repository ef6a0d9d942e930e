"""The Dockerfiles that people build from: hadolint finds nothing in them that is not argued beside it."""

import shutil
import subprocess
import sysconfig

import pytest

from manifests.charts import ROOT

HADOLINT = shutil.which("hadolint", path=sysconfig.get_path("scripts"))


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not made for this machine")
@pytest.mark.parametrize("file", ["Dockerfile", "examples/stdlib/Dockerfile"])
def test_hadolint_finds_nothing_to_remark(file):
    done = subprocess.run([str(HADOLINT), "--failure-threshold", "style", str(ROOT / file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
