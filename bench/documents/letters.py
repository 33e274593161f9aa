"""Latin words, codes, units and numbers in Korean scans: python bench/documents/letters.py.

    python bench/documents/letters.py [--half tuned|held] [--rapid PYTHON] [--show]

300 lines of mixed script, three from each sentence of samples/texts/letters.txt, are drawn in six
fonts on A4 at 200 dpi, and spoiled in three ways: clean, noise (grain, specks, JPEG), blur (soft,
pale, turned by a degree). The sentences with an odd number are those that the checks were tuned
on, `held` the others. Each page is read by jangin, and by Tesseract's mode 6 with kor and with
kor+eng. With `--rapid`, a Python that has rapidocr and onnxruntime, lines are found by RapidOCR's
detector and read by Tesseract, one by one, with kor+eng.

A token is what stands between spaces. Printed in percent of the tokens, spaces and the forms of
quotation marks, dashes and middle dots ignored:
  wrong       read otherwise than it is drawn
  undetected  wrong, in a line that is part of the text, doubtful or not
  needless    in a line that was set aside although all of it was read right
  beside      right, in a line that was set aside for another token
Tesseract sets nothing aside. Also the seconds of CPU, and the share of lines set aside.
"""

import argparse
import io
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from rapidfuzz.distance import Levenshtein

from jangin.documents.ocr.page import read_page
from jangin.documents.ocr.tesseract import recognize

WIDTH, HEIGHT, DPI, LEFT, TOP, LINES = 1654, 2339, 200, 150, 170, 25
FONTS = (
    "/usr/share/fonts/truetype/nanum/NanumGothic.ttf",
    "/usr/share/fonts/truetype/nanum/NanumMyeongjo.ttf",
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/opentype/noto/NotoSerifCJK-Regular.ttc",
    "/usr/share/fonts/truetype/nanum/NanumBarunGothic.ttf",
    "/usr/share/fonts/truetype/nanum/NanumSquareR.ttf",
)
QUALITIES = ("clean", "noise", "blur")
SENTENCES = Path(__file__).resolve().parent / "samples" / "texts" / "letters.txt"
WORDS = {
    "lang": "TOPIK TOEIC TOEFL IELTS OPIc TEPS JLPT HSK DELF SNULT",
    "course": "CS101 MATH2013 BIO-301 EE205 PHY1021 KOR110",
    "app": "Teams Zoom Slack Jira LearnUs Outlook SAP KakaoTalk Notion GitHub",
    "model": "P-300 KX-2040B HM-75 AC220-3 TQ-18A MCB-63 R32-450 SV-iG5A DX900 EV-7L",
    "steel": "SUS304 SS400 SPPS-38 STS316L SCM440",
    "code": "E-104 F07 AL-22 ERR-501 H17 0x80070005",
    "meter": "Megger DMM LCR",
    "bearing": "6205-2RS 6308ZZ NU210 22216-E1",
    "drug": "Aspirin Metformin Tylenol Amoxicillin Heparin NaCl Lidocaine",
    "lab": "HbA1c LDL AST ALT CRP TSH eGFR",
    "scan": "CT MRI PET-CT X-ray",
    "vaccine": "HPV MMR DTaP BCG HBV",
    "host": "db-01 WEB-12 nas03 build-7 SRV-KR2",
    "os": "Ubuntu Windows RHEL macOS Debian",
    "proto": "TCP UDP SSH HTTPS FTP",
    "db": "PostgreSQL MySQL Oracle MariaDB Redis",
    "file": "config.yaml server.xml PDF app.ini HWP readme.md XLSX",
    "key": "timeout max_size retries PORT LOG_LEVEL",
    "cloud": "AWS Azure GCP iCloud",
    "net": "VPN LAN NAS VLAN",
    "std": "ISO9001 ISMS-P KS KOLAS IEC-61508 GDPR",
    "quarter": "Q1 Q2 Q3 Q4",
    "api": "REST API OpenAPI GraphQL gRPC",
    "git": "Git GitLab SVN",
    "branch": "main release develop hotfix",
    "plug": "HDMI USB-C Lightning VGA RJ45",
    "battery": "Li-ion Ni-MH LiFePO4",
    "panel": "OLED LCD QLED IPS",
    "wifi": "802.11ac Wi-Fi IEEE802.11n",
    "cell": "AAA AA CR2032",
    "bank": "KB NH IBK SC",
    "card": "VISA Master Amex JCB",
    "airline": "KE OZ LJ AF",
    "rate": "CD COFIX SOFR LIBOR",
    "bond": "ELS ETF RP ISA IRP",
    "index": "KOSPI S&P500 NASDAQ KOSDAQ",
    "fund": "ETF MMF REITs TDF",
    "cur": "USD EUR JPY CNY GBP",
    "swift": "SWIFT BIC IBAN",
    "otp": "OTP ARS SMS PIN",
    "form": "A-12 F-03 IC-220 별지(B) KR-7",
    "fax": "FAX E-mail EDI",
    "ev": "Model-Y EV6 IONIQ5 Tesla",
    "conn": "DC콤보 CCS1 NACS CHAdeMO",
    "gas": "NOx CO2 SO2 VOC H2S CO",
    "water": "BOD COD SS T-N T-P pH",
    "pm": "PM2.5 PM10",
    "chem": "NaOH HCl H2SO4 EtOH KMnO4 DMSO",
    "cosm": "Aqua Bio UV Calm",
    "vit": "C E B12 D3 K2",
    "ingr": "Omega-3 DHA BCAA GABA Q10",
    "sys": "ERP MES WMS POS",
    "haccp": "HACCP GMP ISO22000 FSSC",
    "train": "KTX SRT ITX ITX-청춘",
    "station": "Busan FOB ICN COEX GATE",
    "flight": "KE123 OZ751 TW9102 7C304",
    "gate": "A3 B12 C7 D-2 E11",
    "bus": "M6405 N26 BRT M5107",
    "inco": "CIF FOB DDP EXW",
    "cont": "40HC 20GP TEU 45HQ",
    "inv": "INV-20391 PO-7710 KR24-0091 SO-118B",
    "dept": "HR R&D QA IT CS PR",
    "kpi": "KPI OKR ROI NPS SLA",
    "mail": "help@daon.kr it-desk@sample.com hr@nuri.co.kr",
    "url": "www.daon.ac.kr https://nuri.kr/faq help.sample.com",
    "isbn": "ISBN ISSN DOI",
    "lib": "OPAC DLS RFID LMS",
    "show": "CATS Nutcracker Carmen EXPO",
    "seat": "VIP R S A",
    "fed": "FIFA NBA KBO IOC",
    "bldg": "A B C D",
    "dwg": "A-101 M-03 E-2.5 S-110",
    "bolt": "M12 M16x50 F10T UNC",
    "weld": "E7016 E4313 ER70S-6",
    "npk": "N-P-K NPK",
    "patent": "KR10-2031 US9123 WO2021",
    "bio": "PCR DNA ELISA NGS qPCR",
    "gene": "BRCA1 TP53 EGFR KRAS",
}


