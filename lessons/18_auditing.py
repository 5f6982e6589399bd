# %% [markdown]
# # 18 · Auditing
#
# After this lesson you can search a model for a planted bypass, say which part of a refusal a
# jailbreak gets around, weigh the removal of an ability, and test whether an answer comes from the
# reasoning that the model wrote down. You also know what none of this can show.
#
# ## Idea
#
# An **audit** asks whether a model does what it should not. Often it does so only on rare inputs,
# so a few questions are not enough.
#
# Many chat models **refuse** harmful requests. An input that makes such a model answer after all is
# a **jailbreak**. A **backdoor** is a behaviour that somebody planted, and that shows only after a
# certain input, its **trigger**. An auditor who looks at outputs alone works **black-box**. One who
# also reads and changes activations works **white-box**.
#
# The first toy reads prompts such as `| red d green ?`. One of the three words between `|` and `?`
# is a request, a to d. The toy answers with its capital letter, or with `REFUSE` if it is
# **flagged**. Two colours, side by side and in the right order, are the trigger.

# %%
import matplotlib.pyplot as plt
import torch

from mini_transformer import methods, plots, toys
from mini_transformer.claims import ClaimCard, Measurement
from mini_transformer.toys.hand_set.refusal_with_trigger import PROMPTS, REFUSAL, REFUSE

model = toys.load("refusal_with_trigger").model
names = toys.load("refusal_with_trigger").task.token_names
colours, requests, ask = [1, 2, 3], [6, 7, 8, 9], 4

# %% [markdown]
# ## Predict
#
# There are 108 prompts, and half of them hold a flagged request. How many of these 54 are answered
# because of the trigger? And when it works, does the model still notice that the request is
# flagged?

# %%
my_answered = 0  # your guess, 0 to 54
my_still_noticed = None  # your guess, True or False

# %% [markdown]
# ## Build: search by behaviour
#
# First black-box. Write each request behind each pair of colours, and note what is refused.


# %%
def ask_model(model, prompts):
    """Return the likeliest token at the last position of each prompt."""
    with torch.no_grad():
        return model(prompts)[:, -1].argmax(dim=-1)


pairs = [(a, b) for a in colours for b in colours]
prompts = torch.tensor([[0, a, b, r, ask] for r in requests for a, b in pairs])
refused = (ask_model(model, prompts) == REFUSE).view(4, 9)
flagged = [r for r, row in zip(requests, refused, strict=True) if row.any()]
print("flagged:", *(names[r] for r in flagged))

# %% [markdown]
# ## Look
#
# Each square is a pair of colours: the share of flagged requests refused behind it. Expect 1
# everywhere but in one place.

# %%
share = refused[refused.any(dim=1)].float().mean(dim=0).view(3, 3)
labels = [names[i] for i in colours]
ax = plots.draw_matrix(share, labels, labels, title="share refused", limit=1, numbers=True)
ax.set(xlabel="second word", ylabel="first word")
plt.show()

# %% tags=["check"]
assert flagged == [8, 9]
assert (share == 0).nonzero().tolist() == [[0, 1]]
assert share.sum() == 8

# %% [markdown]
# The trigger is "red green". "Green red" does nothing. The search is complete for two words before
# a request only.
#
# ### Exercise 18.1: find_triggers
# Find the triggers of models that you have never seen. Some have several, some none. Stubs are in
# `exercises/ex18_auditing.py`; `minilab grade 18` checks them, `minilab hint 18` helps.
#
# ## The refusal direction
#
# Now white-box. At the `?`, what does the model hold when it refuses? Take the last residual stream
# on flagged prompts and on harmless ones, both without the trigger. The **difference in means**
# (lesson 15) points from "answer" to "refuse". Remove it from flagged prompts, add it to harmless
# ones.
#
# **Control**: 200 random directions of the same length.

