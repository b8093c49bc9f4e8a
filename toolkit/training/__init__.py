"""The two-stage fine-tuning of a pretrained backbone: ``auto.choose_recipe``, then ``stage.finetune_run``."""