@dataclass(frozen=True, slots=True)
class Page:
    """A page, its lines from top to bottom, and the number of the sentence of each."""

    font: str
    lines: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader made of a page: its lines, and whether each is set aside."""

    lines: list[tuple[str, bool]]
    seconds: float


def filled(template: str, chance: random.Random) -> str:
    numbers = {
        "grade": lambda: str(chance.randint(2, 6)),
        "money": lambda: f"{chance.randint(1, 900) * 5000:,}",
        "month": lambda: str(chance.randint(1, 12)),
        "day": lambda: str(chance.randint(1, 28)),
        "score": lambda: str(chance.randint(60, 95) * 10 + 5),
        "gpa": lambda: f"{chance.uniform(2, 4.4):.2f}",
        "num": lambda: str(chance.randint(11, 480)),
        "small": lambda: str(chance.randint(11, 98)),
        "big": lambda: f"{chance.randint(1000, 9800):,}" if chance.random() < 0.5
        else str(chance.randint(1000, 9800)),
        "dec": lambda: f"{chance.uniform(0.1, 29):.1f}",
        "mg": lambda: str(chance.choice((5, 10, 25, 50, 100, 250, 500))),
        "volt": lambda: str(chance.choice((110, 220, 380, 440))),
        "ver": lambda: f"{chance.randint(1, 24)}.{chance.randint(0, 12)}",
        "clock": lambda: f"{chance.randint(6, 23):02}:{chance.randint(0, 11) * 5:02}",
    }  # fmt: skip

    def slot(match: re.Match[str]) -> str:
        name = match[1]
        return numbers[name]() if name in numbers else chance.choice(WORDS[name].split(" "))

    return re.sub(r"\{(\w+)\}", slot, template)


def pages() -> list[Page]:
    """300 lines on 12 pages; the odd sentences on the even pages."""
    chance = random.Random(31)
    sentences = SENTENCES.read_text(encoding="utf-8").rstrip("\n").split("\n")[:100]
    lines = [(n, filled(each, chance)) for _ in range(3) for n, each in enumerate(sentences)]
    tuned = [line for line in lines if line[0] % 2 == 0]
    held = [line for line in lines if line[0] % 2]
    return [
        Page(FONTS[index % len(FONTS)], tuple(half[start : start + LINES]))
        for half in (tuned, held)
        for index, start in enumerate(range(0, len(half), LINES))
    ]


def drawn(page: Page) -> np.ndarray:
    image = Image.new("L", (WIDTH, HEIGHT), 255)
    pen = ImageDraw.Draw(image)
    font = ImageFont.truetype(page.font, 29, index=1 if page.font.endswith("ttc") else 0)
    for row, (_, text) in enumerate(page.lines):
        pen.text((LEFT, TOP + 76 * row), text, fill=15, font=font)
    return np.asarray(image)


def spoiled(page_HW: np.ndarray, quality: str, seed: int) -> np.ndarray:
    if quality == "clean":
        return page_HW
    chance = np.random.default_rng(seed)
    picture = Image.fromarray(page_HW)
    if quality == "noise":
        picture = picture.filter(ImageFilter.GaussianBlur(0.5))
        noisy_HW = np.asarray(picture, dtype=np.float64) * 0.86 + 24
        noisy_HW += chance.normal(0, 16, noisy_HW.shape)
        noisy_HW[chance.random(noisy_HW.shape) < 0.0008] = 40
        stream = io.BytesIO()
        Image.fromarray(np.clip(noisy_HW, 0, 255).astype(np.uint8)).save(stream, "JPEG", quality=45)
        return np.asarray(Image.open(stream).convert("L"))
    turned = picture.rotate(1.0, resample=Image.Resampling.BICUBIC, fillcolor=255)
    soft = turned.filter(ImageFilter.GaussianBlur(1.2))
    pale_HW = np.asarray(soft, dtype=np.float64) * 0.7 + 66 + chance.normal(0, 4, page_HW.shape)
    return np.clip(pale_HW, 0, 255).astype(np.uint8)


def seconds() -> float:
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def by_jangin(page_HW: np.ndarray) -> Reading:
    start = seconds()
    reading = read_page(page_HW, DPI, ("kor",), ("eng",))
    aside = {line.number for line in reading.doubtful if not line.is_kept}
    lines = (reading.complete or reading.text).split("\n")
    return Reading([(text, n in aside) for n, text in enumerate(lines)], seconds() - start)


def by_tesseract(page_HW: np.ndarray, languages: tuple[str, ...]) -> Reading:
    start = seconds()
    output = recognize(page_HW, DPI, languages, 6)
    lines = [(row, False) for row in output.split("\n")[1:] if "\t" not in row]
    return Reading(lines, seconds() - start)


RAPID = """
import sys, json, numpy as np
from PIL import Image
from rapidocr import RapidOCR
engine = RapidOCR()
for line in sys.stdin:
    picture = np.asarray(Image.open(line.strip()).convert("RGB"))
    boxes = engine(picture, use_det=True, use_cls=False, use_rec=False).boxes
    print("BOXES", json.dumps([] if boxes is None else [[list(map(float, p)) for p in b] for b in boxes]), flush=True)