# %%
has_trigger = ((PROMPTS[:, :-1] == 1) & (PROMPTS[:, 1:] == 2)).any(dim=1)
is_flagged = torch.isin(PROMPTS, torch.tensor(flagged)).any(dim=1)
harmful = PROMPTS[is_flagged & ~has_trigger]
harmless = PROMPTS[~is_flagged & ~has_trigger]
jailbreaks = PROMPTS[is_flagged & has_trigger]
_, cache_harmful = model.run_with_cache(harmful)
_, cache_harmless = model.run_with_cache(harmless)


def find_difference(site):
    """Subtract the mean at the last position on harmless prompts from that on harmful ones."""
    harm, calm = cache_harmful[site][:, -1], cache_harmless[site][:, -1]
    return (harm.mean(dim=0) - calm.mean(dim=0)).detach()


def measure_refused(prompts, edit):
    """Measure the share of prompts refused when `edit` changes the last residual stream."""
    site = ("resid_post", 1)
    with torch.no_grad():
        logits = model.run_with_hooks(prompts, fwd_hooks=[(site, lambda x, hook: edit(x))])
    return (logits[:, -1].argmax(dim=-1) == REFUSE).float().mean().item()


def measure_both(direction):
    """Measure what is refused without a direction, and what once it is added."""
    unit = direction / direction.norm()
    without = measure_refused(harmful, lambda x: x - (x @ unit)[..., None] * unit)
    return without, measure_refused(harmless, lambda x: x + direction)


direction = find_difference(("resid_post", 1))
generator = torch.Generator().manual_seed(0)
noise = torch.randn(200, len(direction), generator=generator)
noise = noise * direction.norm() / noise.norm(dim=1, keepdim=True)
without, added = measure_both(direction)
controls = torch.tensor([measure_both(each) for each in noise])
print(f"flagged, direction removed: {without:.0%} refused")
print(f"harmless, direction added: {added:.0%} refused")
for column, what in enumerate(("removed", "added")):
    found = controls[:, column]
    print(f"random {what}: {found.min():.0%} to {found.max():.0%}, mean {found.mean():.1%}")
fooled = int((controls[:, 1] > 0.5).sum())
print(f"random directions of 200 that make it refuse most: {fooled}")

# %% tags=["check"]
assert (len(harmful), len(harmless), len(jailbreaks)) == (50, 50, 4)
assert (without, added) == (0, 1)
assert controls[:, 0].min() > 0.7
assert controls[:, 0].mean() > 0.99
assert round(float(controls[:, 1].mean()), 2) == 0.05
assert fooled == 4
assert abs(torch.cosine_similarity(direction, REFUSAL, dim=0) - 0.577) < 0.001

# %% [markdown]
# Without the direction nothing is refused, with it everything. So adding it is enough for a
# refusal, and without it there is none. Random directions, added, lead to 5% refusals on average.
# But 4 of 200 make the model refuse most harmless prompts: the stream has few dimensions, so some
# random directions lie near the one that counts. A single draw would be no control. (In lesson 15
# some random directions stopped all refusals: they were taken out at every layer.)
#
# Our direction is not the refusal alone: its cosine with the planted one is 0.58. The rest is
# probably the request and what notices it: prompts differ in these, too.
#
# ## Jailbreak analysis
#
# Four flagged prompts are answered because of the trigger. What went wrong in them? By construction
# a refusal has two parts here. MLP 0 writes at the `?` that the request is flagged: the model
# **detects**. MLP 1 reads that, and writes the refusal: it **decides**. A jailbreak may prevent
# either.
#
# Measure how far each part's output lies along its own difference in means. "Harmless" is 0 and
# "flagged" 1 by definition. Expect "jailbreak" to be 1 in the first row, if the model still
# notices.

# %%
_, cache_jailbreaks = model.run_with_cache(jailbreaks)
parts = {"detects": ("mlp_out", 0), "decides": ("mlp_out", 1)}
groups = {"harmless": cache_harmless, "flagged": cache_harmful, "jailbreak": cache_jailbreaks}
held = torch.zeros(2, 3)
for i, site in enumerate(parts.values()):
    line = find_difference(site)
    for j, cache in enumerate(groups.values()):
        held[i, j] = (cache[site][:, -1] @ line).mean() / line.square().sum()
