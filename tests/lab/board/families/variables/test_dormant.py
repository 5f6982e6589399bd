"""The model with a dormant direction: nobody writes it, and the logits would hear it."""

from mini_transformer.board.families.variables.dormant import build_dormant


def test_nobody_writes_the_dormant_direction_and_the_logits_hear_it():
    for seed in range(3):
        made = build_dormant(seed)
        last = made.model.run_with_cache(made.prompts)[1]["resid_post", 0][:, -1]
        assert (last @ made.dormant.T).abs().max() < 1e-5
        heard = [(way @ made.model.W_U).abs().max() for way in (made.dormant, made.carried)]
        assert heard[0] > heard[1] > 0.5
        assert len({tuple(prompt) for prompt in made.prompts.tolist()}) == len(made.prompts)
