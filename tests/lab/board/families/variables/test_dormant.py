"""The model with a dormant direction: nobody writes it, and nobody reads the shadow."""

from mini_transformer.board.families.variables.dormant import (
    build_dormant,
    list_bits,
    make_dormant_stream,
)
from mini_transformer.toys.find_circuits import list_live_edges


def test_nobody_writes_the_dormant_direction_and_nobody_reads_the_shadow():
    model, stream, prompts = build_dormant(), make_dormant_stream(), list_bits()
    last = model.run_with_cache(prompts)[1]["resid_post", 0][:, -1]
    assert (last @ stream["dormant"].T).abs().max() == 0
    assert (stream["shadow"] @ model.W_U).abs().max() == 0
    assert (stream["dormant"] @ model.W_U).abs().max() > (stream["carried"] @ model.W_U).abs().max()
    assert (model(prompts)[:, -1].argmax(dim=1) == prompts[:, 0]).all()
    read = {edge for edge in list_live_edges(model) if edge.endswith("->logits")}
    assert read == {"input->logits", "a0.h0->logits"}


def test_every_prompt_is_there_once():
    prompts = list_bits()
    assert len({tuple(prompt) for prompt in prompts.tolist()}) == len(prompts) == 16