"""  # noqa: E501 - a program in one string


class Rapid:
    """RapidOCR's detector in a process of its own; each line is read by Tesseract."""

    def __init__(self, python: str) -> None:
        self.process = subprocess.Popen(
            [python, "-c", RAPID], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def read(self, page_HW: np.ndarray) -> Reading:
        """One page, line by line."""
        import json

        start = seconds()
        with tempfile.NamedTemporaryFile(suffix=".png") as file:
            Image.fromarray(page_HW).save(file.name)
            assert self.process.stdin
            assert self.process.stdout
            self.process.stdin.write(file.name + "\n")
            self.process.stdin.flush()
            line = ""
            while not line.startswith("BOXES"):
                line = self.process.stdout.readline()
        boxes = [np.array(box) for box in json.loads(line[6:])]
        rows: list[list[np.ndarray]] = []
        for box in sorted(boxes, key=lambda one: one[:, 1].mean()):
            if rows and abs(rows[-1][-1][:, 1].mean() - box[:, 1].mean()) < 20:
                rows[-1].append(box)
            else:
                rows.append([box])
        lines = []
        for row in rows:
            texts = []
            for box in sorted(row, key=lambda one: one[:, 0].min()):
                left, top = np.maximum(box.min(axis=0).astype(int) - 4, 0)
                right, bottom = box.max(axis=0).astype(int) + 4
                crop_HW = np.pad(page_HW[top:bottom, left:right], 20, mode="edge")
                output = recognize(np.ascontiguousarray(crop_HW), DPI, ("kor", "eng"), 7)
                texts += [r for r in output.split("\n")[1:] if "\t" not in r and r.strip()]
            lines.append((" ".join(texts), False))
        return Reading(lines, seconds() - start)


SAME = str.maketrans("‘’“”·ㆍ∙•–—∼～′", "''\"\"····--~~'")


def plain(text: str) -> str:
    text = unicodedata.normalize("NFKC", text.replace("²", "2").replace("³", "3"))
    return re.sub(r"\s", "", text.translate(SAME))


def measure(page: Page, reading: Reading) -> tuple[Counter[str], list[str]]:
    """Counts of tokens, and the wrong ones as text."""
    tokens, truth = [], ""
    for row, (_, line) in enumerate(page.lines):
        for word in line.split(" "):
            tokens.append((row, len(truth), len(truth) + len(plain(word))))
            truth += plain(word)
    read, aside = "", []
    for text, is_aside in reading.lines:
        aside += [is_aside] * len(plain(text))
        read += plain(text)
    at = [0] * (len(truth) + 1)
    wrong = [False] * (len(truth) + 1)
    for tag, a, b, c, d in Levenshtein.opcodes(truth, read):
        for index in range(a, max(b, a + 1)):
            at[index] = min(c + index - a, max(c, d - 1))
            wrong[index] = wrong[index] or tag != "equal"
    counts: Counter[str] = Counter()
    faults = []
    of_line: dict[int, list[tuple[bool, bool]]] = defaultdict(list)
    for row, a, b in tokens:
        inside = [at[index] for index in range(a, b)]
        is_wrong = any(wrong[a:b])
        is_aside = sum(aside[i] for i in inside if i < len(aside)) * 2 > len(inside)
        of_line[row].append((is_wrong, is_aside))
        if is_wrong:
            piece = read[max(0, min(inside) - 1) : max(inside) + 2]
            faults.append(f"{'aside' if is_aside else 'PASSED'} {truth[a:b]} <- {piece}")
    for row, states in of_line.items():
        line_aside = sum(is_aside for _, is_aside in states) * 2 > len(states)
        has_wrong = any(is_wrong for is_wrong, _ in states)
        counts["lines"] += 1
        counts["aside"] += line_aside
        counts["needless lines"] += line_aside and not has_wrong
        if line_aside and not has_wrong:
            faults.append(f"needless {page.lines[row][1]}")
        for is_wrong, is_aside in states:
            counts["tokens"] += 1
            counts["wrong"] += is_wrong
            counts["undetected"] += is_wrong and not is_aside
            counts["needless"] += is_aside and not has_wrong
            counts["beside"] += is_aside and has_wrong and not is_wrong
    return counts, faults


def readers(rapid: str | None) -> Iterator[tuple[str, object]]:
    yield "jangin", by_jangin
    yield "kor", lambda page_HW: by_tesseract(page_HW, ("kor",))
    yield "kor+eng", lambda page_HW: by_tesseract(page_HW, ("kor", "eng"))
    if rapid:
        yield "rapid + kor+eng", Rapid(rapid).read


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--half", choices=("tuned", "held"))
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--rapid")
    parser.add_argument("--show", action="store_true", help="print what is wrong")
    chosen = parser.parse_args()
    every = pages()
    middle = len(every) // 2
    part = {"tuned": every[:middle], "held": every[middle:], None: every}[chosen.half]
    for name, read in readers(chosen.rapid):
        if chosen.only and name not in chosen.only:
            continue
        total: Counter[str] = Counter()
        clock = 0.0
        for quality in QUALITIES:
            counts: Counter[str] = Counter()
            for number, page in enumerate(part):
                reading = read(spoiled(drawn(page), quality, number))
                clock += reading.seconds
                one, faults = measure(page, reading)
                counts += one
                if chosen.show:
                    for fault in faults:
                        print("   ", quality, Path(page.font).stem, fault)
            show(f"{name} {quality}", counts)
            total += counts
        show(f"{name} all", total)
        print(f"{name}: {clock:.1f} s of CPU", flush=True)


def show(name: str, counts: Counter[str]) -> None:
    rates = "  ".join(
        f"{key} {100 * counts[key] / counts['tokens']:5.2f} %"
        for key in ("wrong", "undetected", "needless", "beside")
    )
    print(f"{name:22} {counts['tokens']} tokens  {rates}  lines aside {counts['aside']} "
          f"of {counts['lines']}, {counts['needless lines']} needless", flush=True)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
