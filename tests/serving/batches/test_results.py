import json

from jangin.serving.batches import ERRORS, OUTPUT, BatchResults

BODY = {"usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}}


def test_results_of_an_interrupted_batch_are_kept_but_for_a_torn_line(tmp_path):
    with BatchResults(tmp_path / "b") as results:
        results.add("a", 200, "req_1", BODY)
        results.add("b", 404, "req_2", {"error": {"message": "none"}})
        results.add("c", 200, "req_3", BODY)
    path = tmp_path / "b" / OUTPUT
    path.write_bytes(path.read_bytes()[:-5])
    with BatchResults(tmp_path / "b") as results:
        assert results.done == {"a", "b"}
        assert results.counts == {OUTPUT: 1, ERRORS: 1}
        assert results.usage["total_tokens"] == 4
        results.add_error("c", "batch_expired", "too late")
    assert [json.loads(line)["custom_id"] for line in path.read_text().splitlines()] == ["a"]
    errors = [json.loads(line) for line in (tmp_path / "b" / ERRORS).read_text().splitlines()]
    assert [error["custom_id"] for error in errors] == ["b", "c"]
    assert errors[1]["error"]["code"] == "batch_expired"
    results.remove()
    assert not (tmp_path / "b").exists()
