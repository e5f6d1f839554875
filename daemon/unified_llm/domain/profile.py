"""What of a model decides how much memory it takes, read from its file and independent of how."""

from dataclasses import dataclass
from enum import StrEnum

from unified_llm.domain.units import Bytes, Tokens


class Purpose(StrEnum):
    """What a model makes of what it is given."""

    CHAT = "chat"  # the next token
    EMBEDDING = "embedding"  # one vector of a text
    RANKING = "ranking"  # how well a document answers a query
    TOKENS = "tokens"  # a vector of each token; its file does not say how they become one


@dataclass(frozen=True, slots=True)
class LayerProfile:
    """One repeating layer.

    weight_bytes: all its tensors, exact. expert_bytes: how much of that are routed experts.
    matrices: type and bytes of its matrices whose rows come in eights; a CPU backend may keep
        a second copy of these in an order of its own.
    key_width, value_width: numbers in the cache for each token; 0 if it keeps none.
    window: tokens that its cache has to hold; None if it holds the whole context.
    state_width: numbers (f32) of recurrent state for each sequence; 0 if it has none.
    """

    weight_bytes: Bytes
    expert_bytes: Bytes = Bytes(0)
    matrices: tuple[tuple[str, Bytes], ...] = ()
    key_width: int = 0
    value_width: int = 0
    window: Tokens | None = None
    state_width: int = 0


@dataclass(frozen=True, slots=True)
class GraphWidths:
    """Numbers per token of the widest intermediate results, for the compute buffer.

    embedding: between layers. query, key, value: of one layer's attention. feed_forward: what the
    first half of a dense feed-forward part makes, gate included; expert_feed_forward: that of one
    routed expert. experts, experts_used: how many there are, and how many see a token. inner,
    convolved: of a recurrent layer's mixer, and what its convolution sees besides. state: numbers
    of such a layer for one sequence, not per token. latent, decompressed: with MLA, the query heads
    against compressed keys, and as they are without compression. is_gated: whether the feed-forward
    part is. Each number is 0 where there is no such thing.
    """

    embedding: int
    query: int = 0
    key: int = 0
    value: int = 0
    feed_forward: int = 0
    experts: int = 0
    experts_used: int = 0
    expert_feed_forward: int = 0
    inner: int = 0
    convolved: int = 0
    state: int = 0
    latent: int = 0
    decompressed: int = 0
    is_gated: bool = True


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """A model as the planner sees it.

    architecture: `general.architecture`. context_trained: tokens it was trained with.
    vocabulary_size: logits of each token.
    layers: the repeating ones in order, those for speculation at the end included.
    input_bytes: what is read before the first layer (token and position embeddings).
    output_bytes: what comes after the last one (norm, output matrix).
    tied_bytes: size of a token embedding that serves as output matrix too; 0 if there is one of
        its own. It is needed on both ends.
    matrices: as in LayerProfile, of whatever serves as output.
    has_logits: false for encoders that end in embeddings.
    purpose: what it is for, by its architecture and its pooling.
    assumptions: what could not be read and was assumed, a sentence each.
    """

    architecture: str
    context_trained: Tokens
    vocabulary_size: int
    widths: GraphWidths
    layers: tuple[LayerProfile, ...]
    input_bytes: Bytes
    output_bytes: Bytes
    tied_bytes: Bytes = Bytes(0)
    matrices: tuple[tuple[str, Bytes], ...] = ()
    has_logits: bool = True
    purpose: Purpose = Purpose.CHAT
    assumptions: tuple[str, ...] = ()

    @property
    def weight_bytes(self) -> Bytes:
        """All tensors of the file."""
        layers = sum(layer.weight_bytes for layer in self.layers)
        return Bytes(layers + self.input_bytes + self.output_bytes)

    @property
    def expert_bytes(self) -> Bytes:
        """Routed experts of all layers."""
        return Bytes(sum(layer.expert_bytes for layer in self.layers))

    @property
    def is_recurrent(self) -> bool:
        """Whether any layer keeps a state, which can not be cut back to an earlier token."""
        return any(layer.state_width for layer in self.layers)
