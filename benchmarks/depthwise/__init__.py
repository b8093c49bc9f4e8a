"""The weight gradient of depthwise convolutions: ways to compute it, what each takes, and what that says."""
