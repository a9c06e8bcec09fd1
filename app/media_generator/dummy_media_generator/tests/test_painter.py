"""The demo model's painter keeps its promises about pixels, words, progress and files."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from app.media_generator.dummy_media_generator.painter import STYLES, Painting, choose_style, encode, paint
from app.media_generator.dummy_media_generator.palettes import PALETTES, choose_palette, palette_named
from app.media_generator.dummy_media_generator.words import best_match, stable_number


def painted(**changes):
    order = {"prompt": "a test", "seed": 7, "width": 96, "height": 96} | changes
    return paint(Painting(**order), lambda _: None)


def digest(pixels):
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def test_there_are_at_least_seven_styles():
    assert len(STYLES) >= 7
    assert len(set(STYLES)) == len(STYLES)


@pytest.mark.parametrize("style", STYLES)
def test_the_same_prompt_and_seed_give_the_same_pixels(style):
    assert np.array_equal(painted(style=style), painted(style=style))


def test_pixels_are_the_same_in_another_process():
    script = (
        "import hashlib\n"
        "from app.media_generator.dummy_media_generator.painter import STYLES, Painting, paint\n"
        "for style in (*STYLES, None):\n"
        "    pixels = paint(Painting('a test', 7, 96, 96, style), lambda _: None)\n"
        "    print(hashlib.sha256(pixels.tobytes()).hexdigest())\n"
    )
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.split() == [digest(painted(style=style)) for style in (*STYLES, None)]


@pytest.mark.parametrize("style", STYLES)
def test_another_seed_gives_another_picture(style):
    first, second = painted(style=style, seed=1), painted(style=style, seed=2)
    assert np.abs(first.astype(int) - second.astype(int)).mean() > 3


@pytest.mark.parametrize("style", STYLES)
def test_another_prompt_gives_another_picture(style):
    assert digest(painted(style=style, prompt="one")) != digest(painted(style=style, prompt="two"))


@pytest.mark.parametrize("size", [(64, 64), (2048, 64), (64, 2048), (65, 777)])
@pytest.mark.parametrize("style", STYLES)
def test_every_style_fills_every_size(style, size):
    pixels = painted(style=style, width=size[0], height=size[1])
    assert pixels.shape == (size[1], size[0], 3)
    assert pixels.dtype == np.uint8
    assert pixels.std() > 8


@pytest.mark.parametrize("palette", PALETTES)
@pytest.mark.parametrize("style", STYLES)
def test_no_style_is_flat_in_any_palette(style, palette):
    prompt = next(word for word in (palette, f"{palette} colours") if choose_palette(word, 0) == palette)
    assert painted(style=style, prompt=prompt, width=64, height=64).std() > 8


@pytest.mark.parametrize("style", STYLES)
def test_composition_is_independent_of_size(style):
    small = painted(style=style, width=160, height=160).astype(float)
    large = painted(style=style, width=320, height=320).astype(float)
    halved = large.reshape(160, 2, 160, 2, 3).mean(axis=(1, 3))
    # Blocks of 8 x 8 leave out what only the finer picture can show.
    blocks = np.abs((small - halved).reshape(20, 8, 20, 8, 3).mean(axis=(1, 3)))
    assert blocks.mean() < 8


@pytest.mark.parametrize(
    ("prompt", "style"),
    [
        ("the stormy SEA", "waves"),
        ("oceans", "waves"),
        ("mountains in the mist", "ridges"),
        ("a distant galaxy", "nebula"),
        ("my city", "skyline"),
        ("flowers for you", "bloom"),
        ("northern lights", "aurora"),
        ("camels and a dune", "dunes"),
        ("stained-glass window", "mosaic"),
        ("a bauhaus poster", "bauhaus"),
    ],
)
def test_prompt_words_choose_the_style(prompt, style):
    assert {choose_style(prompt, seed) for seed in range(5)} == {style}


@pytest.mark.parametrize(
    ("prompt", "palette"),
    [
        ("waves at sunset", "sunset"),
        ("the deep ocean", "ocean"),
        ("a forest path", "forest"),
        ("on fire", "fire"),
        ("at night", "night"),
        ("autumn leaves by the sea", "autumn"),
        ("pastel shapes", "pastel"),
        ("NEON!", "neon"),
        ("monochrome", "mono"),
    ],
)
def test_prompt_words_choose_the_palette(prompt, palette):
    assert {choose_palette(prompt, seed) for seed in range(5)} == {palette}


def test_without_matching_words_the_seed_chooses_style_and_palette():
    assert {choose_style("qwerty", seed) for seed in range(300)} == set(STYLES)
    assert {choose_palette("qwerty", seed, ("neon", "dawn")) for seed in range(50)} == {"neon", "dawn"}


def test_stable_number_does_not_change_between_versions():
    assert stable_number("style", "qwerty", 7) == 69447347257335665


def test_best_match_prefers_most_words_then_first_in_prompt():
    words = {"one": ("a", "b"), "two": ("c",)}
    assert best_match("c a b", words) == "one"
    assert best_match("c a", words) == "two"
    assert best_match("nothing", words) is None


@pytest.mark.parametrize("prompt", ["", "   ", "海と月", "🌊", "\ud800", "x" * 10_000])
def test_any_text_is_a_valid_prompt(prompt):
    assert painted(prompt=prompt, seed=-1, width=64, height=64).std() > 8


def test_a_palette_runs_from_dark_to_light():
    for name in PALETTES:
        brightness = palette_named(name).ramp.mean(axis=0)
        assert np.all(np.diff(brightness) > -1e-3)
        assert brightness[-1] - brightness[0] > 0.4


@pytest.mark.parametrize("style", STYLES)
def test_progress_rises_to_one(style):
    shares = []
    paint(Painting("a test", 7, 96, 64, style), shares.append)
    assert len(shares) >= 4
    assert shares[0] > 0
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert shares[-2] < 1.0


def test_exception_in_progress_callback_ends_the_painting():
    def stop(share):
        if share > 0.3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        paint(Painting("a test", 7, 64, 64), stop)


def test_an_unknown_style_is_refused():
    with pytest.raises(ValueError, match="no style 'cubism'"):
        painted(style="cubism")


@pytest.mark.parametrize(
    ("output_format", "start", "at"),
    [("png", b"\x89PNG\r\n\x1a\n", 0), ("jpeg", b"\xff\xd8\xff", 0), ("webp", b"WEBP", 8)],
)
def test_encoded_file_starts_with_the_signature_of_its_format(output_format, start, at):
    data = encode(painted(), output_format)
    assert data[at : at + len(start)] == start


def test_a_png_keeps_every_pixel():
    pixels = painted()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode(pixels, "png")))), pixels)
