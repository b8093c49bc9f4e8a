"""The fine-tuning in stages of a pretrained backbone: ``auto.choose_recipe``, then ``stage.finetune_run``."""
