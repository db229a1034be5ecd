"""Attacks that read only scores or decisions."""
