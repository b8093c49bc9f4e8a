"""The two-stage fine-tuning of a pretrained backbone."""

from toolkit.finetune.auto import choose_recipe
from toolkit.finetune.stage import finetune_run

__all__ = ["choose_recipe", "finetune_run"]