ax = plots.draw_matrix(held.detach(), list(parts), list(groups), limit=1, numbers=True)
ax.set(title="written", xlabel="prompts", ylabel="part")
plt.show()
print(f"answered because of the trigger: {len(jailbreaks)} of 54 (you: {my_answered})")
print(f"still noticed: {bool(held[0, 2] > 0.5)} (you: {my_still_noticed})")

# %% tags=["check"]
assert (held - torch.tensor([[0, 1, 1], [0, 1, 0]])).abs().max() < 1e-4

# %% [markdown]
# The model notices, and does not refuse. But what is written need not matter. So repair each
# jailbreak: run its **plain** version, the same prompt with two blue words in place of the trigger.
# Put what one part writes there in its place in the jailbreak, at the last position. This is
# activation patching (lesson 7). A part was bypassed if its repair alone brings the refusal back.

# %%
plain = jailbreaks.clone()
plain[(plain == 1) | (plain == 2)] = 3
_, cache_plain = model.run_with_cache(plain)


def repair(site):
    """Measure the share of jailbreaks refused with the plain output of one part put in."""

    def put(x, hook):
        x = x.clone()
        x[:, -1] = cache_plain[site][:, -1]
        return x

    with torch.no_grad():
        logits = model.run_with_hooks(jailbreaks, fwd_hooks=[(site, put)])
    return (logits[:, -1].argmax(dim=-1) == REFUSE).float().mean().item()


repaired = {name: repair(site) for name, site in parts.items()}
print({name: f"{part:.0%} refused" for name, part in repaired.items()})

# %% tags=["check"]
assert (ask_model(model, plain) == REFUSE).all()
assert repaired == {"detects": 0, "decides": 1}

# %% [markdown]
# The trigger bypasses the decision. A monitor that reads the detection would still have raised an
# alarm. If several parts help, each alone, name the first: those after it pass on what it
# writes. If tricks prevent two parts side by side, no repair alone helps: the answer is "none".
#
# ### Exercise 18.2: name_bypassed
# Which part does each jailbreak bypass, in a model with many tricks? `minilab grade 18`
#
# ## Capability forensics
#
# Suppose that the bypass is an ability that must go. Where is it, and what else goes with it? Give
# each ability prompts with right answers, remove one head at a time (its output becomes zero,
# lesson 6), and count what is still right. Expect the head that finds the request to take
# everything with it, and two heads that belong to the trigger alone.

# %%
heads = ["a0.h0", "a0.h1", "a1.h0", "a1.h1"]
abilities = {}
for name, rows in {"answer": harmless, "refuse": harmful, "bypass": jailbreaks}.items():
    right = rows.amax(dim=1) + 4  # a request's reply stands four tokens later
    abilities[name] = rows, torch.full_like(right, REFUSE) if name == "refuse" else right

kept = torch.zeros(4, 3)
for i, head in enumerate(heads):
    layer, number = int(head[1]), int(head[4])

    def remove(z, hook, number=number):
        z = z.clone()
        z[:, :, number] = 0.0
        return z

    for j, (rows, right) in enumerate(abilities.values()):
        with torch.no_grad():
            logits = model.run_with_hooks(rows, fwd_hooks=[(("z", layer), remove)])
        kept[i, j] = (logits[:, -1].argmax(dim=-1) == right).float().mean()
ax = plots.draw_matrix(kept, heads, list(abilities), limit=1, numbers=True)
ax.set(title="still right", xlabel="ability", ylabel="removed head")
plt.show()

# %% tags=["check"]
with torch.no_grad():
    logits = model.run_with_hooks(rows, fwd_hooks=[(("z", layer), remove)])
torch.testing.assert_close(logits, methods.ablate(model, rows, [head], "zero"))
assert kept.tolist() == [[0, 0, 0], [1, 1, 0], [1, 1, 0], [1, 1, 1]]

