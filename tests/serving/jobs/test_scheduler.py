"""What the scheduler gives the processes that it starts."""

from jangin.serving.jobs.scheduler import worker_environment


def test_with_several_slots_each_has_its_share_of_the_gpus(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert "CUDA_VISIBLE_DEVICES" not in worker_environment(0, 1)
    assert worker_environment(1, 2)["CUDA_VISIBLE_DEVICES"] == "1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert worker_environment(0, 1)["CUDA_VISIBLE_DEVICES"] == "4,5,6,7"
    assert worker_environment(1, 2)["CUDA_VISIBLE_DEVICES"] == "5,7"
