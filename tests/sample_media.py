"""Small valid files of several formats, made by the libraries that users' programs use."""

import io
import wave

import av
from av.video.frame import VideoFrame
from PIL import Image


def video(container="mp4", codec="mpeg4", size=(64, 48), frames=10, rate=5):
    made = io.BytesIO()
    with av.open(made, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(frames):
            frame = VideoFrame.from_image(Image.new("RGB", size, (number * 20, 100, 50)))
            for packet in stream.encode(frame):
                output.mux(packet)
        for packet in stream.encode():
            output.mux(packet)
    return made.getvalue()


def sound(seconds=1, rate=8_000):
    made = io.BytesIO()
    with wave.open(made, "wb") as output:
        output.setnchannels(1)
        output.setsampwidth(2)
        output.setframerate(rate)
        output.writeframes(b"\x00\x01" * rate * seconds)
    return made.getvalue()


def picture(media_type, **options):
    made = io.BytesIO()
    Image.effect_noise((64, 48), 100).save(made, media_type, **options)
    return made.getvalue()


MP4, WEBM, WAV = video(), video("webm", "libvpx"), sound()