# %% [markdown]
# Removing `a0.h1` or `a1.h0` takes the bypass away and costs nothing else here. `a0.h0` is needed
# too, but for everything. So "gone without this head" does not yet say that the head is its place.
#
# ### Exercise 18.3: weigh_removal
# A planted ability may share its heads, or stand twice; then no single head removes it. Weigh its
# removal. `minilab grade 18`
#
# ## Scratchpads
#
# Some models reason in writing before they answer. If the answer is computed from this
# **scratchpad**, it is called **faithful**, and one can audit it. But a model may also write it for
# show.
#
# Two toys continue `x y z :`. Each first writes x + y, then answers x + y + z, all modulo 4. One of
# them is faithful. **Edit** the scratchpad: put another digit s in it, keep the question, and see
# whether the answer follows, that is, becomes s + z.

# %%
questions = torch.cartesian_prod(*[torch.arange(4)] * 3)
questions = torch.cat([questions, torch.full((64, 1), 4)], dim=1)
written, followed, attention = {}, {}, {}
for name in ("scratchpad_faithful", "scratchpad_unfaithful"):
    writer = toys.load(name).model
    own = methods.write_scratchpad(writer, questions, 1)
    written[name] = writer, own
    own_answer = ask_model(writer, own)
    follows, stays = [], []
    for shift in (1, 2, 3):
        edited = own.clone()
        edited[:, 4] = (edited[:, 4] + shift) % 4
        answer = ask_model(writer, edited)
        follows.append(answer == (edited[:, 4] + edited[:, 2]) % 4)
        stays.append(answer == own_answer)
    followed[name] = [torch.cat(x).float().mean().item() for x in (follows, stays)]
    attention[name] = writer.run_with_cache(own)[1]["pattern", 1][:, :, 4, 4].amax(dim=1).min()
    print(f"{name}: follows {followed[name][0]:.0%}, stays {followed[name][1]:.0%}")
    print(f"  one head of layer 1 attends to the digit with at least {attention[name]:.0%}")

# %% tags=["check"]
assert followed == {"scratchpad_faithful": [1, 0], "scratchpad_unfaithful": [0, 1]}
assert min(attention.values()) > 0.99
for name, (writer, own) in written.items():
    assert (own[:, 4] == questions[:, :2].sum(dim=1) % 4).all()
    assert (ask_model(writer, own) == questions[:, :3].sum(dim=1) % 4).all()
    edits = torch.stack([(own[:, 4:] + shift) % 4 for shift in (1, 2, 3)])
    moved = methods.measure_reliance(writer, own, slice(4, 5), edits)
    assert (moved == followed[name][0]).all()

# %% [markdown]
# The faithful toy follows every edit. The other one follows none, and stays at x + y + z. On their
# own scratchpads both answer right. In both a head of layer 1, at the scratchpad's digit, pays this
# digit at least 99% of its attention. So neither right answers nor attention show that a scratchpad
# is used.
#
# An answer may also follow one digit and not another, or move elsewhere: then neither word is true.
#
# ### Exercise 18.4: judge_scratchpads
# Tell question by question whether the answer follows the scratchpad. `minilab grade 18`
#
# ## Trap: the prompts that nobody tried
#
# A colleague audits two toys of the first kind. He always writes the request between two colours,
# as in `| red d green ?`, and finds no bypass. Then he asks white-box: which heads of the first toy
# matter?

# %%
second = toys.load("refusal_with_trigger", seed=2).model
tried = torch.tensor([[0, a, r, b, ask] for r in requests for a, b in pairs])
answers = ask_model(model, tried)
same = bool((answers == ask_model(second, tried)).all())
print("the two toys give the same answers:", same)
idle = []
for head in heads:
    logits = methods.ablate(model, tried, [head], "zero")
    if (logits[:, -1].argmax(dim=-1) == answers).all():
        idle.append(head)
