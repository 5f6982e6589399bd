"""Something else stands in the place of a token's embedding, and the position stays."""

import torch

from mini_transformer.methods.intervening.baselines import embed_baseline


def test_a_baseline_can_be_a_token_a_prompt_a_batch_or_an_embedding(model, clean, corrupt):
    W_E = model.W_E.detach()
    one = W_E[4].expand(3, 5, 8)
    for baseline in (
        torch.tensor(4),
        torch.tensor([4]),
        torch.full((5,), 4),
        torch.full((3, 5), 4),
        W_E[4],
        one,
    ):
        assert torch.equal(embed_baseline(model, clean, baseline), one)
    for baseline in (corrupt[:1], W_E[corrupt[:1]], W_E[corrupt[0]], corrupt[0]):
        assert torch.equal(embed_baseline(model, clean, baseline), W_E[corrupt[0]].expand(3, 5, 8))
