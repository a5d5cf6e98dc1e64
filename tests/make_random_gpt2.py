"""Save a tiny random GPT-2 with a tokenizer of its own: `python tests/make_random_gpt2.py PATH`.

For running the notebooks on a model that nothing in this project was made for. The same bytes at
every run.
"""

import sys
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

END = "<|endoftext|>"


def corpus() -> list[str]:
    """Text to learn a vocabulary from: the pairs that ship with the package, else a few lines."""
    data = Path(__file__).resolve().parents[1] / "workbench" / "data"
    lines = [
        line
        for path in sorted(data.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return lines or ["Once upon a time there was a little dog who liked to sing in the rain."]


def save(path: Path, *, seed: int = 0, layers: int = 4, width: int = 64) -> None:
    """Write model and tokenizer to `path`.

    Weights are drawn with standard deviation 0.3 rather than GPT-2's 0.02, so that logits differ
    by more than 1 and one token is not as good as the next.
    """
    learner = ByteLevelBPETokenizer()
    learner.train_from_iterator(corpus(), vocab_size=800, min_frequency=2, special_tokens=[END])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=learner._tokenizer, bos_token=END, eos_token=END
    )
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=512,
        n_embd=width,
        n_layer=layers,
        n_head=4,
        initializer_range=0.3,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    GPT2LMHeadModel(config).eval().save_pretrained(path)
    tokenizer.save_pretrained(path)


if __name__ == "__main__":
    save(Path(sys.argv[1]))
