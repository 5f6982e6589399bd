"""Methods that erase a label: those of the package."""

from mini_transformer import methods
from mini_transformer.board.problem import Method

__all__ = ["ENTRANTS"]

ENTRANTS: dict[str, Method] = {
    "leace": methods.fit_leace,
    "inlp": methods.fit_inlp,
    "projection": methods.fit_projection,
}
