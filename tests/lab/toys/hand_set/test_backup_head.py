"""The name mover and its backup: every prompt, single and joint ablation, by hooks."""

import pytest
import torch
from torch import Tensor

from mini_transformer import toys

SEEDS = [0, 1, 4]


def silence(case: toys.Case, *roles: str, average: bool = False) -> Tensor:
    """Logits at the end of all prompts with these heads' outputs replaced by zero, or by their
    mean over the prompts.
    """
    prompts = case.task.everything().distinct().clean
    hooks = []
    for role in roles:
        layer, head = (int(part[1:]) for part in case.truth.roles[role].split("."))

        def replace(z: Tensor, hook: object, head: int = head) -> None:
            z[:, :, head] = z[:, :, head].mean(dim=0) if average else 0

        hooks.append((("z", layer), replace))
    with torch.no_grad():
        return case.model.run_with_hooks(prompts, fwd_hooks=hooks)[:, -1]


def test_everything_holds_every_prompt_and_the_answer_is_the_name_that_occurs_once() -> None:
    batch = toys.load("backup_head").task.everything()
    assert len({tuple(prompt) for prompt in batch.clean.tolist()}) == 60 == 5 * 4 * 3
    for prompt, answer in zip(batch.clean.tolist(), batch.answer.tolist(), strict=True):
        assert sorted(prompt.count(name) for name in set(prompt[1:4])) == [1, 2]
        assert prompt[0] == 5
        assert prompt[4] == 6
        assert prompt.count(answer) == 1
    assert (batch.answer != batch.wrong).all()


def test_swapping_exchanges_the_names() -> None:
    batch = toys.load("backup_head").task.draw(30, corrupt="swap")
    for clean, corrupt, answer, wrong in zip(
        *(x.tolist() for x in (batch.clean, batch.corrupt, batch.answer, batch.wrong)), strict=True
    ):
        (repeated,) = {name for name in clean if clean.count(name) == 2}
        swap = {answer: repeated, repeated: answer}
        assert corrupt == [swap.get(token, token) for token in clean]
        assert wrong == repeated


@pytest.mark.parametrize("seed", SEEDS)
def test_ablating_either_changes_nothing_and_ablating_both_changes_everything(seed: int) -> None:
    case = toys.load("backup_head", seed)
    whole, answer = silence(case), case.task.everything().distinct().answer
    assert (whole.argmax(dim=-1) == answer).all()
    for role in ("mover", "backup"):
        torch.testing.assert_close(silence(case, role), whole, rtol=0, atol=1e-3)
    assert silence(case, "mover", "backup").abs().max() == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_an_averaged_mover_keeps_its_backup_quiet(seed: int) -> None:
    case = toys.load("backup_head", seed)
    logits = silence(case, "mover", average=True)
    assert (
        logits.max(dim=-1).values - logits[:, :5].min(dim=-1).values
    ).max() < 1e-3  # no name stands out


@pytest.mark.parametrize("seed", SEEDS)
def test_decoys_attend_and_write_and_are_not_read(seed: int) -> None:
    case = toys.load("backup_head", seed)
    _, cache = case.model.run_with_cache(case.task.everything().distinct().clean)
    for layer in range(4):
        head = int(case.truth.roles[f"decoy {layer}"][-1])
        assert cache["pattern", layer][:, head, 3, 2].min() > 0.99
        assert cache["z", layer][:, 3, head].norm(dim=-1).min() > 0.99
    torch.testing.assert_close(
        silence(case, *(f"decoy {layer}" for layer in range(4))), silence(case), rtol=0, atol=0
    )
