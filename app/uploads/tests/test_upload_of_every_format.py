"""Every file of the corpora is uploaded: what is picture, video or sound is taken, the rest refused by its name."""

import pytest

from tests.corpora.files import files
from tests.corpora.pictures import saved


async def upload(api, content):
    return await api.post("/files", files={"file": ("a", content, "application/octet-stream")})


async def test_every_format_is_accepted_or_refused_by_its_name(api):
    wrong = []
    for file in files():
        answer = await upload(api, file.content)
        body = answer.json()
        is_media = file.media_type.startswith(("image/", "video/", "audio/")) and file.media_type != "image/svg+xml"
        if not is_media:
            fits = (answer.status_code, body["code"]) == (415, "unsupported_file")
        elif not file.is_complete:
            fits = (answer.status_code, body["code"]) == (422, "file_cut_off")
        else:
            fits = answer.status_code in {200, 201} and body["media_type"] == file.media_type
            fits = fits and (body["width"], body["height"]) in {file.size, (None, None)}
        if not fits:
            wrong.append((file.name, answer.status_code, body))
    assert wrong == []


@pytest.mark.parametrize("name", ["svg", "pdf", "glb", "zip"])
async def test_refusal_names_the_type_and_what_to_do(api, name):
    file = next(file for file in files() if file.name == name)

    detail = (await upload(api, file.content)).json()["detail"]

    assert file.media_type in detail
    assert "convert" in detail


async def test_late_frame_header_gives_the_size_and_is_limited(api):
    late = saved("JPEG", icc_profile=bytes(100_000))
    frame = late.index(b"\xff\xc0") + 5
    huge = late[:frame] + b"\xff\xff\xff\xff" + late[frame + 4 :]

    taken, refused = await upload(api, late), await upload(api, huge)

    assert (taken.json()["width"], taken.json()["height"]) == (52, 36)
    assert (refused.status_code, refused.json()["code"]) == (422, "picture_too_large")
