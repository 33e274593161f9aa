import json

import pytest
from transformers import GPT2Config, LlamaConfig, MambaConfig, RobertaConfig

from jangin.models.shape import UNLIMITED, context_length, read_context_length


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        (LlamaConfig(max_position_embeddings=77), 77),
        (GPT2Config(n_positions=33), 33),
        (RobertaConfig(max_position_embeddings=514, pad_token_id=1), 512),
        (MambaConfig(), None),
    ],
    ids=["llama", "gpt2", "roberta", "mamba"],
)
def test_context_length_is_the_same_from_the_object_and_from_its_file(config, tokens, tmp_path):
    config.save_pretrained(tmp_path / "model")
    content = json.loads((tmp_path / "model" / "config.json").read_text())
    assert context_length(config) == context_length(content) == tokens
    assert read_context_length(tmp_path) == (tokens or UNLIMITED)


def test_the_text_part_of_a_multimodal_config_counts():
    config = {"model_type": "gemma3", "text_config": {"max_position_embeddings": 9}}
    assert context_length(config) == 9
