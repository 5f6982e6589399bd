"""Features problems: which directions are these activations sums of?"""

from mini_transformer.board.families.features.entrants import ENTRANTS, REFERENCES
from mini_transformer.board.families.features.problems import PROBLEMS, TRAPS, read_answer
from mini_transformer.board.problem import Family

__all__ = ["FAMILY"]

FAMILY = Family(
    name="features",
    parameters={
        "activations": "rows (6000, d): noisy sums of the features' directions",
        "n_features": "how many latents the dictionary may have",
    },
    returns="encode(x) and W_dec",
    headline="classification",
    metrics={
        "classification": "F1 of each latent as a classifier of the feature that is its own "
        "(matched one to one by cosine), as a share of what so many latents can reach",
        "nearest_f1": "mean over latents of the F1 with the nearest feature, as published",
        "f1": "F1 of features found: live latents with cosine .9 to the feature that is theirs",
        "recall": "share of the features that are found",
        "precision": "share of the live latents that are a feature found",
        "mmcs": "mean over features of the highest cosine with any latent",
        "mcc": "mean correlation of each feature's codes with those of a latent of its own",
        "uniqueness": "different features nearest to live latents, per live latent",
        "explained_variance": "1 - squared error / variance on fresh activations",
        "loss": "squared error / variance + .1 x sum of codes / size of activations",
        "probing": "mean over features of the best F1 of any single latent",
        "l0": "codes per row",
        "dead": "share of the latents that are never active",
        "shrinkage": "how much too small codes are: 0 is right, 1 is nothing",
        "absorption": "share of rows where a child's latent stands in for its parent's",
        "hedging": "share of the live latents that mix two features of a pair",
    },
    fields=("W_dec",),
    calls=("encode", "decode"),
    read=read_answer,
    problems=PROBLEMS,
    traps=TRAPS,
    quick=("trees/narrow",),
    entrants=ENTRANTS,
    references=REFERENCES,
    models=4,
    place=2,
)
