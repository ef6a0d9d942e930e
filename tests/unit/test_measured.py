"""What was measured stays until the same is measured again."""

import json

import measured


def test_an_entry_is_replaced_and_the_others_stay(tmp_path):
    file = tmp_path / "build" / "figures.json"
    measured.keep([{"id": "P2", "ratio": 1}, {"id": "P1", "ratio": 2}], file)
    measured.keep([{"id": "P2", "ratio": 3}], file)
    assert [(entry["id"], entry["ratio"]) for entry in json.loads(file.read_text())] == [("P1", 2), ("P2", 3)]


def test_an_entry_tells_its_commit(tmp_path, monkeypatch):
    measured._commit.cache_clear()
    monkeypatch.setattr(measured, "ROOT", tmp_path)
    measured.keep([{"id": "P1"}], tmp_path / "outside.json")
    assert json.loads((tmp_path / "outside.json").read_text()) == [{"id": "P1", "commit": None}]
    measured._commit.cache_clear()