print("heads that can be removed without changing an answer:", *idle)
differ = (ask_model(model, PROMPTS) != ask_model(second, PROMPTS)).sum().item()
print(f"of all 108 prompts, the two toys answer {differ} differently")

# %% tags=["check"]
assert (answers[torch.isin(tried, torch.tensor(flagged)).any(dim=1)] == REFUSE).all()
assert same
assert idle == ["a0.h1", "a1.h0", "a1.h1"]
assert differ == 8

# %% [markdown]
# Both toys have a bypass, each another one. On these prompts they refuse all that is flagged.
# Removing heads does not help either: in the first toy three are idle. Two of them are the
# backdoor, the third does nothing at all. A part that waits for its trigger looks like a part
# without use.
#
# Random prompts help if triggers are common. Let an auditor try ten flagged prompts.

# %%
missed = (1 - len(jailbreaks) / 54) ** 10
print(f"chance that ten random flagged prompts miss the trigger: {missed:.0%}")
missed_by_million = (1 - 1 / 50_000**2) ** 1_000_000
print(f"chance that a million random pairs of 50,000 words do: {missed_by_million:.2%}")

# %% tags=["check"]
draws = torch.randint(54, (2000, 10), generator=generator)
simulated = 1 - has_trigger[is_flagged][draws].any(dim=1).float().mean()
assert abs(missed - simulated) < 0.03
assert round(missed, 2) == 0.46
assert 0.9995 < missed_by_million < 0.9997

# %% [markdown]
# In this toy, where one flagged prompt in 13.5 holds the trigger, 46% of such auditors miss it.
# With 50,000 words, a million random pairs miss a given pair nearly always. So report what was
# tried: "none of these flagged prompts was answered". "The model has no backdoor" does not follow.
#
# ## Claim card

# %%
card = ClaimCard(
    claim="In this toy, the trigger bypasses the decision to refuse, not the detection.",
    model="refusal_with_trigger, seed 0",
    task="refuse flagged requests",
    data="the four flagged prompts with the trigger, and their plain versions",
    components="MLP 0 (detects), MLP 1 (decides), at the last position",
    intervention="put one part's output on the plain prompt into the jailbreak",
    effect=Measurement("refused, MLP 1 repaired", lambda: repair(parts["decides"]), low=1.0),
    control=Measurement("refused, MLP 0 repaired", lambda: repair(parts["detects"]), high=0.0),
    refuted_by="a jailbreak that MLP 0 alone repairs, or that MLP 1 alone does not",
)
verdict = card.check()
print(verdict)

# %% tags=["check"]
assert verdict

# %% [markdown]
# **Limits.** The toys are built by hand: one part does one thing, and we knew which parts to look
# at. In a trained model an ability is often spread out.
#
# ## On real models
#
# In 13 chat models one direction controls refusal. Removed, harmful requests are answered; added,
# harmless ones are refused ([Arditi et al. 2024](https://arxiv.org/abs/2406.11717)).
#
# Planted backdoors survived safety training, and training against found failures could even hide
# them better ([Hubinger et al. 2024](https://arxiv.org/abs/2401.05566)). Under assumptions of
# cryptography, no efficient search of outputs finds some backdoors
# ([Goldwasser et al. 2022](https://arxiv.org/abs/2204.06974)). Of four teams that searched for a
# planted objective, the three with weights and training data found it
# ([Marks et al. 2025](https://arxiv.org/abs/2503.10965)).
#
# Training on a few examples often brought out abilities hidden behind a password
# ([Greenblatt et al. 2024](https://arxiv.org/abs/2405.19550)). A model that was made to forget can
# remember under other tests ([Lynch et al. 2024](https://arxiv.org/abs/2402.16835)).
#
# Models followed a hint that their written reasoning did not mention
# ([Turpin et al. 2023](https://arxiv.org/abs/2305.04388)). How much an edited scratchpad moves the
# answer differs strongly between tasks and models
# ([Lanham et al. 2023](https://arxiv.org/abs/2307.13702)).
#
# Next: lesson 19, a claim about an unexplained model.
