"""Language models and their adapters: the one seam to transformers and peft."""

from emorl_lite.lm.averaging import average_parameters
from emorl_lite.lm.devices import choose_device
from emorl_lite.lm.forward import lora_layers
from emorl_lite.lm.model import UNFINISHED, LanguageModel, Prompts

__all__ = [
    "UNFINISHED",
    "LanguageModel",
    "Prompts",
    "average_parameters",
    "choose_device",
    "lora_layers",
]
