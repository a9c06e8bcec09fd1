"""Saves a tiny Stable Diffusion pipeline: random weights, an alphabet as vocabulary, 0.3 MB.

Run as a program, so that the tests' own process never loads PyTorch.
"""

import json
import string
import sys
from importlib import import_module
from pathlib import Path

BEGIN, END = "<|startoftext|>", "<|endoftext|>"


def save(folder):
    torch, diffusers, transformers = (import_module(name) for name in ("torch", "diffusers", "transformers"))
    torch.manual_seed(0)
    shape = {"block_out_channels": (4, 8), "norm_num_groups": 2}
    unet = diffusers.UNet2DConditionModel(
        layers_per_block=1,
        sample_size=32,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=2,
        **shape,
    )
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        **shape,
    )
    words = vocabulary()
    text = transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        bos_token_id=words[BEGIN],
        eos_token_id=words[END],
    )
    pipeline = diffusers.StableDiffusionPipeline(
        vae=vae,
        text_encoder=transformers.CLIPTextModel(text),
        tokenizer=tokenizer(transformers, folder / "alphabet", words),
        unet=unet,
        scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder / "tiny-pipeline")


def vocabulary():
    letters = [*string.ascii_lowercase, *string.digits]
    words = [*letters, *(f"{letter}</w>" for letter in letters), BEGIN, END]
    return {word: number for number, word in enumerate(words)}


def tokenizer(transformers, folder, words):
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return transformers.CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77, unk_token=END, pad_token=END
    )


if __name__ == "__main__":
    save(Path(sys.argv[1]))
