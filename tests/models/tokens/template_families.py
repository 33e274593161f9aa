"""Chat templates that behave like those of public model families, and what is special about each.

They are written here, compactly; `control` are the special tokens, the last of which is EOS.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Family:
    template: str
    control: tuple[str, ...]
    stop: str
    """What ends a trained answer."""
    settings: dict = field(default_factory=dict)
    adds_bos: bool = False
    shares_turns: bool = True
    """Whether a conversation of several trained turns is one row."""


CHATML = ("<|im_start|>", "<|im_end|>")
ROLE = "{{ '<|im_start|>' + m['role'] + '\\n' }}"
ASK = "{% if add_generation_prompt %}"

THINKING_PRELUDE = Family(  # Qwen3: an empty thought in the prompt, and none in earlier turns
    "{% for m in messages %}" + ROLE + "{% set c = m['content'] %}"
    "{% if m['role'] == 'assistant' %}{% set c = c.split('</think>')[-1].lstrip('\\n') %}"
    "{% if loop.last %}{% if '</think>' in m['content'] %}{{ '<think>\\n' + "
    "m['content'].split('</think>')[0].split('<think>')[-1].strip('\\n') + '\\n</think>\\n\\n' }}"
    "{% else %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}{% endif %}"
    "{{ c + '<|im_end|>\\n' }}{% endfor %}"
    + ASK
    + "{{ '<|im_start|>assistant\\n' }}{% if enable_thinking is defined and not enable_thinking %}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}",
    CHATML,
    "<|im_end|>",
    shares_turns=False,
)
ALWAYS_THINKS = Family(  # DeepSeek-R1 distills, QwQ: the prompt begins a thought
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{{ '<|Assistant|>' + m['content'].split('</think>')[-1] + '<|end_of_sentence|>' }}"
    "{% else %}{{ ('<|User|>' if m['role'] == 'user' else '') + m['content'] }}{% endif %}"
    "{% endfor %}" + ASK + "{{ '<|Assistant|><think>\\n' }}{% endif %}",
    ("<|User|>", "<|Assistant|>", "<|end_of_sentence|>"),
    "<|end_of_sentence|>",
    shares_turns=False,
)
OTHER_TAG = Family(  # EXAONE Deep
    "{% for m in messages %}{{ '[|' + m['role'] + '|]' }}"
    "{% if m['role'] == 'assistant' %}{{ m['content'].split('</thought>')[-1].lstrip() }}"
    "{% else %}{{ m['content'] }}{% endif %}{{ '[|endofturn|]\\n' }}{% endfor %}"
    + ASK
    + "{{ '[|assistant|]<thought>\\n' }}{% endif %}",
    ("[|system|]", "[|user|]", "[|assistant|]", "[|endofturn|]"),
    "[|endofturn|]",
    shares_turns=False,
)
THOUGHT_CHANNEL = Family(  # Gemma 4: the prompt ends with an empty channel that history lacks
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\\n' }}"
    "{{ m['content'] + '<turn|>\\n' }}{% endfor %}"
    + ASK
    + "{{ '<|turn>model\\n' }}{% if not (enable_thinking | default(false)) %}"
    "{{ '<|channel>thought\\n<channel|>' }}{% endif %}{% endif %}",
    ("<|turn>", "<|channel>", "<channel|>", "<turn|>"),
    "<turn|>",
    shares_turns=False,
)
NEXT_USER_STOPS = Family(  # GLM-4: nothing ends a turn but the next one
    "[gMASK]<sop>{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] }}"
    "{% endfor %}" + ASK + "{{ '<|assistant|>\\n' }}{% endif %}",
    ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|endoftext|>"),
    "<|user|>",
    settings={"stop": "<|user|>"},
)
NOTHING_STOPS = Family(  # SOLAR 10.7B
    "{% for m in messages %}{{ '### ' + m['role'] | title + ':\\n' + m['content'] + '\\n\\n' }}"
    "{% endfor %}" + ASK + "{{ '### Assistant:\\n' }}{% endif %}",
    ("</s>",),
    "</s>",
    shares_turns=False,
)
SYSTEM_IN_LAST_USER = Family(  # Mistral v0.3, Nemo: gone once an answer follows
    "{{ bos_token }}{% set s = '' %}{% set turns = messages %}"
    "{% if messages[0]['role'] == 'system' %}{% set s = messages[0]['content'] + '\\n\\n' %}"
    "{% set turns = messages[1:] %}{% endif %}{% for m in turns %}{% if m['role'] == 'user' %}"
    "{{ '[INST]' + (s if loop.last else '') + m['content'] + '[/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + '</s>' }}{% endif %}{% endfor %}",
    ("[INST]", "[/INST]", "</s>"),
    "</s>",
)
EOS_AT_THE_END = Family(  # Phi-3.5, Phi-4-mini
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + '<|end|>\\n' }}"
    "{% endfor %}" + ASK + "{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}",
    ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"),
    "<|end|>\n<|endoftext|>",
    shares_turns=False,
)
HARMONY = Family(  # gpt-oss: a channel before the answer, the date, macros that call macros
    "{% macro head() %}{{ 'Date: ' + strftime_now('%Y-%m-%d') + '\\nReasoning: ' + "
    "(reasoning_effort | default('medium')) }}{% endmacro %}{% macro system() %}"
    "{{ '<|start|>system<|message|>' + head() + '<|end|>' }}{% endmacro %}{{ system() }}"
    "{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{{ '<|start|>assistant<|channel|>final<|message|>' + m['content'] }}"
    "{{ '<|return|>' if loop.last else '<|end|>' }}{% else %}"
    "{{ '<|start|>' + m['role'] + '<|message|>' + m['content'] + '<|end|>' }}{% endif %}"
    "{% endfor %}" + ASK + "{{ '<|start|>assistant' }}{% endif %}",
    ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>"),
    "<|return|>",
    shares_turns=False,
)
DATED = Family(  # Llama 3.2, Granite
    "{{ bos_token }}{% if not date_string is defined %}{% if strftime_now is defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}{% else %}"
    "{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}"
    "{{ '<|head|>system\\nToday: ' + date_string + '<|eot|>' }}"
    "{% for m in messages %}{{ '<|head|>' + m['role'] + '\\n' + m['content'] | trim + '<|eot|>' }}"
    "{% endfor %}" + ASK + "{{ '<|head|>assistant\\n' }}{% endif %}",
    ("<|head|>", "<|eot|>"),
    "<|eot|>",
)
NO_BOS = Family(  # Zephyr: the tokenizer adds BOS, the template writes none
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + eos_token + '\\n' }}"
    "{% endfor %}" + ASK + "{{ '<|assistant|>\\n' }}{% endif %}",
    ("</s>",),
    "</s>",
    adds_bos=True,
)
DROPS_THOUGHTS = Family(  # EXAONE 4: even those of the last answer
    "{% for m in messages %}{{ '[|' + m['role'] + '|]\\n' }}{% if m['role'] == 'assistant' %}"
    "{{ '<think>\\n\\n</think>\\n\\n' + m['content'].split('</think>')[-1].strip() }}"
    "{% else %}{{ m['content'] }}{% endif %}{{ '[|endofturn|]\\n' }}{% endfor %}"
    + ASK
    + "{{ '[|assistant|]\\n<think>\\n' }}{% if not (enable_thinking | default(false)) %}"
    "{{ '\\n</think>\\n\\n' }}{% endif %}{% endif %}",
    ("[|system|]", "[|user|]", "[|assistant|]", "[|endofturn|]"),
    "[|endofturn|]",
)

FAMILIES = {
    "thinking_prelude": THINKING_PRELUDE,
    "always_thinks": ALWAYS_THINKS,
    "other_tag": OTHER_TAG,
    "thought_channel": THOUGHT_CHANNEL,
    "next_user_stops": NEXT_USER_STOPS,
    "nothing_stops": NOTHING_STOPS,
    "system_in_last_user": SYSTEM_IN_LAST_USER,
    "eos_at_the_end": EOS_AT_THE_END,
    "harmony": HARMONY,
    "dated": DATED,
    "no_bos": NO_BOS,
    "drops_thoughts": DROPS_THOUGHTS,
}
