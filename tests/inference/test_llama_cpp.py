import pytest

from jangin.core.errors import MachineError
from jangin.inference.llama_cpp import (
    GgufModel,
    LlamaCppCrashError,
    check_llama_cpp,
    quantize_file,
)

STAND_IN = """
import os, shutil, signal, sys, types
CRASH = {crash!r}

def die(where):
    if CRASH == where:
        print("ggml.c:1: GGML_ASSERT(ok) failed.", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGILL)

die("import")
class llama_cpp:
    @staticmethod
    def llama_model_default_params(): return types.SimpleNamespace(use_extra_bufts=True)
LLAMA_FTYPE_MOSTLY_Q4_K_M = 15
def llama_log_callback(function): return function
def llama_log_set(callback, data): print("llama.cpp writes where it likes", flush=True)
def llama_model_quantize_default_params():
    import ctypes
    return type("Params", (ctypes.Structure,), dict(_fields_=[("ftype", ctypes.c_int)]))()
def llama_model_quantize(source, target, settings):
    die("quantize")
    if b"damaged" in source:
        return 1
    shutil.copy(source, target)
    return 0

class Llama:
    def __init__(self, model_path, n_threads, n_threads_batch, **settings):
        assert n_threads == n_threads_batch
        self.threads = n_threads or 99
        die("open")
        if llama_cpp.llama_model_default_params().use_extra_bufts:
            os.kill(os.getpid(), signal.SIGSEGV)  # as llama.cpp's products on AMX tiles
        if not os.path.exists(model_path):
            raise ValueError("no such file")
    def tokenize(self, text, add_bos, special):
        return list(text)
    def reset(self):
        pass
    def generate(self, prompt, **settings):
        die("answer")
        yield from range(prompt[-1] + 1 or self.threads, 1000)
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a package `llama_cpp` that counts, and dies where it is told to."""

    def stand_in(crash=""):
        (tmp_path / "llama_cpp.py").write_text(STAND_IN.format(crash=crash))
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "m.gguf").write_bytes(b"GGUF")
        return tmp_path / "m.gguf"

    return stand_in


def test_a_file_is_tokenized_and_answers_in_another_process(install):
    with GgufModel(install(), 64) as model:
        assert model.tokenize("가\n") == [234, 176, 128, 10]
        assert model.answer([1, 5], 3, {9}) == [6, 7, 8]
        assert model.answer([1, 5], 9, {9, 7}) == [6, 7]


def test_llama_cpp_takes_as_many_threads_as_torch_is_told_to(install, monkeypatch):
    path = install()
    for count, threads in (("3", 3), ("", None), ("2,1", None)):
        monkeypatch.setenv("OMP_NUM_THREADS", count)
        with GgufModel(path, 64) as model:
            assert model.answer([-1], 1, ()) == [threads or 99]


def test_a_file_that_llama_cpp_refuses_is_named(install):
    path = install().with_name("other.gguf")
    with pytest.raises(MachineError, match=r"other\.gguf: no such file"):
        GgufModel(path, 64)


def test_a_file_is_quantized_and_a_failure_names_the_status(install, tmp_path):
    quantize_file(install(), tmp_path / "small.gguf", "q4_k_m")
    assert (tmp_path / "small.gguf").read_bytes() == b"GGUF"
    with pytest.raises(MachineError, match=r"q4_k_m \(status 1\)"):
        quantize_file(tmp_path / "damaged.gguf", tmp_path / "new.gguf", "q4_k_m")


def test_a_crash_is_one_sentence_with_the_signal_the_file_and_a_remedy(install, tmp_path):
    what = r"SIGILL\) when it loaded m\.gguf: .*GGML_ASSERT\(ok\) failed\..*GGML_NATIVE"
    with pytest.raises(LlamaCppCrashError, match=what):
        GgufModel(install("open"), 64)
    install("answer")
    with (
        GgufModel(tmp_path / "m.gguf", 64) as model,
        pytest.raises(LlamaCppCrashError, match=r"SIGILL\) when it answered .*m\.gguf"),
    ):
        model.answer([1], 3, ())
    install("quantize")
    with pytest.raises(LlamaCppCrashError, match=r"SIGILL\) when it wrote small\.gguf"):
        quantize_file(tmp_path / "m.gguf", tmp_path / "small.gguf", "q4_k_m")


def test_a_library_that_crashes_or_is_missing_is_found_before_any_work(install, tmp_path):
    install("import")
    with pytest.raises(LlamaCppCrashError, match="SIGILL"):
        check_llama_cpp()
    (tmp_path / "llama_cpp.py").write_text("import that_is_nowhere")
    with pytest.raises(MachineError, match=r"jangin\[llamacpp\].*that_is_nowhere"):
        check_llama_cpp()
