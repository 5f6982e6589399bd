"""Claim cards run their intervention again, and say so when the claim no longer holds."""

import pytest

from mini_transformer import toys
from mini_transformer.claims import ClaimCard, Measurement
from mini_transformer.methods import ablate


def make_card(case) -> ClaimCard:
    batch = case.task.draw(64)

    def accuracy_without(node: str) -> float:
        return batch.correct(ablate(case.model, batch.clean, [node], "zero")).float().mean().item()

    return ClaimCard(
        claim="a0.h0 is needed to say the next token",
        model="induction_by_hand",
        task=case.task.description,
        data="64 prompts, seed 0",
        components="a0.h0",
        intervention="zero ablation",
        effect=Measurement("accuracy without a0.h0", lambda: accuracy_without("a0.h0"), high=0.2),
        control=Measurement("accuracy without a0.h1", lambda: accuracy_without("a0.h1"), low=0.99),
        refuted_by="the same effect from a0.h1",
    )


def test_a_true_claim_holds_and_shows_what_was_measured():
    verdict = make_card(toys.load("induction_by_hand")).check()
    assert verdict
    assert (verdict.effect, verdict.control) == (0.0, 1.0)
    assert "verdict       holds" in repr(verdict)
    assert "accuracy without a0.h1: at least 0.99; measured 1" in repr(verdict)


def test_checking_runs_the_intervention_again_so_a_changed_model_refutes_the_claim():
    case = toys.load("induction_by_hand")
    card = make_card(case)
    assert card.check()
    case.model.blocks[1].attn.W_O.data.zero_()
    verdict = card.check()
    assert not verdict
    assert "REFUTED" in repr(verdict)
    assert (
        repr(verdict).count("<- refutes the claim") == 1
    )  # the effect is as claimed, the control is not


@pytest.mark.parametrize(("effect", "control"), [(0.3, 0.0), (0.1, 0.6), (float("nan"), 0.0)])
def test_either_number_can_refute_a_claim(effect, control):
    card = ClaimCard(
        *["text"] * 6,
        effect=Measurement("e", lambda: effect, high=0.2),
        control=Measurement("c", lambda: control, low=-0.5, high=0.5),
        refuted_by="text",
    )
    assert not card.check()


def test_a_card_is_a_box_with_every_field_and_no_line_longer_than_the_others():
    text = repr(make_card(toys.load("induction_by_hand")))
    assert len({len(line) for line in text.splitlines()}) == 1
    for word in (
        "model",
        "task",
        "data",
        "components",
        "intervention",
        "effect",
        "control",
        "refuted by",
    ):
        assert f"| {word} " in text
