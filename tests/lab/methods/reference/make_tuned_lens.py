"""How tuned_lens.npz was made: the published logit and tuned lens on a small random GPT-2, and what
the latter learns there.

    # in an environment of its own; transformers 5.23
    pip install "tuned-lens==0.2.0" --no-deps && pip install transformers tqdm
    python make_tuned_lens.py

The file holds the weights under this package's names, prompts to train on and prompts to read, the
logits of the published logit lens, those of the published tuned lens with given random translators,
and those after training it: the loss of its training loop (KL to the final logits), here in
float64, on all prompts at once, by L-BFGS until it no longer falls. Its own script trains in
bfloat16 on a text dataset.
"""

from pathlib import Path

import numpy as np
import torch

SIZES = {"vocab_size": 9, "n_positions": 6, "n_embd": 8, "n_layer": 3, "n_head": 2, "n_inner": 10}
OFF = {
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def make_model() -> torch.nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel  # not needed to collect this file

    config = GPT2Config(**SIZES, **OFF, activation_function="gelu", tie_word_embeddings=False)
    model, generator = GPT2LMHeadModel(config).double().eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_gain = "ln_" in name and name.endswith("weight")
            parameter.copy_(
                0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                + is_gain
            )
    return model


def rename(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights under this package's names and shapes."""
    given, d, n = dict(model.named_parameters()), SIZES["n_embd"], SIZES["n_head"]
    new = {"W_E": given["transformer.wte.weight"], "W_pos": given["transformer.wpe.weight"]}
    new |= {"W_U": given["lm_head.weight"].T, "b_U": torch.zeros(SIZES["vocab_size"]).double()}
    new |= {
        "ln_final.w": given["transformer.ln_f.weight"],
        "ln_final.b": given["transformer.ln_f.bias"],
    }
    for layer in range(SIZES["n_layer"]):
        old, here = f"transformer.h.{layer}.", f"blocks.{layer}."
        for norm, name in (("ln1", "ln_1"), ("ln2", "ln_2")):
            new |= {
                f"{here}{norm}.w": given[f"{old}{name}.weight"],
                f"{here}{norm}.b": given[f"{old}{name}.bias"],
            }
        weights = given[f"{old}attn.c_attn.weight"].view(d, 3, n, d // n).permute(1, 2, 0, 3)
        biases = given[f"{old}attn.c_attn.bias"].view(3, n, d // n)
        for part, W, b in zip("QKV", weights, biases, strict=True):
            new |= {f"{here}attn.W_{part}": W, f"{here}attn.b_{part}": b}
        new[f"{here}attn.W_O"] = given[f"{old}attn.c_proj.weight"].view(n, d // n, d)
        new[f"{here}attn.b_O"] = given[f"{old}attn.c_proj.bias"]
        for end, name in (("in", "c_fc"), ("out", "c_proj")):
            new[f"{here}mlp.W_{end}"], new[f"{here}mlp.b_{end}"] = (
                given[f"{old}mlp.{name}.weight"],
                given[f"{old}mlp.{name}.bias"],
            )
    return new


def fit(lens: torch.nn.Module, model: torch.nn.Module, tokens: torch.Tensor) -> list[float]:
    """Train each translator on all prompts; returns the KL that is left, in nats."""
    with torch.no_grad():
        output = model(tokens, output_hidden_states=True)
    labels, reached = output.logits.log_softmax(dim=-1), []
    for i, hidden in enumerate(output.hidden_states[:-1]):
        optimiser = torch.optim.LBFGS(
            lens[i].parameters(),
            max_iter=5000,
            tolerance_grad=1e-8,
            tolerance_change=1e-12,
            line_search_fn="strong_wolfe",
        )

        def closure(i=i, hidden=hidden, optimiser=optimiser) -> torch.Tensor:
            optimiser.zero_grad()
            loss = torch.sum(
                labels.exp() * (labels - lens(hidden, idx=i).log_softmax(-1)), dim=-1
            ).mean()
            loss.backward()
            return loss

        optimiser.step(closure)
        reached.append(closure().item())
    return reached


def read(lens: torch.nn.Module, hidden: tuple[torch.Tensor, ...]) -> np.ndarray:
    with torch.no_grad():
        return torch.stack([lens(h, idx=i) for i, h in enumerate(hidden[:-1])]).numpy()


def main() -> None:
    from tuned_lens.nn.lenses import (
        LogitLens,
        TunedLens,
    )  # not installed here; the tests read what was stored

    model, generator = make_model(), torch.Generator().manual_seed(1)
    tokens = torch.randint(SIZES["vocab_size"], (266, SIZES["n_positions"]), generator=generator)
    train, test = tokens[:256], tokens[256:]
    with torch.no_grad():
        output = model(test, output_hidden_states=True)
    given, trained = TunedLens.from_model(model), TunedLens.from_model(model)
    with torch.no_grad():
        for translator in given:
            for parameter in translator.parameters():
                parameter.copy_(
                    0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                )
    stored = {
        f"weight {name}": value.detach().numpy().copy() for name, value in rename(model).items()
    }
    stored |= {
        "train": train.numpy().astype(np.int8),
        "test": test.numpy(),
        "logits": output.logits.numpy(),
    }
    stored["A"] = torch.stack([translator.weight.T for translator in given]).detach().numpy()
    stored["b"] = torch.stack([translator.bias for translator in given]).detach().numpy()
    stored["logit lens"] = read(LogitLens.from_model(model), output.hidden_states)
    stored["given lens"] = read(given, output.hidden_states)
    stored["trained KL"] = np.array(fit(trained, model, train))
    stored["trained lens"] = read(trained, output.hidden_states)
    print("KL left in training, nats:", stored["trained KL"])
    np.savez_compressed(Path(__file__).parent / "tuned_lens.npz", **stored)


if __name__ == "__main__":
    main()
