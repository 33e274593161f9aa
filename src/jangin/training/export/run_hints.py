"""How an exported model is run with transformers, vLLM and Ollama: a section of its card."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Form = Literal["adapter", "merged", "gguf"]
AUTO = "AutoModelForCausalLM"

_QUESTION = "..."


@dataclass(frozen=True, slots=True)
class Loading:
    """How transformers loads the weights."""

    model: str = AUTO
    """Its class."""
    runs_code: bool = False
    """Whether the model brings Python code of its own."""

    def call(self, path: str, model: str) -> str:
        """Python that loads a folder or hub id with a class."""
        trust = ", trust_remote_code=True" if self.runs_code else ""
        return f'{model}.from_pretrained("{path}"{trust})'


PLAIN = Loading()


def run_hints(form: Form, name: str, base: str | Path = "", loading: Loading = PLAIN) -> str:
    """Markdown with one block per program.

    `name` is that of the export's folder, `base` an adapter's base: an id of the hub, or its folder
    on this machine.
    """
    blocks = _blocks(form, name, base, loading)
    return "\n\n".join((*blocks, *(_base_note(base) if isinstance(base, Path) else ())))


def _blocks(form: Form, name: str, base: str | Path, loading: Loading) -> list[str]:
    if form == "gguf":
        run = f"ollama create {name} -f Modelfile\nollama run {name}"
        server = f"llama-server -m {name}.gguf --jinja"
        return [
            f"Ollama:\n\n```sh\n{run}\n```",
            f"llama.cpp:\n\n```sh\n{server}\n```",
            "transformers and vLLM run the model that `jangin merge FOLDER` writes.",
        ]
    return [
        f"transformers:\n\n```python\n{_transformers(form, name, base, loading)}\n```",
        f"vLLM:\n\n```sh\n{_vllm(form, name, base, loading)}\n```",
        "Ollama reads GGUF: export with `jangin merge FOLDER --format gguf --quantize q8_0`, which "
        "writes a Modelfile as well.",
    ]


def _transformers(form: Form, name: str, base: str | Path, loading: Loading) -> str:
    if form == "merged":
        imports = [f"from transformers import {loading.model}, AutoTokenizer"]
        model = loading.call(name, loading.model)
    elif loading.model == AUTO:
        peft_model = "AutoPeftModelForCausalLM"
        imports = ["from transformers import AutoTokenizer", f"from peft import {peft_model}"]
        model = loading.call(name, peft_model)
    else:  # PEFT's own class loads only what `AutoModelForCausalLM` knows
        imports = [f"from transformers import AutoTokenizer, {loading.model}"]
        imports += ["from peft import PeftModel"]
        model = f'PeftModel.from_pretrained({loading.call(str(base), loading.model)}, "{name}")'
    return "\n".join(
        (
            *imports,
            "",
            f"model = {model}",
            f'tokenizer = AutoTokenizer.from_pretrained("{name}")',
            f'messages = [{{"role": "user", "content": "{_QUESTION}"}}]',
            "inputs = tokenizer.apply_chat_template(",
            '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True',
            ")",
            "answer = model.generate(**inputs, do_sample=False, max_new_tokens=256)",
            'print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1]:]))',
        )
    )


def _vllm(form: Form, name: str, base: str | Path, loading: Loading) -> str:
    trust = " --trust-remote-code" if loading.runs_code else ""
    if form == "adapter":
        return f"vllm serve {base} --enable-lora --lora-modules {name}={name}{trust}"
    return f"vllm serve {name}{trust}"


def _base_note(base: Path) -> list[str]:
    return [
        f"The base model of this adapter is the folder `{base}` of the machine that exported it. "
        "Elsewhere, copy that folder as well and write its new path into `adapter_config.json` as "
        "`base_model_name_or_path`."
    ]
