"""Language models and their adapters: the one seam to transformers and peft."""

from emorl_lite.lm.averaging import average_parameters
from emorl_lite.lm.devices import choose_device
from emorl_lite.lm.forward import lora_layers
from emorl_lite.lm.model import UNFINISHED, Encoded, LanguageModel

__all__ = [
    "UNFINISHED",
    "Encoded",
    "LanguageModel",
    "average_parameters",
    "choose_device",
    "lora_layers",
]
