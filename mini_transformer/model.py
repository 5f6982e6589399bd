"""A transformer that reads top to bottom as its mathematics.

Every activation passes through a named hook point. Axes, here and everywhere in the package: b
batch, t position (q and k when two positions meet), d model (the residual stream), n head, h head
width, f MLP width, v vocabulary, l layer. Weight names and shapes, hook names and axis order are
those of TransformerLens. The architecture is that of "A Mathematical Framework for Transformer
Circuits" (Elhage et al. 2021): a residual stream that every component reads from and adds to.
"""

import contextlib
import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn import functional as F

from mini_transformer.hooks import ActivationCache, HookedModule, HookPoint
from mini_transformer.tensors import make_ordinary

TOKEN_TYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
EPS = 1e-5  # keeps the norms from dividing by zero


@dataclasses.dataclass(frozen=True)
class Config:
    """The shape of a Transformer. Impossible values and combinations raise ValueError.

    Defaults are filled in at once, so `dataclasses.replace(config, d_model=32)` keeps the old
    d_head and attn_scale.

    >>> Config(d_vocab=10, n_ctx=8, d_model=16, n_layers=2, n_heads=4).d_head
    4
    """

    d_vocab: int
    n_ctx: int
    d_model: int
    n_layers: int
    n_heads: int = 1
    d_head: int = 0  # 0: d_model / n_heads
    d_mlp: int = 0  # 0: attention only
    act: Literal["relu", "gelu"] = "relu"
    norm: Literal["none", "layer", "rms"] = "none"
    positions: Literal["learned", "sinusoidal", "none"] = "learned"
    # qk: positions are added to what queries and keys read, never to the stream
    positions_to: Literal["stream", "qk"] = "stream"
    attn_scale: float = 0.0  # scores are divided by it; 0: sqrt(d_head)
    causal: bool = True
    window: int = 0  # positions that a query sees, its own and those just before it; 0: all
    biases: bool = False
    tied: bool = False  # W_U is W_E transposed
    d_vocab_out: int = 0  # 0: d_vocab

    def __post_init__(self) -> None:
        positive = ("d_vocab", "n_ctx", "d_model", "n_heads")
        for name in (*positive, "n_layers", "d_head", "d_mlp", "d_vocab_out", "window"):
            least = int(name in positive)
            given = getattr(self, name)
            if not isinstance(given, int) or given < least:
                raise ValueError(
                    f"{name} is {given!r}, but must be a whole number, at least {least}"
                )
        if not 0 <= self.attn_scale < math.inf:
            raise ValueError(
                f"attn_scale is {self.attn_scale}, but must be positive, or 0 for sqrt(d_head)"
            )
        for field in dataclasses.fields(self):
            choices = getattr(field.type, "__args__", None)
            if choices and getattr(self, field.name) not in choices:
                raise ValueError(
                    f"{field.name} is {getattr(self, field.name)!r}, but must be one of {choices}"
                )
        if not self.d_head and self.d_model % self.n_heads:
            raise ValueError(
                f"d_model {self.d_model} is not divisible by {self.n_heads} heads: give d_head"
            )
        if self.positions_to == "qk" and (self.positions == "none" or not self.n_layers):
            raise ValueError(
                "positions_to='qk' needs positions ('learned' or 'sinusoidal') and at "
                "least one layer"
            )
        if self.window and not self.causal:
            raise ValueError(
                f"window={self.window} needs causal attention: give causal=True, or window=0"
            )
        if self.tied and self.d_vocab_out not in (0, self.d_vocab):
            raise ValueError(
                f"a tied unembedding has d_vocab_out {self.d_vocab}, "
                f"not {self.d_vocab_out}: drop one"
            )
        object.__setattr__(self, "d_head", self.d_head or self.d_model // self.n_heads)
        object.__setattr__(self, "d_vocab_out", self.d_vocab_out or self.d_vocab)
        object.__setattr__(self, "attn_scale", self.attn_scale or math.sqrt(self.d_head))


def weight(*shape: int, fan_in: int) -> nn.Parameter:
    """Draw a normally distributed weight with variance 1 / fan_in.

    It is drawn in float32, so that one seed gives one weight in every default dtype.
    """
    drawn = torch.randn(shape, dtype=torch.float32) / math.sqrt(fan_in)
    return nn.Parameter(drawn.to(torch.get_default_dtype()))


def bias(config: Config, *shape: int) -> nn.Parameter | None:
    return nn.Parameter(torch.zeros(shape)) if config.biases else None


def project(equation: str, x: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
    y = torch.einsum(equation, x, W)
    return y if b is None else y + b


class Norm(nn.Module):
    """LayerNorm, or RMSNorm (no mean, no bias).

    `hook_scale` is the standard deviation (LayerNorm) or the root mean square (RMSNorm),
    `hook_normalized` what was divided by it, before gain and bias.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.centred = config.norm == "layer"
        self.w = nn.Parameter(torch.ones(config.d_model))
        self.b = nn.Parameter(torch.zeros(config.d_model)) if self.centred else None
        self.hook_scale = HookPoint()
        self.hook_normalized = HookPoint()

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        if not (self.hook_scale.on or self.hook_normalized.on):
            return self.normalize(x)

        # The same in two steps.
        y = self.divide(x)
        if self.hook_scale.on:
            y = self.rescale(y, self.measure_scale(x))
        return self.amplify(self.hook_normalized(y))

    def measure_scale(self, x: Tensor) -> Tensor:
        """Return what `divide` divides by, (b, t, 1)."""
        # Not x.var(), which is 15 times slower on CPU.
        centred = x - x.mean(dim=-1, keepdim=True) if self.centred else x
        return (centred.square().mean(dim=-1, keepdim=True) + EPS).sqrt()

    def rescale(self, y: Tensor, own: Tensor) -> Tensor:
        """Show the scale to its hook; if the hook replaced it, divide by the new one instead."""
        # With gradients the hook gets a clone. Then y depends on it through the division below, and
        # the gradient of a cached scale leaves out what `own` does.
        scale = self.hook_scale(own.clone() if own.requires_grad else own)
        return y if scale is own else y * (own / scale)

    def amplify(self, y: Tensor) -> Tensor:
        """Apply gain and bias: what is normalised becomes what the readers read."""
        return y * self.w if self.b is None else torch.addcmul(self.b, y, self.w)

    def normalize(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Compute (x - mean) / scale * w + b, without hooks."""
        return self.divide(x, self.w, self.b)

    def divide(self, x: Tensor, w: Tensor | None = None, b: Tensor | None = None) -> Tensor:
        """Compute (x - mean) / scale, times w, plus b, if these are given."""
        if self.centred:
            return F.layer_norm(x, self.w.shape, w, b, EPS)
        return F.rms_norm(x, self.w.shape, w, EPS)


READ = {3: "btd,ndh->btnh", 4: "btnd,ndh->btnh"}  # how heads read one stream, or each its own


class Attention(nn.Module):
    """Multi-head attention: queries meet keys, and values move along positions.

    `pattern` says how much of each value moves.
    """

    mask: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        n, d, h = config.n_heads, config.d_model, config.d_head
        self.scale = config.attn_scale
        self.causal = config.causal
        self.W_Q, self.b_Q = weight(n, d, h, fan_in=d), bias(config, n, h)
        self.W_K, self.b_K = weight(n, d, h, fan_in=d), bias(config, n, h)
        self.W_V, self.b_V = weight(n, d, h, fan_in=d), bias(config, n, h)
        self.W_O, self.b_O = weight(n, h, d, fan_in=n * h), bias(config, d)
        hidden = torch.ones(config.n_ctx, config.n_ctx).triu(1)
        if config.window:
            hidden += torch.ones_like(hidden).tril(-config.window)
        self.register_buffer("mask", hidden.bool(), persistent=False)
        self.hook_q = HookPoint()
        self.hook_k = HookPoint()
        self.hook_v = HookPoint()
        self.hook_z = HookPoint()
        self.hook_attn_scores = HookPoint()
        self.hook_pattern = HookPoint()
        self.hook_result = HookPoint(on_demand=True)

    def forward(
        self, q_input: Tensor, k_input: Tensor, v_input: Tensor
    ) -> Float[Tensor, "batch pos d_model"]:
        """Return what the layer's attention adds to the stream.

        Each input is (b, t, d), shared by all heads, or (b, t, n, d), one stream per head.
        """
        if self.hook_result.on:
            result = self.write_heads(q_input, k_input, v_input)
            return result.sum(dim=2) if self.b_O is None else result.sum(dim=2) + self.b_O

        # The same, summed over heads at once.
        z = self.attend(q_input, k_input, v_input)
        return project("bqnh,nhd->bqd", z, self.W_O, self.b_O)

    def write_heads(
        self, q_input: Tensor, k_input: Tensor, v_input: Tensor
    ) -> Float[Tensor, "batch pos head d_model"]:
        """Return what each head writes. `forward` is the sum over heads, plus b_O."""
        z = self.attend(q_input, k_input, v_input)
        return self.hook_result(torch.einsum("bqnh,nhd->bqnd", z, self.W_O))

    def attend(
        self, q_input: Tensor, k_input: Tensor, v_input: Tensor
    ) -> Float[Tensor, "batch pos head d_head"]:
        """Return the values that each head moves to each query."""
        q = self.hook_q(project(READ[q_input.ndim], q_input, self.W_Q, self.b_Q))  # b q n h
        k = self.hook_k(project(READ[k_input.ndim], k_input, self.W_K, self.b_K))  # b k n h
        v = self.hook_v(project(READ[v_input.ndim], v_input, self.W_V, self.b_V))  # b k n h
        scores = torch.einsum("bqnh,bknh->bnqk", q, k) / self.scale
        if self.causal:
            scores = scores.masked_fill(self.mask[: q.shape[1], : k.shape[1]], float("-inf"))
        pattern = self.hook_pattern(self.hook_attn_scores(scores).softmax(dim=-1))  # b n q k
        return self.hook_z(torch.einsum("bnqk,bknh->bqnh", pattern, v))  # b q n h


class MLP(nn.Module):
    """Two linear maps with a nonlinearity between them.

    Neuron f reads the direction `W_in[:, f]` and writes `W_out[f]`.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        d, f = config.d_model, config.d_mlp
        self.act = F.relu if config.act == "relu" else F.gelu
        self.W_in, self.b_in = weight(d, f, fan_in=d), bias(config, f)
        self.W_out, self.b_out = weight(f, d, fan_in=f), bias(config, d)
        self.hook_pre = HookPoint()
        self.hook_post = HookPoint()

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        pre = self.hook_pre(project("btd,df->btf", x, self.W_in, self.b_in))
        post = self.hook_post(self.act(pre))
        return project("btf,fd->btd", post, self.W_out, self.b_out)


class Block(nn.Module):
    """One layer: attention adds to the residual stream, then the MLP (if there is one) does."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.ln1: Norm | None = Norm(config) if config.norm != "none" else None
        self.attn = Attention(config)
        self.hook_resid_pre = HookPoint()
        self.hook_attn_out = HookPoint()
        self.hook_resid_post = HookPoint()
        self.hook_q_input = HookPoint(on_demand=True)
        self.hook_k_input = HookPoint(on_demand=True)
        self.hook_v_input = HookPoint(on_demand=True)
        self.mlp: MLP | None = None
        if config.d_mlp:
            self.ln2: Norm | None = Norm(config) if config.norm != "none" else None
            self.mlp = MLP(config)
            self.hook_resid_mid = HookPoint()
            self.hook_mlp_in = HookPoint()
            self.hook_mlp_out = HookPoint()

    def forward(self, resid: Float[Tensor, "batch pos d_model"], pos_qk: Tensor | None) -> Tensor:
        """Return the stream after this layer.

        `pos_qk` (b, t, d) is added to what queries and keys read, in models with positions_to='qk'.
        """
        resid = self.hook_resid_pre(resid)
        normalized = resid if self.ln1 is None else self.ln1(resid)
        q_input = self.read(self.hook_q_input, resid, normalized)
        k_input = self.read(self.hook_k_input, resid, normalized)
        v_input = self.read(self.hook_v_input, resid, normalized)
        if pos_qk is not None:
            q_input = add_positions(q_input, pos_qk)
            k_input = add_positions(k_input, pos_qk)
        resid = resid + self.hook_attn_out(self.attn(q_input, k_input, v_input))

        if self.mlp is not None:
            resid = self.hook_resid_mid(resid)
            # A copy, so that the gradient of a cached mlp_in is without what skips the MLP.
            mlp_in = self.hook_mlp_in(resid.clone() if self.hook_mlp_in.on else resid)
            normalized = mlp_in if self.ln2 is None else self.ln2(mlp_in)
            resid = resid + self.hook_mlp_out(self.mlp(normalized))
        return self.hook_resid_post(resid)

    def read(self, hook: HookPoint, resid: Tensor, normalized: Tensor) -> Tensor:
        """Return what q, k or v reads: `normalized` (b, t, d), unless its hook is listened to.

        A hooked input is the stream before the norm, one copy per head (b, t, n, d). Its edits come
        on top of those made at ln1's own hooks.
        """
        if not hook.on:
            return normalized

        heads = len(self.attn.W_Q)
        own = hook(resid.unsqueeze(2).repeat(1, 1, heads, 1))  # b t n d
        if self.ln1 is None:
            return own

        # `normalized` holds the edits at ln1, which normalising `own` afresh would lose.
        # So only the difference that the input's own edits make is added to it.
        change = self.ln1.normalize(own) - self.ln1.normalize(resid).unsqueeze(2)
        return normalized.unsqueeze(2) + change


def add_positions(x: Tensor, pos: Tensor) -> Tensor:
    """Add position vectors (b, t, d) to one stream (b, t, d) or to one per head (b, t, n, d)."""
    return x + (pos if x.ndim == 3 else pos.unsqueeze(2))


STACKED = dict.fromkeys(("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O"), "attn")
STACKED |= dict.fromkeys(("W_in", "b_in", "W_out", "b_out"), "mlp")


class Transformer(HookedModule):
    """A transformer with an exposed residual stream.

    `seed` sets the initial weights; the global seed is untouched.

    >>> model = Transformer(Config(d_vocab=10, n_ctx=8, d_model=16, n_layers=2, n_heads=4), seed=0)
    >>> logits, cache = model.run_with_cache(torch.tensor([[1, 2, 3]]))
    >>> tuple(logits.shape), tuple(cache["pattern", 0].shape)
    ((1, 3, 10), (1, 4, 3, 3))
    """

    blocks: Sequence[Block]

    def __init__(self, config: Config, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        d = config.d_model
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed every GPU
            self.W_E = weight(config.d_vocab, d, fan_in=d)
            if config.positions == "learned":
                self.W_pos = weight(config.n_ctx, d, fan_in=d)
            elif config.positions == "sinusoidal":
                self.register_buffer("W_pos", sinusoids(config.n_ctx, d), persistent=False)
            blocks = [Block(config) for _ in range(config.n_layers)]
            self.blocks = nn.ModuleList(blocks)  # type: ignore[assignment]
            self.ln_final: Norm | None = Norm(config) if config.norm != "none" else None
            if not config.tied:
                self.W_U = weight(d, config.d_vocab_out, fan_in=d)
            self.b_U = bias(config, config.d_vocab_out)
        self.hook_embed = HookPoint()
        if config.positions != "none":
            self.hook_pos_embed = HookPoint()
        self.name_hook_points()

    def forward(
        self,
        tokens: Integer[Tensor, "batch pos"] | None = None,
        *,
        resid: Float[Tensor, "batch pos d_model"] | None = None,
        start_at_layer: int = 0,
        stop_at_layer: int | None = None,
    ) -> Float[Tensor, "batch pos out"]:
        """Return logits (b, t, v) of tokens (b, t), or of a residual stream `resid` (b, t, d).

        `resid` enters block `start_at_layer`. With `stop_at_layer` the residual stream that would
        enter that block is returned instead, (b, t, d). Raise ValueError for tokens outside the
        vocabulary, sequences longer than n_ctx, layers that do not exist.

        >>> model = Transformer(Config(d_vocab=10, n_ctx=8, d_model=16, n_layers=2, n_heads=4))
        >>> tokens = torch.tensor([[1, 2, 3]])
        >>> resid = model(tokens, stop_at_layer=1)
        >>> torch.equal(model(resid=resid, start_at_layer=1), model(tokens))
        True
        """
        c = self.config
        stop = self.config.n_layers if stop_at_layer is None else stop_at_layer
        if not 0 <= start_at_layer <= stop <= c.n_layers:
            raise ValueError(
                f"layers {start_at_layer} to {stop} were asked for, "
                f"but the model has 0 to {c.n_layers}"
            )
        if (tokens is None) == (resid is None) or (start_at_layer and resid is None):
            raise ValueError(
                "give either tokens, or the stream `resid` that enters block start_at_layer"
            )
        if resid is None:
            resid = self.embed(tokens)
        elif resid.ndim != 3 or resid.shape[1] > c.n_ctx or resid.shape[2] != c.d_model:
            raise ValueError(
                f"resid is {tuple(resid.shape)}, expected (batch, at most {c.n_ctx}, {c.d_model})"
            )
        else:
            resid = resid.to(self.W_E.dtype)
        pos_qk = self.pos_embed(*resid.shape[:2]) if c.positions_to == "qk" else None
        for block in self.blocks[start_at_layer:stop]:
            resid = block(resid, pos_qk)
        return resid if stop_at_layer is not None else self.unembed(resid)

    def embed(
        self, tokens: Integer[Tensor, "batch pos"] | None
    ) -> Float[Tensor, "batch pos d_model"]:
        """Turn tokens into the stream that enters block 0.

        It is W_E[token], plus W_pos[position] unless positions_to='qk'.
        """
        if not isinstance(tokens, Tensor) or tokens.ndim != 2 or tokens.dtype not in TOKEN_TYPES:
            given = type(tokens).__name__
            if isinstance(tokens, Tensor):
                given = f"{tokens.dtype} {tuple(tokens.shape)}"
            raise ValueError(
                f"tokens are {given}, expected a tensor of integers with shape (batch, pos)"
            )
        if tokens.shape[1] > self.config.n_ctx:
            raise ValueError(
                f"the sequence has {tokens.shape[1]} tokens, "
                f"but the context holds {self.config.n_ctx}"
            )
        try:
            resid = F.embedding(tokens if tokens.dtype == torch.int32 else tokens.long(), self.W_E)
        except IndexError:
            given = f"{tokens.min()} to {tokens.max()}"
            raise ValueError(
                f"tokens run from {given}, but the vocabulary from 0 to {len(self.W_E) - 1}"
            ) from None
        resid = self.hook_embed(resid)  # not above: an IndexError inside a hook is not about tokens
        in_stream = self.config.positions != "none" and self.config.positions_to == "stream"
        return resid + self.pos_embed(*tokens.shape) if in_stream else resid

    def pos_embed(self, batch: int, length: int) -> Float[Tensor, "batch pos d_model"]:
        pos = self.W_pos[:length].expand(batch, -1, -1)
        if self.hook_pos_embed.on:
            pos = pos.clone()  # a view would change with W_pos
            # Fixed positions have gradients, too.
            if torch.is_grad_enabled() and self.W_E.requires_grad and not pos.requires_grad:
                # torch.func has its own way of asking for gradients.
                with contextlib.suppress(RuntimeError):
                    pos.requires_grad_()
        return self.hook_pos_embed(pos)

    def unembed(self, resid: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos out"]:
        """Turn the last residual stream into logits: the final norm, then W_U."""
        normalized = resid if self.ln_final is None else self.ln_final(resid)
        return project("btd,dv->btv", normalized, self.W_U, self.b_U)

    def __getattr__(self, name: str):
        """Stack weights over layers: `model.W_Q` is (l, n, d, h), `model.W_in` is (l, d, f).

        Also return W_U when it is tied.
        """
        if name == "W_U" and self.config.tied:
            return self.W_E.T
        if name in STACKED:
            modules = [getattr(block, STACKED[name]) for block in self.blocks]
            weights: list[Any] = [getattr(module, name, None) for module in modules]
            if weights and weights[0] is not None:
                return torch.stack(weights)
            raise AttributeError(f"{name} does not exist in this model: {self.config}")
        return super().__getattr__(name)

    def QK(self, layer: int, head: int) -> Float[Tensor, "d_model d_model"]:
        """Return W_Q W_K^T: how much a query's stream attends to a key's (before scaling)."""
        attn = self.blocks[layer].attn
        return attn.W_Q[head] @ attn.W_K[head].T

    def OV(self, layer: int, head: int) -> Float[Tensor, "d_model d_model"]:
        """Return W_V W_O: what a head writes about a stream it attends to (row vector times OV)."""
        attn = self.blocks[layer].attn
        return attn.W_V[head] @ attn.W_O[head]

    def decompose(
        self, cache: ActivationCache, layer: int | None = None
    ) -> dict[str, Float[Tensor, "batch pos d_model"]]:
        """Split the stream entering block `layer` (default: leaving the last) into its writers.

        Labels: `embed`, `pos_embed`, per head `a0.h1`, `a0.bias` (b_O), `m0`. The sum is checked
        against the cached stream; ValueError if a hook replaced the stream, or a sum of heads, so
        that its writers no longer add up.

        >>> config = Config(10, 8, d_model=16, n_layers=1, n_heads=2, d_mlp=32, biases=True)
        >>> model = Transformer(config)
        >>> list(model.decompose(model.run_with_cache(torch.tensor([[1, 2, 3]]))[1]))
        ['embed', 'pos_embed', 'a0.h0', 'a0.h1', 'a0.bias', 'm0']
        """
        layer = self.config.n_layers if layer is None else layer
        n_layers = self.config.n_layers
        if not 0 <= layer <= n_layers:
            raise ValueError(
                f"layer {layer} was asked for, but the stream enters blocks 0 to "
                f"{n_layers} (the end)"
            )
        parts = {"embed": cache["embed"]}
        if self.config.positions != "none" and self.config.positions_to == "stream":
            parts["pos_embed"] = cache["pos_embed"]
        for i, block in enumerate(self.blocks[:layer]):
            z = cache["z", i]
            result = cache.get(("result", i))  # b q n d
            if result is None:
                W_O = block.attn.W_O
                own = make_ordinary(z).to(W_O.dtype)  # autocast's z is coarser
                result = torch.einsum("bqnh,nhd->bqnd", own, W_O).to(z.dtype)
            parts |= {f"a{i}.h{head}": result[:, :, head] for head in range(self.config.n_heads)}
            if block.attn.b_O is not None:
                parts[f"a{i}.bias"] = block.attn.b_O.expand_as(parts["embed"])
            if block.mlp is not None:
                parts[f"m{i}"] = cache["mlp_out", i]
        if n_layers > 0:
            at_end = layer == n_layers
            stream = cache["resid_post", layer - 1] if at_end else cache["resid_pre", layer]
            if not adds_up(list(parts.values()), stream):
                raise ValueError(
                    "the writers do not add up to the stream: "
                    "a hook replaced the stream or an attn_out"
                )
        return parts

    def __repr__(self) -> str:
        c = self.config
        size = f"{sum(p.numel() for p in self.parameters()):,} weights"
        block = f"[{c.n_heads} heads" + (f" + {c.d_mlp} {c.act} neurons]" if c.d_mlp else "]")
        path = " -> ".join(
            [f"{c.d_vocab} tokens", *[block] * c.n_layers, f"{c.d_vocab_out} logits"]
        )
        return f"Transformer({path}; d_model {c.d_model}, {size})"


def adds_up(parts: Sequence[Tensor], total: Tensor) -> bool:
    """Tell whether the parts add up to `total`, up to the rounding of the coarsest dtype.

    Rounding is as large as the parts are, which may cancel, and counted per entry of the last axis:
    one loud dimension does not excuse the others.

    >>> parts = [torch.tensor([[1e6, 1.0]]), torch.tensor([[-1e6, 1.0]])]
    >>> adds_up(parts, torch.tensor([[0.01, 2.0]]))
    True
    >>> adds_up(parts, torch.tensor([[0.0, 2.1]]))
    False
    """
    coarsest = max(torch.finfo(x.dtype).eps for x in (*parts, total))
    sizes = torch.stack([part.double().abs() for part in parts]).sum(dim=0)
    size = sizes.flatten(0, -2).amax(dim=0) if total.ndim > 1 else sizes.amax()
    found = torch.stack([part.double() for part in parts]).sum(dim=0)
    return bool(((found - total.double()).abs() <= max(1e-4, 8 * coarsest) * size).all())


def sinusoids(n_ctx: int, d_model: int) -> Float[Tensor, "n_ctx d_model"]:
    """Return fixed positions: sines and cosines of geometrically spaced wavelengths.

    Source: Vaswani et al. 2017, section 3.5.
    """
    column = torch.arange(d_model)
    # Float32 in every default dtype
    wavelength = 10_000 ** ((column - column % 2).float() / d_model)
    angle = torch.arange(n_ctx).unsqueeze(1) / wavelength
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).to(torch.get_default_dtype())
