"""Export formats, one file each behind ``formats.base.Format``."""
