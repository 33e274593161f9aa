"""How an exported model is run with transformers, vLLM and Ollama: a section of its card."""

from pathlib import Path
from typing import Literal

Form = Literal["adapter", "merged", "gguf"]

_QUESTION = "..."


def run_hints(form: Form, name: str, base: str | Path = "") -> str:
    """Markdown with one block per program.

    `name` is that of the export's folder, `base` an adapter's base: an id of the hub, or its folder
    on this machine.
    """
    blocks = _blocks(form, name, base)
    return "\n\n".join((*blocks, *(_base_note(base) if isinstance(base, Path) else ())))


def _blocks(form: Form, name: str, base: str | Path) -> list[str]:
    if form == "gguf":
        run = f"ollama create {name} -f Modelfile\nollama run {name}"
        server = f"llama-server -m {name}.gguf --jinja"
        return [
            f"Ollama:\n\n```sh\n{run}\n```",
            f"llama.cpp:\n\n```sh\n{server}\n```",
            "transformers and vLLM run the model that `jangin merge FOLDER` writes.",
        ]
    return [
        f"transformers:\n\n```python\n{_transformers(form, name)}\n```",
        f"vLLM:\n\n```sh\n{_vllm(form, name, base)}\n```",
        "Ollama reads GGUF: export with `jangin merge FOLDER --format gguf --quantize q8_0`, which "
        "writes a Modelfile as well.",
    ]


def _transformers(form: Form, name: str) -> str:
    package, model = (
        ("peft", "AutoPeftModelForCausalLM")
        if form == "adapter"
        else ("transformers", "AutoModelForCausalLM")
    )
    imports = ["from transformers import AutoTokenizer", f"from {package} import {model}"]
    return "\n".join(
        (
            *(
                imports
                if form == "adapter"
                else [f"from transformers import {model}, AutoTokenizer"]
            ),
            "",
            f'model = {model}.from_pretrained("{name}")',
            f'tokenizer = AutoTokenizer.from_pretrained("{name}")',
            f'messages = [{{"role": "user", "content": "{_QUESTION}"}}]',
            "inputs = tokenizer.apply_chat_template(",
            '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True',
            ")",
            "answer = model.generate(**inputs, do_sample=False, max_new_tokens=256)",
            'print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1]:]))',
        )
    )


def _vllm(form: Form, name: str, base: str | Path) -> str:
    if form == "adapter":
        return f"vllm serve {base} --enable-lora --lora-modules {name}={name}"
    return f"vllm serve {name}"


def _base_note(base: Path) -> list[str]:
    return [
        f"The base model of this adapter is the folder `{base}` of the machine that exported it. "
        "Elsewhere, copy that folder as well and write its new path into `adapter_config.json` as "
        "`base_model_name_or_path`."
    ]
