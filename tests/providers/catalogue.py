"""What tests of the catalogue share: models made from cards of their own, and an operator's file."""

from dataclasses import replace
from datetime import date

from app.media_generator.dummy_media_generator.provider import FAULTY, DummyMediaGeneratorModel
from app.media_generator.errors import ModelGoneError

LONG_AGO = date(2020, 1, 1)


SOME_DAY = date(2999, 1, 1)


def catalogue_file(tmp_path, text):
    file = tmp_path / "catalogue.toml"
    file.write_text(text)
    return file


class Shop(DummyMediaGeneratorModel):
    """Offers the cards that it is given."""

    name = "shop"

    def __init__(self, *cards):
        super().__init__()
        self.cards = cards

    def models(self):
        return self.cards

    async def submit(self, submission):
        if submission.model in self.gone:
            raise ModelGoneError("404: no such model")
        return await super().submit(replace(submission, model=FAULTY.name))

    gone: frozenset[str] = frozenset()


def card(name="grey", **changes):
    return replace(FAULTY, name=name, **changes)


async def request_media(api, model, **body):
    return await api.post("/media/generate", json={"prompt": "a", "model": model, **body})
