"""One contestant in a process of its own: `contestant.py NAME FOLDER` writes FOLDER/NAME.json."""

import json
import sys
import time
from pathlib import Path

import numpy as np

MOST = 5


def clock(began):
    return time.process_time() - began


def ours(name, material, result):
    from jangin.documents.bm25 import Bm25, PassageIndex
    from jangin.text.korean import bigrams, kiwi, morphemes

    texts, questions = material["texts"], material["questions"]
    kiwi().tokenize("예열")
    began = time.process_time()
    terms = [
        (list(morphemes(kind)), [bigrams(text) for text in kind]) for kind in (texts, questions)
    ]
    result["analyse_s"] = clock(began)
    began = time.process_time()
    parts = [Bm25.build(terms[0][0]), Bm25.build(terms[0][1])]
    result["index_s"] = clock(began)
    began = time.process_time()
    tables = [
        (part.queries(asked) @ part.weights.T).toarray()
        for part, asked in zip(parts, terms[1], strict=True)
    ]
    if name == "ours-z-sum":
        tables = [
            (t - t.mean(1, keepdims=True)) / (t.std(1, keepdims=True) + 1e-12) for t in tables
        ]
    used = {"ours-morphemes": tables[:1], "ours-bigrams": tables[1:]}.get(name, tables)
    best = np.argsort(-sum(used), axis=1, kind="stable")[:, :MOST]
    result["search_s"] = clock(began)
    result["best"] = best.tolist()
    if name == "ours":  # the product's own door gives the same
        found = PassageIndex(len(texts), tuple(parts)).search(questions[:200], MOST)
        places = [[hit.index for hit in hits] for hits in found]
        assert [row[0] for row in places] == [row[0] for row in result["best"][:200]]
    result["terms"] = [terms[0][0], terms[1][0]]


def peer(name, material, result, folder):
    engine, _, unit = name.partition("-")
    if unit == "words":
        began = time.process_time()
        terms = [[text.split() for text in material[key]] for key in ("texts", "questions")]
        result["analyse_s"] = clock(began)
    else:
        given = json.loads((folder / "ours.json").read_text())
        terms, result["analyse_s"] = given["terms"], given["analyse_s"]
    texts, questions = terms
    if engine == "rank_bm25":
        from rank_bm25 import BM25Okapi

        began = time.process_time()
        index = BM25Okapi(texts)
        result["index_s"] = clock(began)
        began = time.process_time()
        best = [np.argsort(-index.get_scores(asked), kind="stable")[:MOST] for asked in questions]
    else:
        import bm25s

        began = time.process_time()
        index = bm25s.BM25()
        index.index(texts, show_progress=False)
        result["index_s"] = clock(began)
        began = time.process_time()
        best, _ = index.retrieve(questions, k=MOST, show_progress=False)
    result["search_s"] = clock(began)
    result["best"] = np.asarray(best).tolist()


def encode(name, material, result, folder):
    import torch

    torch.set_num_threads(1)
    if name == "encode-ours":
        from jangin.core.ledger import Ledger
        from jangin.core.model_protocols import LocalEncoder
        from jangin.inference.encoder import open_encoder

        config = LocalEncoder(type="local", path=Path(material["weights"]))
        encoder = open_encoder(config, folder, Ledger(folder / "ledger.sqlite"))

        def vectors(texts):
            return encoder.encode(texts, "passage")
    else:
        from sentence_transformers import SentenceTransformer

        vectors = SentenceTransformer(material["weights"], device="cpu").encode
    vectors(["warm up"])
    began = time.process_time()
    found = vectors(material["texts"])
    result["encode_s"] = clock(began)
    np.save(folder / f"{name}.npy", found)


def main():
    name, folder = sys.argv[1], Path(sys.argv[2])
    material = json.loads((folder / "material.json").read_text())
    result = {}
    if name.startswith("encode"):
        encode(name, material, result, folder)
    elif name.startswith("ours"):
        ours(name, material, result)
    else:
        peer(name, material, result, folder)
    (folder / f"{name}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
