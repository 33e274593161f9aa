"""Bulk decisions, disagreements, export and import."""

import io
import re
import zipfile

from jangin.examples.reviews.log import append_decisions, decide, read_log
from tests.serving.pages.review.test_routes import kim, rows

__all__ = ("kim", "rows")


def digest_of(response):
    return re.search(r'name="digest" value="(\w+)"', response.text)[1]


def test_many_rows_are_accepted_at_once_and_taken_back_at_once(kim, decisions):
    preview = kim.get("/review/bulk?source=복리후생안내.md")
    count = int(re.search(r"(\d+)건 모두 승인", preview.text)[1])
    saved = kim.submit(
        "/review/bulk?source=복리후생안내.md", decision="accept", digest=digest_of(preview)
    )
    assert f"{count}건을 저장했습니다" in saved.text
    assert len(decisions()) == count
    batch = re.search(r'name="batch" value="([^"]+)"', saved.text)[1]
    undone = kim.submit("/review/bulk/undo", batch=batch)
    assert f"{count}건을 되돌렸습니다" in undone.text
    assert "아직 없습니다" in undone.text


def test_a_preview_that_is_out_of_date_decides_nothing(kim, decisions, rows, log):
    preview = kim.get("/review/bulk")
    append_decisions(log, [decide(next(iter(rows.values())), "accept", "lee")])
    refused = kim.submit("/review/bulk", decision="reject", digest=digest_of(preview))
    assert refused.status_code == 409
    assert "그사이 목록이 바뀌어" in refused.text
    assert len(decisions()) == 1


def test_disagreements_and_agreement_are_shown(kim, rows, log):
    several = list(rows.values())[:4]
    append_decisions(log, [decide(row, "accept", "kim") for row in several])
    append_decisions(log, [decide(row, "accept", "lee") for row in several[1:]])
    append_decisions(log, [decide(several[0], "reject", "lee", reason="wrong")])
    page = kim.get("/review/disagreements")
    assert several[0].question in page.text
    assert "코헨의 카파" in page.text
    assert "판단하기" in page.text
    settling = kim.get(f"/review/items/{several[0].id}?state=contested")
    assert "이번 판단으로 정해집니다" in settling.text
    token = re.search(r'name="token" value="(\w*)"', settling.text)[1]
    kim.submit(f"/review/items/{several[0].id}", decision="reject", token=token)
    assert read_log(log)[-1].resolves
    assert "판단하기" not in kim.get("/review/disagreements").text


def test_decisions_go_out_and_come_back(kim, rows, log):
    row = next(iter(rows.values()))
    append_decisions(log, [decide(row, "reject", "lee", reason="wrong")])
    lines = kim.get("/review/export/decisions.jsonl").content
    archive = zipfile.ZipFile(io.BytesIO(kim.get("/review/export/argilla.zip").content))
    sheet = kim.get("/review/export/sheet.xlsx").content
    assert sheet.startswith(b"PK")
    log.unlink()
    form = {"csrf": kim.token}
    imported = kim.post("/review/import", data=form, files={"file": ("a.jsonl", lines)})
    assert "1건을 더했습니다" in imported.text
    records = archive.read("records.json")
    again = kim.post("/review/import", data=form, files={"file": ("records.json", records)})
    assert "0건을 더했습니다. 1건은 이미 있었고" in again.text
    back = kim.post("/review/import", data=form, files={"file": ("sheet.xlsx", sheet)})
    assert "0건을 더했습니다" in back.text
    wrong = kim.post("/review/import", data=form, files={"file": ("a.exe", b"x")})
    assert wrong.status_code == 400
    broken = kim.post("/review/import", data=form, files={"file": ("a.jsonl", b"{\n")})
    assert broken.status_code == 400
    assert "a.jsonl:1" in broken.text
