"""Protocols for private set intersection, found by vertical-parties through their entry points."""
