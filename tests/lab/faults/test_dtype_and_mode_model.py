"""The model and its hooks in every dtype and mode of torch: the same numbers, or one sentence."""

import pytest
import torch

from mini_transformer import Config, Transformer

SIZES = {"d_vocab": 9, "n_ctx": 6, "d_model": 64, "n_layers": 3, "n_heads": 4, "d_mlp": 64}
TOKENS = torch.randint(9, (4, 6), generator=torch.Generator().manual_seed(0))
NORMS = ["none", "layer", "rms"]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_stream_is_the_sum_of_its_writers_in_every_dtype(dtype, norm):
    model = Transformer(Config(**SIZES, norm=norm, biases=True)).to(dtype)
    assert len(model.decompose(model.run_with_cache(TOKENS)[1])) == 20


def test_a_stream_is_the_sum_of_its_writers_under_autocast():
    model = Transformer(Config(**SIZES, norm="layer"))
    with torch.autocast("cpu", torch.bfloat16):
        _, cache = model.run_with_cache(TOKENS)
        model.decompose(cache)
    model.decompose(cache)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_replaced_stream_is_noticed_beside_a_loud_dimension(dtype):
    model = Transformer(Config(**SIZES)).to(dtype)
    with torch.no_grad():
        model.W_E[:, 0] += 1000  # and nothing reads it
        for block in model.blocks:
            for W in (block.attn.W_Q, block.attn.W_K, block.attn.W_V, block.mlp.W_in):
                W[..., 0, :] = 0

    def replace(value, hook):
        value[..., 5] += 10

    with model.hooks([(("resid_post", 1), replace)]):
        _, cache = model.run_with_cache(TOKENS)
    with pytest.raises(ValueError, match="a hook replaced the stream"):
        model.decompose(cache)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "none"])
@pytest.mark.parametrize("norm", NORMS)
def test_a_cache_works_inside_vmap_and_grad_as_hooks_do(norm, positions):
    model = Transformer(Config(**SIZES, norm=norm, positions=positions)).double()

    def read(tokens):
        with model.hooks([(("z", 0), lambda z, hook: z * 2)]):
            return model.run_with_cache(tokens.unsqueeze(0))[1]["pattern", 1]

    found = torch.vmap(read)(TOKENS)
    torch.testing.assert_close(found, torch.stack([read(tokens) for tokens in TOKENS]))

    def measure(stream):
        return model.run_with_cache(resid=stream, names_filter=("z", 1))[1]["z", 1].square().sum()

    streams = model(TOKENS, stop_at_layer=0).detach().unsqueeze(1)
    gradients = torch.vmap(torch.func.grad(measure))(streams)
    for stream, gradient in zip(streams, gradients, strict=True):
        own = stream.clone().requires_grad_()
        torch.testing.assert_close(gradient, torch.autograd.grad(measure(own), own)[0])


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.int8])
def test_tokens_of_every_whole_number_type_give_the_same_logits(dtype):
    model = Transformer(Config(**SIZES))
    assert torch.equal(model(TOKENS.to(dtype)), model(TOKENS))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_a_stream_of_another_dtype_is_converted_at_the_door(dtype):
    model = Transformer(Config(**SIZES))
    stream = torch.ones(1, 2, 64)
    assert torch.equal(model(resid=stream.to(dtype)), model(resid=stream))
