"""Tiny random language models of many architectures, with a tokenizer made on the spot.

Two or three blocks of width 32, no files, no network; the same seed gives the same weights.
The weights are larger than a trained model's at the start, so that the logits differ enough
(standard deviation at least 1) for a wrong position or a leaked pad to show.

    from architectures import NAMES, build
    lm = build("llama")
"""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
import transformers
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from workbench.forward import tracing
from workbench.loading.models import LM, load
from workbench.text.tokens import Batch

WIDTH = 32
DEPTH = 3
CONTEXT = 128

SENTENCES = (
    "The old fox walked slowly through the snow and looked for his brother.",
    "A girl and her dog went to the river. They were happy there all day.",
    "Please tell me a story about a king who lost his golden crown.",
    "I am very sad today, said the bird, because the wind took my nest.",
    "You are a helpful assistant. Answer the question with yes or no.",
    "What is the name of the red house near the sea? It is called Wren.",
)

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

SPECIAL = ("<pad>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of 320 tokens with a chat template; it can encode any text."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=list(SPECIAL[3:]),
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


@cache
def metaspace_tokenizer() -> PreTrainedTokenizerFast:
    """A BPE of at most 400 tokens that writes spaces as "▁" and puts one before every text, as
    SentencePiece does for Llama 2; unknown letters become bytes. It has no chat template."""
    pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    bpe = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bpe.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", left=1, right=0),
        ]
    )
    # Merges within words alone, as a tokenizer without a pre-tokenizer would learn sentences whole.
    bpe.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<unk>", "<s>", "</s>", *pieces], show_progress=False
    )
    bpe.train_from_iterator(SENTENCES, trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", bpe.token_to_id("<s>"))]
    )
    # Bytes are ordinary tokens: as special ones they would be left out of decoded texts.
    made = json.loads(bpe.to_str())
    made["added_tokens"] = [t for t in made["added_tokens"] if t["content"] not in pieces]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(made)),
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<unk>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


@cache
def wordpiece_tokenizer() -> PreTrainedTokenizerFast:
    """Words and their ends ("##ing"), as BERT writes them; spaces stand between words only."""
    words = Tokenizer(models.WordPiece(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.decoder = decoders.WordPiece(cleanup=True)
    trainer = trainers.WordPieceTrainer(
        vocab_size=200, special_tokens=["<unk>", "</s>"], show_progress=False
    )
    words.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", eos_token="</s>", pad_token="</s>"
    )


_LLAMA: Mapping[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
}
_PLAIN: Mapping[str, Any] = {**_LLAMA, "num_key_value_heads": 4}
_GPT2: Mapping[str, Any] = {"n_embd": WIDTH, "n_layer": DEPTH, "n_head": 4, "n_positions": CONTEXT}
_EXPERTS: Mapping[str, Any] = {**_LLAMA, "num_experts_per_tok": 2}

# Per architecture: the config class and its sizes. Sliding windows are shorter than the
# texts of the tests, so that they matter.
_CONFIGS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "llama": ("LlamaConfig", _LLAMA),
    "mistral": ("MistralConfig", {**_LLAMA, "sliding_window": 8}),
    "mixtral": ("MixtralConfig", {**_EXPERTS, "num_local_experts": 4}),
    "qwen2": ("Qwen2Config", _LLAMA),
    "qwen3": ("Qwen3Config", {**_LLAMA, "head_dim": 8}),
    "qwen3_moe": (
        "Qwen3MoeConfig",
        {**_EXPERTS, "head_dim": 8, "num_experts": 4, "moe_intermediate_size": 32},
    ),
    "gemma2": (
        "Gemma2Config",
        {**_LLAMA, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 8},
    ),
    "gemma3": (
        "Gemma3TextConfig",
        {
            **_LLAMA,
            "head_dim": 8,
            "query_pre_attn_scalar": 8,
            "sliding_window": 8,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        },
    ),
    "phi": ("PhiConfig", _PLAIN),
    "phi3": ("Phi3Config", _LLAMA),
    "gpt2": ("GPT2Config", _GPT2),
    "gpt_neox": ("GPTNeoXConfig", {k: v for k, v in _PLAIN.items() if "key_value" not in k}),
    "gptj": ("GPTJConfig", {**_GPT2, "rotary_dim": 4}),
    "opt": (
        "OPTConfig",
        {
            "hidden_size": WIDTH,
            "ffn_dim": 64,
            "num_hidden_layers": DEPTH,
            "num_attention_heads": 4,
            "max_position_embeddings": CONTEXT,
            "word_embed_proj_dim": WIDTH,
        },
    ),
    "bloom": ("BloomConfig", {"hidden_size": WIDTH, "n_layer": DEPTH, "n_head": 4}),
    "falcon": (
        "FalconConfig",
        {
            "hidden_size": WIDTH,
            "num_hidden_layers": DEPTH,
            "num_attention_heads": 4,
            "max_position_embeddings": CONTEXT,
        },
    ),
    "olmo2": ("Olmo2Config", _LLAMA),
    "granite": ("GraniteConfig", _LLAMA),
    "cohere": ("CohereConfig", {**_LLAMA, "logit_scale": 1.0}),
    "smollm3": ("SmolLM3Config", {**_LLAMA, "no_rope_layer_interval": 2}),
    "stablelm": ("StableLmConfig", _LLAMA),
    "mpt": (
        "MptConfig",
        {"d_model": WIDTH, "n_layers": DEPTH, "n_heads": 4, "max_seq_len": CONTEXT},
    ),
}

NAMES = tuple(_CONFIGS)
# Their experts multiply the tokens of several rows together.
MIXTURES_OF_EXPERTS = ("mixtral", "qwen3_moe")


def config(name: str) -> transformers.PreTrainedConfig:
    """A tiny config of the architecture `name`, one of `NAMES`."""
    words = tokenizer()
    kind, sizes = _CONFIGS[name]
    return getattr(transformers, kind)(
        **sizes,
        vocab_size=len(words),
        pad_token_id=words.pad_token_id,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
    )


@cache
def build(name: str, seed: int = 0) -> LM:
    """A tiny random model of the architecture `name`, in float32 and evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config(name), dtype=torch.float32)
        _enlarge(model)
    model.eval()
    return load(model, tokenizer=tokenizer())


def logits(lm: LM, texts: tuple[str, ...] = SENTENCES[:2]) -> torch.Tensor:
    """The model's logits (tokens, V) over `texts`, one at a time, unpadded."""
    with torch.no_grad():
        rows = [lm.model(**lm.tokenizer(text, return_tensors="pt")).logits[0] for text in texts]
    return torch.cat(rows)


def steered_logits(lm: LM, batch: Batch, edits: Any = (), **how: Any) -> torch.Tensor:
    """Next-token logits (B, T, V) of a batch, or (B, keep, V) of its last columns."""
    with torch.no_grad():
        return tracing.forward(lm, batch, edits, lambda logits: logits, **how)


def _enlarge(model: transformers.PreTrainedModel) -> None:
    """Draw matrices with entries of 1 / sqrt(fan in) and all else near its first value.

    Every block then changes the residual stream by about its own size, attention is far
    from uniform, and biases and norms, which start as 0 and 1, differ from entry to entry.
    Doubling the output matrix gives logits of a standard deviation of about 2.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn_like(parameter)
            if parameter.ndim > 1:
                parameter.copy_(noise / parameter.shape[-1] ** 0.5)
            else:
                parameter.add_(0.1 * noise)
        head = model.get_output_embeddings()
        assert isinstance(head, torch.nn.Linear)
        head.weight.mul_(2)
