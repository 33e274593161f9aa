"""Memory that is left in a container with a limit."""

from jangin.core.execution import local

STAT = "anon 300\nfile 560\ninactive_file 400\nactive_file 150\nslab_reclaimable 50\n"


def test_cached_files_of_a_container_are_free_and_no_limit_is_the_machines(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "_CGROUP", tmp_path)
    machine = local.available_bytes()
    assert machine > 1000
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text(STAT)
    for limit, expected in (("1000", 700), ("200", 0)):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        assert local.available_bytes() == expected
    (tmp_path / "memory.max").write_text("max\n")
    assert local.available_bytes() > 1000
