"""Language models and their adapters: the one seam to transformers and peft."""

from emorl_lite.lm.author_adapters import convert, linear_layers, read_author_adapter
from emorl_lite.lm.averaging import average_parameters
from emorl_lite.lm.devices import choose_device
from emorl_lite.lm.forward import lora_layers
from emorl_lite.lm.model import UNFINISHED, Encoded, LanguageModel
from emorl_lite.lm.stand_in import random_author_adapter, random_t5

__all__ = [
    "UNFINISHED",
    "Encoded",
    "LanguageModel",
    "average_parameters",
    "choose_device",
    "convert",
    "linear_layers",
    "lora_layers",
    "random_author_adapter",
    "random_t5",
    "read_author_adapter",
]
