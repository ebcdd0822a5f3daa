"""The checks on which the verdict's honesty rests, by what they are about."""
