"""Units and cost from an answer's `usage`, which counts tokens."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from app.media_generator.adapter_kit.lenient_json import members

_MILLION: Final = 1_000_000


def units(usage: Mapping[str, Any]) -> dict[str, float]:
    """Tokens by kind: `token` is the total, then input and output, and input by text and image."""
    details = members(usage.get("input_tokens_details"))
    counts = {
        "token": usage.get("total_tokens"),
        "input_token": usage.get("input_tokens"),
        "output_token": usage.get("output_tokens"),
        "input_text_token": details.get("text_tokens"),
        "input_image_token": details.get("image_tokens"),
    }
    return {name: float(count) for name, count in counts.items() if count is not None and _is_count(count)}


def cost(usage: Mapping[str, Any], rates: Mapping[str, Any]) -> Decimal | None:
    """US dollars for the counted tokens; None: none were counted, or the rates are unknown.

    Args:
        usage: From the answer.
        rates: US dollars for a million tokens: `input_text`, `input_image`, `output`; from the catalogue.
    """
    counted = units(usage)
    if "output_token" not in counted or not {"input_text", "input_image", "output"} <= rates.keys():
        return None
    pictures = counted.get("input_image_token", 0)
    words = counted.get("input_text_token", counted.get("input_token", 0) - pictures)
    parts = (("input_text", words), ("input_image", pictures), ("output", counted["output_token"]))
    return sum((Decimal(str(rates[kind])) * int(count) / _MILLION for kind, count in parts), Decimal(0))


def _is_count(count: Any) -> bool:
    return isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 10**12
