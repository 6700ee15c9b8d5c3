"""A model is trained by the service, and the same request finds it trained."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.service.live import Service

pytestmark = [pytest.mark.service, pytest.mark.timeout(900)]

TINY = {
    "name": "tiny",
    "architecture": "unet",
    "arguments": {"depth": 1, "base_channels": 4},
    "channels": ["nuclei"],
    "heads": [{"head": "border"}],
    "sampling": {"patch_px": 32, "batch": 2},
    "steps": 4,
    "validation": {"every_steps": 4, "fraction": 0.3},
    "compute": {"threads": 1},
}


def test_a_form_to_a_model(tmp_path: Path, demo: Path) -> None:
    service = Service(tmp_path)
    data, out = tmp_path / "archive" / "mine", tmp_path / "out" / "model"
    for kind, folder in (("images", demo), ("labels", demo.parent / "truth")):
        shutil.copytree(folder / "small_nuclei", data / kind)
    service.start()
    try:
        offered = service.deployment("train-model/small-unet")
        assert offered["parameters"]["recipe"]["name"] == "small-unet"
        given = {"data": str(data), "out": str(out), "recipe": TINY}
        path = f"/deployments/{offered['id']}/create_flow_run"

        def ended(parameters: dict[str, object]) -> tuple[str, str]:
            run = service.ask(path, {"parameters": parameters})["id"]
            final = ("Completed", "Failed", "Crashed")
            service.wait(lambda: service.state(run) in final, 300)
            return service.state(run), service.message(run)

        assert ended(given)[0] == "Completed"
        assert (out / "model" / "card.yaml").is_file()
        written = (out / "report.html").stat().st_mtime_ns
        assert ended(given)[0] == "Completed"
        assert (out / "report.html").stat().st_mtime_ns == written
        (data / "labels" / "c75139ef0546.png").unlink()
        state, message = ended({**given, "out": str(tmp_path / "out" / "other")})
        assert state == "Failed"
        assert "there is no such file in labels" in message
    finally:
        assert service.stop() == 0, service.log()
