"""The lab in the browser: pages in which a model runs, and can be edited by hand."""

from mini_transformer.play.page import embed, play, write

__all__ = ["embed", "play", "write"]
